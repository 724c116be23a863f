"""Are these Hounsfield units? What the histogram of a CT must show, whatever is in it."""

from __future__ import annotations

import numpy as np

from greenrfm.reading.checks import Check, Level
from greenrfm.reading.sample import Sample

# HU: below the first there is air or lung somewhere in any body CT, above the second bone or contrast medium.
_AIR, _DENSE = -500.0, 100.0
# HU: every body has fat below.
_FAT = -70.0
# HU that air does not reach, and that soft tissue and fat do not leave.
_NOT_AIR, _SOFT = -700.0, (-200.0, 200.0)
_ADVICE = "save the volume again with rescale slope and intercept applied"


def check_hounsfield(sample: Sample) -> list[Check]:
    """Return why the intensities are not (all of) the Hounsfield scale; nothing if they may well be."""
    values = sample.array
    low, high = float(values.min()), float(values.max())
    run = f"the intensities run from {low:g} to {high:g}"
    if high - low < 50:
        return _found("withhold", f"{run}: they were scaled and are no Hounsfield units; give the original scan")
    if low > _FAT:
        return _found("withhold", _without_fat(sample, run, low, high))
    corners = values[[0, 0, -1, -1], [0, -1, 0, -1]]
    if float(np.median(corners)) > 300 and float(np.mean(values > 300)) > 0.2:
        return _found(
            "withhold",
            f"{run} and the corners of the picture are bright: the scale is turned around (air should be near -1000), "
            "so these are no Hounsfield units; give the original scan",
        )
    matter = values > _NOT_AIR
    soft = float(np.count_nonzero((values > _SOFT[0]) & (values < _SOFT[1])))
    if soft < 0.005 * values.size or soft < 0.1 * np.count_nonzero(matter):
        return _found(
            "withhold",
            f"hardly a voxel lies between {_SOFT[0]:g} and {_SOFT[1]:g}, where Hounsfield units have fat and soft "
            f"tissue: the rescaling is wrong; {_ADVICE}",
        )
    if low > _AIR or high < _DENSE:
        lacks = "air (-1000)" if low > _AIR else "bone (above 300)"
        return _found(
            "doubt", f"{run} in Hounsfield units and were cut off: {lacks} cannot be seen; give the original scan"
        )
    return []


def _without_fat(sample: Sample, run: str, low: float, high: float) -> str:
    """Return what values are of which none is as low as fat."""
    if low >= 0 and high <= 255:
        return f"{run}: this is a picture of 256 grey values, not Hounsfield units; give the original scan"
    tissue = float(np.mean((sample.array > 900) & (sample.array < 1200)))
    if tissue > 0.1 and float(np.quantile(sample.array, 0.02)) < 300:
        return f"{run}, 1024 above Hounsfield units (air should be near -1000, not 0); {_ADVICE}"
    return f"{run}: without air (-1000) and fat (-100) these are no Hounsfield units; {_ADVICE}"


def _found(level: Level, sentence: str) -> list[Check]:
    return [Check("hounsfield", level, sentence)]
