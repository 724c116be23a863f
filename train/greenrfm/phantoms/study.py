"""One generated study: patient, findings, scanner and report, from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from greenrfm.findings import State
from greenrfm.phantoms.anatomy import Patient, draw_chest
from greenrfm.phantoms.canvas import Canvas
from greenrfm.phantoms.disease import draw_conditions, draw_findings
from greenrfm.phantoms.lesions import LESIONS
from greenrfm.phantoms.mimics import mimics
from greenrfm.phantoms.phrases import Instance, StudyFacts
from greenrfm.phantoms.reports import write_report
from greenrfm.volumes import Volume

# Axis orders and directions in which scanners and exporters store a chest CT.
ORIENTATIONS = ("LPS", "LPS", "RAS", "LAS", "RPI", "LPI", "PSR", "PIR")
AXIS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Scanner:
    """How a study was acquired: millimetres, HU of noise and of calibration, and how the file is stored."""

    fov: float
    slice_mm: float
    coverage: float
    centre: tuple[float, float, float]
    blur_px: float
    noise: float
    shift: float
    grain_px: float
    contrast: bool
    arms_up: bool
    padding: int
    orientation: str

    @classmethod
    def draw(cls, patient: Patient, rng: np.random.Generator) -> Scanner:
        """Draw a scanner for this patient: field of view, slices, kernel, dose, arms, stored orientation."""
        need = 2 * (patient.half_width + patient.fat + 16)
        return cls(
            fov=float(np.clip(need * rng.uniform(1.0, 1.5), 300, 500)),
            slice_mm=float(rng.choice((3.0, 4.0, 5.0, 5.0, 6.0, 7.5))),
            coverage=float(patient.height * rng.uniform(1.04, 1.55)),
            centre=(float(rng.normal(0, 5)), float(rng.normal(2, 6)), float(rng.normal(-6, 6))),
            blur_px=float(rng.choice((0.0, 0.35, 0.7))),
            noise=float(rng.uniform(8, 32)),
            shift=float(rng.uniform(-12, 12)),  # no two scanners are calibrated alike
            grain_px=float(rng.choice((0.0, 0.6, 0.9))),
            contrast=bool(rng.random() < 0.45),
            arms_up=bool(rng.random() < 0.65),
            padding=int(rng.choice((-1024, -1000, -2000, -3024), p=(0.5, 0.2, 0.15, 0.15))),
            orientation=str(rng.choice(ORIENTATIONS)),
        )


@dataclass(frozen=True)
class PhantomStudy:
    """A generated study and the truth about it.

    `masks` holds one boolean array per present finding on the volume's own grid; `said` is what the
    report states of every finding of chest-ct-18, `omitted` what it left out although present.
    """

    volume: Volume
    masks: dict[str, NDArray[np.bool_]]
    body: NDArray[np.bool_]
    instances: tuple[Instance, ...]
    report: str
    said: dict[str, State]
    omitted: tuple[str, ...]
    scanner: Scanner
    patient: Patient


def draw_patient(seed: int) -> tuple[Patient, np.ndarray]:
    """Return the patient of this seed with the hidden conditions that make findings occur together."""
    rng = np.random.default_rng((seed, 0))
    patient = Patient.draw(rng)
    return patient, draw_conditions(patient, rng)


def draw_study(patient_seed: int, number: int, matrix: int = 128) -> PhantomStudy:
    """Draw study `number` of a patient: same anatomy each time, new findings, scanner and report.

    `matrix` is the number of rows and columns. Deterministic in its arguments.
    """
    patient, conditions = draw_patient(patient_seed)
    rng = np.random.default_rng((patient_seed, 1, number))
    findings = draw_findings(conditions + 0.4 * rng.standard_normal(len(conditions)), rng)
    scanner = Scanner.draw(patient, rng)
    pixel = scanner.fov / matrix
    slices = round(scanner.coverage / scanner.slice_mm)
    canvas = Canvas.blank((matrix, matrix, slices), (pixel, pixel, scanner.slice_mm), scanner.centre)
    enlarged = 1.28 + 0.26 * findings["cardiomegaly"] if "cardiomegaly" in findings else 1.0
    chest = draw_chest(canvas, patient, rng, contrast=scanner.contrast, arms_up=scanner.arms_up, heart=enlarged)
    mimics(chest, rng, set(findings))
    instances: list[Instance] = []
    for finding, lesion in LESIONS.items():
        if finding in findings:
            instances += lesion(chest, findings[finding], rng)
    # A lesion can fall outside a short field of view: then the study does not show it and it is not present.
    masks = {key: mask for key, mask in canvas.masks.items() if mask.any()}
    instances = [item for item in instances if item.finding in masks]
    array = _acquire(canvas, scanner, rng)
    history = tuple(key for key in findings if key not in masks)
    report = write_report(
        StudyFacts(
            instances=tuple(instances),
            age=patient.age,
            sex=patient.sex,
            contrast=scanner.contrast,
            arms_up=scanner.arms_up,
            history=history,
            slice_mm=scanner.slice_mm,
        ),
        rng,
    )
    volume, stored = _store(canvas, scanner, array, {**masks, "": chest.body})
    body = stored.pop("")
    return PhantomStudy(
        volume, stored, body, tuple(instances), report.text, report.said, report.omitted, scanner, patient
    )


def _acquire(canvas: Canvas, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.int16]:
    """Blur with the kernel, average over the slice, add noise with the kernel's grain, pad outside the field."""
    hu = canvas.hu
    if scanner.blur_px:
        hu = gaussian_filter(hu, (scanner.blur_px, scanner.blur_px, 0))
    hu = gaussian_filter1d(hu, 0.3, axis=2)
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    if scanner.grain_px:
        noise = gaussian_filter(noise, (scanner.grain_px, scanner.grain_px, 0))
        noise /= noise.std()
    hu = np.clip(np.rint(hu + scanner.shift + scanner.noise * noise), -1024, 3071)
    if scanner.padding != -1000:
        radius = np.hypot(canvas.x - scanner.centre[0], canvas.y - scanner.centre[1])
        hu = np.where(radius > scanner.fov / 2, np.float32(scanner.padding), hu)
    return hu.astype(np.int16)


def _store(
    canvas: Canvas, scanner: Scanner, array: NDArray[np.int16], masks: dict[str, NDArray[np.bool_]]
) -> tuple[Volume, dict[str, NDArray[np.bool_]]]:
    """Turn the canonical canvas into the scanner's stored axis order and directions."""
    affine = np.eye(4)
    step_y, step_x, step_z = canvas.spacing
    affine[:3, :3] = np.array([[0, step_x, 0], [step_y, 0, 0], [0, 0, step_z]])
    affine[:3, 3] = (canvas.x[0, 0, 0], canvas.y[0, 0, 0], canvas.z[0, 0, 0])
    order = [{0: 1, 1: 0, 2: 2}[AXIS[code][0]] for code in scanner.orientation]
    flips = [axis for axis, code in enumerate(scanner.orientation) if AXIS[code][1] < 0]
    turned = affine[:, [*order, 3]].copy()
    shape = [array.shape[axis] for axis in order]
    for axis in flips:
        turned[:3, 3] += turned[:3, axis] * (shape[axis] - 1)
        turned[:3, axis] *= -1

    def stored(values: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(np.flip(values.transpose(order), tuple(flips)))

    volume = Volume(stored(array), turned, "CT")
    return volume, {key: stored(mask) for key, mask in masks.items()}
