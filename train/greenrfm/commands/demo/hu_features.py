"""What the first control sees of a volume: its HU histogram and its size (apart, because its workers need no more)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.cohort import Study
from greenrfm.progress import Progress
from greenrfm.volumes import read_volume, to_canonical
from greenrfm.workers import make_pool

# HU; what lies outside falls into the outermost bins.
LOWEST, WIDTH, BINS = -1024, 40, 65


def hu_features(studies: Sequence[Study], workers: int, progress: Progress) -> NDArray[np.float64]:
    """Return per study the share of voxels in each HU bin, and per axis the voxels, their spacing and the extent."""
    images = [str(study.images["image"]) for study in studies]
    rows: list[NDArray[np.float64]] = []
    progress("control: HU histogram", 0, len(images))
    with make_pool(workers) as pool:
        for row in pool.map(_describe, images, chunksize=4):
            rows.append(row)
            progress("control: HU histogram", len(rows), len(images))
    return np.stack(rows)


def _describe(image: str) -> NDArray[np.float64]:
    volume = to_canonical(read_volume(Path(image)))
    bins = np.clip((volume.array.astype(np.int32) - LOWEST) // WIDTH, 0, BINS - 1)
    counts = np.bincount(bins.ravel(), minlength=BINS)
    shape, spacing = np.array(volume.shape, np.float64), np.array(volume.spacing)
    return np.concatenate([counts / volume.array.size, shape, spacing, shape * spacing])
