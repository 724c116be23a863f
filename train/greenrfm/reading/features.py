"""The network's feature map and where it lies: what heat maps are made of, of findings and of free text."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import FeatureGrid
from greenrfm.reading.maps import HeatMaps

Size = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Features:
    """F(x): `values` float32 (features, h, w, d) of one field; `affine` is cell index to LPS mm of the cell's centre.

    `field_affine` and `field_shape` (H, W, D) are those of the field the network saw.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    field_affine: NDArray[np.float64]
    field_shape: Size

    @classmethod
    def of(
        cls, values: NDArray[np.float32], field_affine: NDArray[np.float64], field_shape: Size, grid: FeatureGrid
    ) -> Features:
        """Place what a network said of a field."""
        cells = np.diag([*grid.stride, 1.0])
        cells[:3, 3] = grid.offset
        return cls(values, np.asarray(field_affine @ cells), field_affine, field_shape)

    def heatmaps(self, keys: Sequence[str], weight: NDArray[np.float32], bias: NDArray[np.float32]) -> HeatMaps:
        """Return weight · F(x) + bias: `weight` float32 (keys, features), `bias` (keys,)."""
        values = np.tensordot(weight, self.values, axes=1) + bias[:, None, None, None]
        height, width, depth = (float(length) for length in np.linalg.norm(self.affine[:3, :3], axis=0))
        return HeatMaps(
            tuple(keys),
            values.astype(np.float32, copy=False),
            self.affine,
            (height, width, depth),
            self.field_affine,
            self.field_shape,
        )


def tiles(size: Sequence[int], crop: Sequence[int]) -> list[Size]:
    """Return where tiles of `crop` voxels begin that together cover a field of `size` voxels.

    As few along each axis as cover it, at equal distances from end to end: eight at the corners where a crop is 80 % as
    long as the field. Four of these would cost half and were as good on the phantoms (docs/benchmarks.md), but leave
    blocks at four corners unseen.
    """
    starts = [_begins(max(0, whole - part), -(-whole // part)) for whole, part in zip(size, crop, strict=True)]
    return [(top, left, low) for top, left, low in itertools.product(*starts)]


def stitched(
    parts: Sequence[tuple[Size, NDArray[np.float32]]], size: Sequence[int], grid: FeatureGrid
) -> NDArray[np.float32]:
    """Return the feature maps (features, h, w, d) of tiles as one, with a cell at every place of the field's own grid.

    `parts` are the tiles' starts in voxels with their maps. Between cell centres a tile's map is interpolated
    linearly; where tiles overlap their mean is taken, of those whose cell there is not outermost, because half of
    what such a cell looks at is padding.
    """
    cells = grid.cells(size)
    total = np.zeros((len(parts[0][1]), *cells), np.float32)
    weight = np.zeros(cells, np.float32)
    for start, values in parts:
        rows = [
            _weights(count, extent, begin / step)
            for count, extent, begin, step in zip(cells, values.shape[1:], start, grid.stride, strict=True)
        ]
        for axis, (matrix, trust) in enumerate(rows, start=1):
            values = np.moveaxis(np.tensordot(matrix * trust[:, None], values, axes=(1, axis)), 0, axis)
        total += values
        weight += np.einsum("i,j,k->ijk", *(trust for _, trust in rows))
    return total / weight


def _begins(far: int, count: int) -> list[int]:
    """Return where `count` parts begin of which the last begins at `far`; one begins at 0."""
    return [far * number // max(1, count - 1) for number in range(count)]


def _weights(count: int, extent: int, shift: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return how `count` cells are interpolated from a tile's `extent` cells that lie `shift` cells further, and trust.

    The trust is 1 where a cell lies between inner cells of the tile, and almost nothing, not nothing, elsewhere: a
    place that no tile sees better takes the nearest.
    """
    place = np.arange(count) - shift
    first, last = (1, extent - 2) if extent > 2 else (0, extent - 1)
    matrix = np.stack([np.interp(place, np.arange(extent), row) for row in np.eye(extent)], axis=1)
    trusted = (place >= first - 0.5) & (place <= last + 0.5)
    away = np.maximum(0.0, np.maximum(-place, place - (extent - 1)))
    return matrix.astype(np.float32), np.where(trusted, 1.0, 1e-3 / (1 + away) ** 4).astype(np.float32)
