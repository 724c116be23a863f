"""A coarse look at a volume, for rules that need no detail: a few hundred thousand of its millions of voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.volumes import CANONICAL, Volume, orient

_STEP_MM = 4.0


@dataclass(frozen=True, eq=False)
class Sample:
    """Every so-many-th voxel, canonical: (rows to posterior, columns to left, slices to head), `spacing` in mm."""

    array: NDArray[Any]
    spacing: tuple[float, float, float]

    @property
    def voxel_ml(self) -> float:
        """Return how many millilitres one sample stands for."""
        return float(np.prod(self.spacing)) / 1000.0

    def from_centre(self, axis: int) -> NDArray[np.float64]:
        """Return how far each sample along an axis lies from the volume's centre, in mm, within half a step."""
        count = self.array.shape[axis]
        return np.asarray((np.arange(count) - (count - 1) / 2) * self.spacing[axis])


def sample(volume: Volume) -> Sample:
    """Return samples about 4 mm apart, beginning half a step from the rim; finer axes only where slices are thicker."""
    placed = orient(volume, CANONICAL)
    steps = [
        max(1, min(round(_STEP_MM / spacing), count))
        for spacing, count in zip(placed.spacing, placed.shape, strict=True)
    ]
    thinned = placed.array[tuple(slice(step // 2, None, step) for step in steps)]
    i, j, k = (spacing * step for spacing, step in zip(placed.spacing, steps, strict=True))
    return Sample(np.ascontiguousarray(thinned), (i, j, k))
