"""One generated knee study: anatomy, findings, the planes and sequences a scanner took of it, and the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, uniform_filter1d

from greenrfm.findings import State
from greenrfm.phantoms.knee_anatomy import SEQUENCES, KneePatient, draw_knee
from greenrfm.phantoms.knee_lesions import LESIONS, draw_findings
from greenrfm.phantoms.phrases import Instance, StudyFacts
from greenrfm.phantoms.reports import write_report
from greenrfm.volumes import PLANES, Volume

FOV = 140.0  # mm in the plane
COVERED = 100.0  # mm through the slices
# A stack's axes in the patient: along the columns, the rows and the slices, as scanners store them.
STORED = {
    "sagittal": ("PIL", "PIR", "PSL"),
    "coronal": ("LIP", "LIA", "RSP"),
    "axial": ("LPS", "LPI", "RAS"),
}
AXIS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class KneeStudy:
    """A generated study and the truth about it.

    `volumes` maps (sequence, plane) to what the scanner took. `masks` has one boolean array per present finding on a
    grid of 1 mm that `affine` places in the same patient (LPS mm). `said` is what the report states of each finding
    of knee-mr-14, `omitted` what it left out although present.
    """

    volumes: dict[tuple[str, str], Volume]
    masks: dict[str, NDArray[np.bool_]]
    affine: NDArray[np.float64]
    instances: tuple[Instance, ...]
    report: str
    said: dict[str, State]
    omitted: tuple[str, ...]
    patient: KneePatient


def draw_knee_study(patient_seed: int, number: int, matrix: int = 224) -> KneeStudy:
    """Draw study `number` of a patient's knee: same anatomy each time, new findings, scanner and report.

    `matrix` is the number of rows and columns of each slice. Deterministic in its arguments.
    """
    patient = KneePatient.draw(np.random.default_rng((patient_seed, 2)))
    rng = np.random.default_rng((patient_seed, 3, number))
    findings = draw_findings(patient.age, rng)
    worn = findings.get("osteoarthritis", 0.0)
    # Coarse pictures need no finer drawing.
    step = max(1.0, 0.7 * FOV / matrix)
    knee = draw_knee(patient, rng, 0.4 + 0.6 * worn if worn else 0.0, step)
    instances: list[Instance] = []
    for finding, lesion in LESIONS.items():
        if finding in findings:
            instances += lesion(knee, findings[finding], rng)
    affine = _in_patient(patient, knee.grid.hu.shape, step, rng)
    volumes = {}
    for plane, sequences in _protocol(rng).items():
        stack = _stack(plane, matrix, affine, knee.grid.hu.shape, rng)
        for sequence in sequences:
            volumes[sequence, plane] = _acquire(knee.canvases[sequence].hu, affine, stack, plane, rng)
    facts = StudyFacts(tuple(instances), patient.age, patient.sex, contrast=False)
    report = write_report(facts, rng, "knee")
    return KneeStudy(
        volumes, knee.masks, affine, tuple(instances), report.text, report.said, report.omitted, patient
    )  # fmt: skip


def _protocol(rng: np.random.Generator) -> dict[str, list[str]]:
    """Return which sequences were taken in which plane: some are missing, never all."""
    while True:
        planes = [plane for plane in PLANES if rng.random() > 0.12]
        taken = {plane: [sequence for sequence in SEQUENCES if rng.random() > 0.25] for plane in planes}
        taken = {plane: sequences for plane, sequences in taken.items() if sequences}
        if taken:
            return taken


def _rotation(rng: np.random.Generator, degrees: float) -> NDArray[np.float64]:
    """Return a rotation by small random angles about the three axes."""
    turned = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(rng.normal(0, degrees))
        one, two = (axis + 1) % 3, (axis + 2) % 3
        about = np.eye(3)
        about[one, one] = about[two, two] = np.cos(angle)
        about[one, two], about[two, one] = -np.sin(angle), np.sin(angle)
        turned = turned @ about
    return turned


def _in_patient(
    patient: KneePatient, shape: tuple[int, ...], step: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the affine from the index of the knee's own grid to LPS mm: the leg lies a little turned in the coil."""
    to_mm = np.array([[0, step, 0], [step, 0, 0], [0, 0, step]])  # (row, column, slice) -> (x, y, z)
    middle = (np.array(shape) - 1) / 2
    affine = np.eye(4)
    affine[:3, :3] = _rotation(rng, 4.0) @ to_mm
    aside = -95.0 if patient.side == "right" else 95.0
    affine[:3, 3] = np.array([aside, 0, -420]) + rng.normal(0, 12, 3) - affine[:3, :3] @ middle
    return affine


def _stack(
    plane: str, matrix: int, knee: NDArray[np.float64], drawn: tuple[int, ...], rng: np.random.Generator
) -> tuple[Volume, float]:
    """Return an empty stack of thick slices over the knee, a little oblique, and its slices' distance in mm."""
    thick = float(rng.choice((3.5, 4.0, 4.0, 4.5)))
    pixel = FOV * float(rng.uniform(0.97, 1.1)) / matrix
    codes = str(rng.choice(STORED[plane]))
    frame = np.zeros((3, 3))
    for column, code in enumerate(codes):
        axis, sign = AXIS[code]
        frame[axis, column] = sign
    frame = _rotation(rng, 3.0) @ frame
    shape = (matrix, matrix, max(8, round(COVERED / thick)))
    affine = np.eye(4)
    affine[:3, :3] = frame * (pixel, pixel, thick)
    middle = knee @ np.array([*((np.array(drawn) - 1) / 2), 1.0])
    centre = middle[:3] + rng.normal(0, 3, 3)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.zeros(shape, np.int16), affine, "MR"), thick


def _acquire(
    signal: NDArray[np.floating],
    knee: NDArray[np.float64],
    stack: tuple[Volume, float],
    plane: str,
    rng: np.random.Generator,
) -> Volume:
    """Return what the scanner takes: averaged over the slice, uneven coil, Rician noise, a scale of its own."""
    empty, thick = stack
    through = {"sagittal": 1, "coronal": 0, "axial": 2}[plane]
    averaged = uniform_filter1d(
        signal, max(1, round(thick / float(np.linalg.norm(knee[:3, 0])))), axis=through, mode="nearest"
    )
    to_knee = np.linalg.inv(knee) @ empty.affine  # stack index -> index of the knee's own grid
    index = [np.arange(count, dtype=np.float32) for count in empty.shape]
    places = [
        (row[0] * index[0][:, None, None] + row[1] * index[1][None, :, None] + row[2] * index[2][None, None, :]
         + row[3]).astype(np.float32)
        for row in to_knee[:3]
    ]  # fmt: skip
    # Beyond the drawn field the leg goes on as at its rim.
    values = map_coordinates(averaged, places, order=1, mode="nearest", prefilter=False)
    size = np.array(signal.shape, np.float32)
    lean = rng.normal(0, 0.12, 3)
    coil = 1 + sum(tilt * (place / extent - 0.5) for tilt, place, extent in zip(lean, places, size, strict=True))
    noise = float(rng.uniform(0.012, 0.04))
    real = values * coil + noise * rng.standard_normal(values.shape, dtype=np.float32)
    taken = np.hypot(real, noise * rng.standard_normal(values.shape, dtype=np.float32))
    scale = float(np.exp(rng.uniform(np.log(120), np.log(4000))))
    return Volume(np.clip(np.rint(taken * scale), 0, 32767).astype(np.int16), empty.affine, "MR")
