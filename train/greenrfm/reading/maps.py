"""Heat maps: a value for each cell of the network's coarse grid, and where the cells lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Where each logit comes from: it is the mean over the map's cells (every `features.pooled`-th of the manifest).

    Of a field read in tiles the logit is the mean over the tiles' maps, of which this is stitched.

    Parameters
    ----------
    keys
        Finding keys in the order of `values`.
    values
        float32 (findings, h, w, d), in logits.
    affine
        4 × 4: cell index to LPS mm of the cell's centre, which is the centre of its receptive field.
    cell_size_mm
        Distance between cell centres along (h, w, d).
    field_affine, field_shape
        Of the field the network saw: index to LPS mm, voxels (H, W, D).
    """

    keys: tuple[str, ...]
    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    cell_size_mm: tuple[float, float, float]
    field_affine: NDArray[np.float64]
    field_shape: tuple[int, int, int]

    @property
    def inner(self) -> NDArray[np.bool_]:
        """Return which cells (h, w, d) are not outermost.

        Half of what an outermost cell looks at is the network's own zero padding, not the field: such a cell is a
        part of the logit, but says nothing of a place. An axis of one or two cells has no inner ones, all count.
        """
        extents: tuple[int, ...] = self.values.shape[1:]
        inner = np.ones(extents, bool)
        for axis, extent in enumerate(extents):
            if extent > 2:
                np.moveaxis(inner, axis, 0)[[0, -1]] = False
        return inner

    def shown(self, key: str, below: float = np.inf) -> NDArray[np.float32]:
        """Return the map (h, w, d) of one finding for the eye: no outermost cell is its maximum.

        They lie one logit below the least inner value, and below `below`, where colour begins.
        """
        cells, inner = self[key], self.inner
        return np.where(inner, cells, np.float32(min(float(cells[inner].min()), below) - 1.0))

    def __getitem__(self, key: str) -> NDArray[np.float32]:
        """Return the map (h, w, d) of one finding; raise UserError if there is none."""
        if key not in self.keys:
            raise UserError(f"this reading has no heat map for '{key}'{nearest(key, self.keys)}")
        return np.asarray(self.values[self.keys.index(key)])
