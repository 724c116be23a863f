"""Does this volume look like what the bundle was trained on? Plain checks, before any network runs."""

from __future__ import annotations

import numpy as np

from greenrfm.bundle import Bundle
from greenrfm.volumes import CANONICAL, Prepared, Volume, orient
from greenrfm.volumes.volume import NO_AIR

# HU of the lowest and highest voxel: below the first there is air or lung somewhere in any body CT,
# above the second bone or contrast medium.
_AIR, _DENSE = -500.0, 100.0


def warnings_for(volume: Volume, prepared: Prepared, bundle: Bundle) -> tuple[str, ...]:
    """Return a sentence for each reason to doubt a reading of `volume`, prepared for `bundle`."""
    found = list(prepared.warnings)
    wanted = bundle.findings.modality
    if volume.modality and volume.modality != wanted:
        found.append(f"the volume is {volume.modality}, the model was trained on {wanted}: do not trust the scores")
    if bundle.preprocessing.intensity == "window" and NO_AIR not in found:
        low, high = float(np.min(volume.array)), float(np.max(volume.array))
        if low > _AIR or high < _DENSE:
            found.append(
                f"the intensities run from {low:g} to {high:g}, which does not look like Hounsfield units "
                "(air is near -1000, bone above 300): check the rescaling"
            )
    found.extend(_coverage(volume, bundle))
    return tuple(found)


def _coverage(volume: Volume, bundle: Bundle) -> list[str]:
    preprocessing = bundle.preprocessing
    if preprocessing.spacing is None:
        return []  # sampled as acquired: the field has no size in mm
    placed = orient(volume, CANONICAL)
    names = ("anterior to posterior", "right to left", "foot to head")
    sentences = []
    for name, count, step, size, spacing in zip(
        names, placed.shape, placed.spacing, preprocessing.size, preprocessing.spacing, strict=True
    ):
        if count * step < 0.5 * size * spacing:
            sentences.append(
                f"the volume covers {count * step:.0f} mm from {name}, the model expects about "
                f"{size * spacing:.0f} mm: findings outside cannot be seen and the scores may be off"
            )
    return sentences
