"""Does a heat map point at the finding: its maximal cell against a truth mask, beside chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from greenrfm.evaluation.intervals import BOOTSTRAPS, Floats, bootstrap, describe

# Boxes that share less than this part of a voxel only touch: it absorbs rounding in the affines.
TOUCH = 1e-3
# A cell that is half body must not depend on the last digit of the mask's stored orientation.
HALF = 0.5 - 1e-6


@dataclass(frozen=True)
class Localisation:
    """One heat map's outcome: `hit` (a share if maximal cells tie) and how often a random body cell hits.

    `chance` is that of all `body_cells` cells in the body, `chance_inner` of those that the map shows.
    """

    hit: float
    chance: float
    chance_inner: float
    body_cells: int


def localise(
    heat: ArrayLike,
    heat_affine: ArrayLike,
    truth: ArrayLike,
    truth_affine: ArrayLike,
    body: ArrayLike,
    body_affine: ArrayLike | None = None,
    inner: ArrayLike | None = None,
) -> Localisation:
    """Return whether the box of the heat map's maximal cell meets the truth mask, and how often a body cell does.

    Parameters
    ----------
    heat : (h, w, d), one value per cell.
    heat_affine : 4x4, cell index -> LPS mm of the cell's centre; the cell's box is its index +- 1/2.
    truth, truth_affine : (i, j, k) mask and its 4x4 voxel index -> LPS mm, in any axis order and direction.
    body, body_affine : mask of the candidates for chance; its affine is the truth's if not given. A cell is a
        candidate if at least half of its box is body: counting every grazed cell would make chance look lower.
    inner : (h, w, d), the cells that a reader is shown, candidates for `chance_inner`; all if not given.

    A box meets a mask if it shares volume with the box of a true voxel. The maximal cell may lie anywhere, also
    outside the body, where it misses. If several cells are maximal, `hit` is the share of them that meet it.

    Raises ValueError if the truth is empty, no cell is body, a heat value is no number, or a mask's grid
    is not parallel to the heat map's axes.
    """
    heat = np.asarray(heat)
    if not np.isfinite(heat).all():
        raise ValueError("a heat map value is not a finite number")
    if not np.any(truth):
        raise ValueError("the truth mask is empty; only studies with the finding can be localised")
    met = coverage(heat.shape, heat_affine, truth, truth_affine) > 0
    candidate = coverage(heat.shape, heat_affine, body, truth_affine if body_affine is None else body_affine) >= HALF
    candidate_inner = candidate if inner is None else candidate & np.asarray(inner, bool)
    if not candidate_inner.any():
        raise ValueError("no cell of the heat map lies in the body")
    return Localisation(
        hit=float(met[heat == heat.max()].mean()),
        chance=float(met[candidate].mean()),
        # Inner cells lie where findings lie, so this chance is the stricter one.
        chance_inner=float(met[candidate_inner].mean()),
        body_cells=int(candidate.sum()),
    )


def coverage(shape: Sequence[int], affine: ArrayLike, mask: ArrayLike, mask_affine: ArrayLike) -> Floats:
    """Return the share (h, w, d) of each cell's box that the mask's voxels cover; outside the mask nothing does.

    `affine` and `mask_affine` are 4x4, index -> LPS mm. Raises ValueError if the two grids are not parallel.
    """
    mask = np.asarray(mask)
    if len(shape) != 3 or mask.ndim != 3:
        raise ValueError(f"a heat map {tuple(shape)} and a mask {mask.shape} must have three axes")
    # index of the mask = relative @ index of the heat map
    relative = np.linalg.solve(np.asarray(mask_affine, dtype=np.float64), np.asarray(affine, dtype=np.float64))
    axis_of = np.argmax(np.abs(relative[:3, :3]), axis=0)
    off_axis = relative[:3, :3].copy()
    off_axis[axis_of, range(3)] = 0
    # A tilt matters by how far it carries an edge of the map, in voxels of the mask.
    if sorted(axis_of) != [0, 1, 2] or np.max(np.abs(off_axis) * np.asarray(shape)) > 0.05:
        raise ValueError("the mask's grid is not parallel to the heat map's; resample the mask first")
    array: NDArray[Any] = (mask != 0).transpose(axis_of)
    for axis in range(3):
        scale = relative[axis_of[axis], axis]
        centre = scale * np.arange(shape[axis]) + relative[axis_of[axis], 3]
        # In edge coordinates voxel v is [v, v + 1].
        low, high = centre + 0.5 - abs(scale) / 2, centre + 0.5 + abs(scale) / 2
        array = _average(array, axis, low, high)
    return array


def hit_rate(
    results: Sequence[Localisation],
    patient_ids: Sequence[str],
    *,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the mean hit and chance of several heat maps, and their difference, with intervals by patient.

    Returns `{"n", "patients", "hit_rate", "chance", "chance_inner", "above_chance", "intervals"}`; `above_chance` is
    the mean of hit - chance, so an interval above 0 says that the maps point at the finding. Raises ValueError if
    there are none.
    """
    if len(results) != len(patient_ids):
        raise ValueError(f"{len(patient_ids)} patient ids for {len(results)} heat maps")
    each = np.array([(result.hit, result.chance, result.chance_inner) for result in results]).reshape(-1, 3)
    hit, chance, chance_inner = each.T
    columns = {"hit_rate": hit, "chance": chance, "chance_inner": chance_inner, "above_chance": hit - chance}

    def measure(weights: Floats) -> dict[str, Floats]:
        return {name: (weights @ values / weights.sum(axis=1))[:, None] for name, values in columns.items()}

    point, replicates = bootstrap(measure, patient_ids, bootstraps, seed)
    return {
        "n": len(results),
        "patients": len(set(patient_ids)),
        **describe(
            {name: float(values[0]) for name, values in point.items()},
            {name: values[:, 0] for name, values in replicates.items()},
        ),
    }


def _average(array: NDArray[Any], axis: int, low: Floats, high: Floats) -> Floats:
    """Average `array` along `axis` over the intervals [low, high] in edge coordinates; outside is 0."""
    moved = np.moveaxis(array, axis, 0)
    out = np.zeros((len(low), *moved.shape[1:]))
    for cell, (start, stop) in enumerate(zip(low, high, strict=True)):
        first, last = max(0, int(np.floor(start))), min(len(moved), int(np.ceil(stop)))
        voxel = np.arange(first, last)
        shared = np.minimum(stop, voxel + 1) - np.maximum(start, voxel)
        # Dropping touches here keeps "meets" (a share above 0) exact.
        inside = shared > TOUCH * min(1.0, stop - start)
        if inside.any():
            out[cell] = np.tensordot(shared[inside] / (stop - start), moved[voxel[inside]], axes=(0, 0))
    return np.moveaxis(out, 0, axis)
