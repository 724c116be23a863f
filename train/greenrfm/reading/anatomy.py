"""What part of the body a CT shows, by rules on density and outline that need no training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from greenrfm.reading.checks import Check
from greenrfm.reading.sample import Sample

Bools = NDArray[np.bool_]

_AIR = -400.0  # HU: half-way between soft tissue and aerated lung
_ROOM = -860.0  # HU: the air around a patient lies below, lung that a narrow field cuts mostly above
_LUNG = (-990.0, _AIR)  # bowel gas and the trachea lie at the lower end or below
_BONE = 250.0
# A slice shows lung if this share of the body's cross-section is lung: bowel, sinuses and mastoid cells stay below.
_LUNG_SHARE = 0.10


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What a CT shows, slice by slice from foot to head.

    `body` and `lung` are masks on the sample; `area` is the body's cross-section in cm² and `share` the part of it
    that is lung, (slices,) each. `lung_mm` is how many mm of the scan show lung, `bone` the share of the tissue that is
    dense as bone, `rim` the share of the picture's rim (its four sides) that is tissue. `sure_mm` counts only lung that
    does not reach the sides of the picture, where it may be air around the patient.
    """

    body: Bools
    lung: Bools
    area: NDArray[np.float64]
    share: NDArray[np.float64]
    lung_mm: float
    sure_mm: float
    lung_ml: float
    bone: float
    rim: float

    @property
    def inside_body(self) -> bool:
        """Return whether the picture was cut out of the body, so that there is no outline."""
        return self.rim > 0.9


def look(sample: Sample) -> Anatomy:
    """Return what a CT in HU shows."""
    values = sample.array
    air = values < _AIR
    tissue = ~air
    rim = float(_sides(tissue).mean())
    room, touching = _at_sides(air, values)
    enclosed = air & ~room
    lung = enclosed & (values > _LUNG[0])
    body = tissue | enclosed
    across: NDArray[np.intp] = np.sum(body, axis=(0, 1))
    whole = np.maximum(across, 1).astype(np.float64)
    share, sure = (np.asarray(np.sum(mask, axis=(0, 1)) / whole) for mask in (lung, lung & ~touching))
    # Beside a slice with hardly any body (the table alone) a few voxels of air would be a large share.
    much = across >= 0.2 * across.max(initial=1)
    return Anatomy(
        body,
        lung,
        np.asarray(across * (sample.spacing[0] * sample.spacing[1] / 100.0), np.float64),
        share,
        float(np.count_nonzero(much & (share >= _LUNG_SHARE)) * sample.spacing[2]),
        float(np.count_nonzero(much & (sure >= _LUNG_SHARE)) * sample.spacing[2]),
        float(lung.sum() * sample.voxel_ml),
        float(np.mean(values > _BONE)) / max(1e-9, float(np.mean(tissue))),
        rim,
    )


def check_body_part(anatomy: Anatomy, body_part: str) -> list[Check]:
    """Return why this is not the part of the body that the model reads; there are rules for chest and abdomen."""
    if not anatomy.body.any():
        return [Check("body-part", "withhold", "there is nothing but air in this scan; give the scan of a patient")]
    if body_part == "chest":
        return _chest(anatomy)
    if body_part == "abdomen":
        return _abdomen(anatomy)
    return []


def check_cut(anatomy: Anatomy, body_part: str) -> list[Check]:
    """Return where lungs or body go on beyond the scan."""
    found = []
    if body_part == "chest" and anatomy.lung_mm:
        across: NDArray[np.intp] = np.sum(anatomy.lung, axis=(0, 1))
        ends = [
            name
            for name, end in (("lower", slice(0, 2)), ("upper", slice(-2, None)))
            if across[end].mean() > 0.5 * across.max()
        ]
        if ends:
            found.append(
                Check(
                    "cut",
                    "doubt",
                    f"the lungs go on beyond the {' and the '.join(ends)} end of the scan: what lies there cannot be "
                    "seen",
                )
            )
    if anatomy.rim > 0.15:
        found.append(
            Check("cut", "note", "the body goes on beyond the sides of the picture: what lies there cannot be seen")
        )
    return found


def check_field(sample: Sample, anatomy: Anatomy, body_part: str, field_mm: NDArray[np.float64]) -> list[Check]:
    """Return whether much of what matters lies outside the field (H, W, D) that the network sees, in mm."""
    lungs = body_part == "chest" and anatomy.lung_ml > 100
    wanted, name = (anatomy.lung, "lungs") if lungs else (anatomy.body, "body")
    inside = wanted
    for axis, length in enumerate(field_mm):
        seen = np.abs(sample.from_centre(axis)) <= length / 2
        inside = np.compress(seen, inside, axis=axis)
    outside = 1.0 - float(inside.sum()) / max(1.0, float(wanted.sum()))
    if outside <= (0.05 if lungs else 0.3):
        return []
    return [
        Check(
            "coverage",
            "doubt",
            f"{outside:.0%} of the {name} in this scan lies outside the field that the model sees "
            f"({' × '.join(f'{length:.0f}' for length in field_mm)} mm around the middle): read the whole field, or "
            f"cut the scan to the {body_part}",
        )
    ]


def _chest(anatomy: Anatomy) -> list[Check]:
    shown = f"only {anatomy.lung_mm:.0f} mm of the scan show" if anatomy.lung_mm else "no slice shows"
    if anatomy.lung_mm < 15 and not anatomy.inside_body:
        return [
            Check(
                "body-part",
                "withhold",
                f"{shown} aerated lung{_guess(anatomy)}: the model reads chest CT and nothing else",
            )
        ]
    if anatomy.sure_mm < 15 <= anatomy.lung_mm:
        sentence = (
            "air reaches the sides of the picture: lung cannot be told from the air around the patient, and this "
        )
        return [Check("body-part", "doubt", f"{sentence}may be no chest{_guess(anatomy)}")]
    if anatomy.lung_mm < 80:
        return [Check("body-part", "doubt", f"{shown} aerated lung: the model expects a whole chest")]
    return []


def _abdomen(anatomy: Anatomy) -> list[Check]:
    share = float((anatomy.share >= _LUNG_SHARE).mean())
    guess = _guess(anatomy)
    if share > 0.6:
        guess = f": lung in {share:.0%} of the slices looks like a chest"
    if not guess or anatomy.inside_body:
        return []
    return [Check("body-part", "doubt", f"this does not look like an abdomen{guess}; the model reads nothing else")]


def _guess(anatomy: Anatomy) -> str:
    """Return what a scan without lung may be, as the end of a sentence; "" if nothing speaks for a head or limb."""
    largest = float(np.quantile(anatomy.area, 0.9))
    if largest < 320 and anatomy.bone > 0.10:
        return f" (a cross-section of {largest:.0f} cm² with much bone looks like a head)"
    if largest < 200:
        return f" (a cross-section of {largest:.0f} cm² looks like a limb or a neck)"
    return ""


def _at_sides(air: Bools, values: NDArray[Any]) -> tuple[Bools, Bools]:
    """Return the air around the body, and all air that reaches the picture's sides, slice by slice.

    Lung that a narrow field cuts reaches the sides too, but is mostly denser than the room's air. Through the slices
    everything hangs together by way of the trachea or of thin chest walls, so each stands for itself.
    """
    apart = np.zeros((2 * air.shape[2], *air.shape[:2]), np.uint8)
    apart[::2] = air.transpose(2, 0, 1)
    components = sitk.ConnectedComponent(sitk.GetImageFromArray(apart))
    labels = sitk.GetArrayFromImage(components)[::2].transpose(1, 2, 0)
    count = int(labels.max()) + 1
    at_side, room = _sides(labels), _sides(values) < _ROOM
    reached = np.bincount(at_side, minlength=count)
    reached[0] = 0
    around = (reached > 0) & (np.bincount(at_side, room, count) > 0.5 * reached)
    return np.asarray(around[labels]), np.asarray((reached > 0)[labels])


def _sides(array: NDArray[Any]) -> NDArray[Any]:
    """Return the voxels of the picture's four sides in all slices, one after the other."""
    return np.concatenate([array[[0, -1]].ravel(), array[:, [0, -1]].ravel()])
