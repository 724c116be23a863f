"""Slices of the scan, plain and under a heat map, as JPEG: what a page shows of where a logit comes from."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from greenrfm.reading import HeatMaps, resample
from greenrfm.volumes import Preprocessing, Volume, to_canonical

# Pixels along the longer side of a slice; a page holds several.
LONGEST = 256
_GAP = 4
# HU from black to white, wide enough for lung and soft tissue at once.
_WINDOW = (-1000.0, 400.0)
# Black over red to yellow, at equal steps of heat.
_COLOURS = np.array([[40, 0, 40], [150, 20, 60], [230, 80, 20], [250, 170, 20], [255, 250, 160]], np.float32)
_OPACITY = 0.7


def heat_picture(volume: Volume, heat: HeatMaps, key: str, preprocessing: Preprocessing) -> bytes:
    """Return a JPEG of four slices: axial and coronal through the hottest cell, plain and under the map.

    Radiological display: the patient's right is on the left. Grey runs from -1000 to 400 HU, or over the slices'
    percentiles where the bundle reads no HU. Colour begins half way from the median cell to the maximum; the white box
    is the hottest cell.
    """
    scan = to_canonical(volume)
    values = heat.shown(key)
    high = float(values.max())
    low = (float(np.median(values[heat.inner])) + high) / 2
    shown = replace(heat, keys=(key,), values=values[None])
    cell = _cell_box(values, heat, scan)
    centre = np.clip(np.round(cell.mean(axis=0)), 0, np.array(scan.shape) - 1).astype(int)
    rows = []
    for axis in (2, 0):
        at = int(centre[axis])
        thin = _slab(scan, axis, at)
        hot = np.clip((resample(shown, key, thin).array - low) / max(high - low, 1e-6), 0, 1)
        grey = _grey(_flat(thin.array, axis), preprocessing)
        share = _flat(hot, axis)
        pick = _pixels(scan, axis)
        plain = np.repeat(grey[pick][..., None], 3, axis=2)
        overlay = _tinted(plain, share[pick])
        if cell[0, axis] <= at <= cell[1, axis]:
            _draw_box(overlay, cell, axis, scan)
        rows.append(np.concatenate([plain, np.zeros((len(plain), _GAP, 3), np.uint8), overlay], axis=1))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return _jpeg(np.concatenate(padded)[:-_GAP])


def _slab(scan: Volume, axis: int, at: int) -> Volume:
    """Return one slice across the axis as a volume of its own: nobody needs the map on all the others."""
    index = [slice(None)] * 3
    index[axis] = slice(at, at + 1)
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, axis] * at
    return Volume(np.ascontiguousarray(scan.array[tuple(index)]), affine)


def _flat(array: NDArray[Any], axis: int) -> NDArray[Any]:
    """Return the one slice across the axis as it is displayed: head up."""
    plane = array.squeeze(axis)
    return plane if axis == 2 else plane.T[::-1]


def _sides(scan: Volume, axis: int) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return (voxels, mm per voxel) down and along a displayed slice."""
    down = 0 if axis == 2 else 2
    return (scan.shape[down], scan.spacing[down]), (scan.shape[1], scan.spacing[1])


def _size(scan: Volume, axis: int) -> tuple[int, int]:
    lengths = [count * step for count, step in _sides(scan, axis)]
    rows, columns = (max(1, round(LONGEST * length / max(lengths))) for length in lengths)
    return rows, columns


def _pixels(scan: Volume, axis: int) -> tuple[NDArray[np.intp], ...]:
    """Return which voxel each pixel shows, so that a mm is as long down as along."""
    counts = [count for count, _ in _sides(scan, axis)]
    return np.ix_(
        *(
            ((np.arange(pixels) + 0.5) * count / pixels).astype(int)
            for pixels, count in zip(_size(scan, axis), counts, strict=True)
        )
    )


def _grey(plane: NDArray[Any], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    if preprocessing.intensity == "window":
        low, high = _WINDOW
    else:
        low, high = np.percentile(plane, preprocessing.percentiles or (1, 99))
    scaled = np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    grey: NDArray[np.uint8] = (scaled * 255).round().astype(np.uint8)
    return grey


def _tinted(plain: NDArray[np.uint8], share: NDArray[np.float32]) -> NDArray[np.uint8]:
    steps = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(share, steps, _COLOURS[:, channel]) for channel in range(3)], axis=-1)
    opacity = _OPACITY * share[..., None]
    tinted: NDArray[np.uint8] = (plain * (1 - opacity) + colour * opacity).round().astype(np.uint8)
    return tinted


def _cell_box(values: NDArray[np.float32], heat: HeatMaps, scan: Volume) -> NDArray[np.float64]:
    """Return (2, 3): the lowest and highest edge of the hottest cell in the scan's voxel index."""
    at = np.array(np.unravel_index(int(values.argmax()), values.shape), np.float64)
    corners = np.stack([np.append(at + step, 1.0) for step in (-0.5, 0.5)], axis=1)
    voxels: NDArray[np.float64] = np.sort(np.linalg.solve(scan.affine, heat.affine @ corners)[:3], axis=1).T
    return voxels


def _draw_box(picture: NDArray[np.uint8], cell: NDArray[np.float64], axis: int, scan: Volume) -> None:
    sides = (0 if axis == 2 else 2, 1)
    edges = []
    for side, pixels in zip(sides, picture.shape[:2], strict=True):
        low, high = (cell[:, side] + 0.5) / scan.shape[side] * pixels
        if side == 2:  # head up
            low, high = pixels - high, pixels - low
        edges.append((int(np.clip(low, 0, pixels - 1)), int(np.clip(high, 0, pixels - 1))))
    (top, bottom), (left, right) = edges
    picture[[top, bottom], left : right + 1] = 255
    picture[top : bottom + 1, [left, right]] = 255


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a colour picture (rows, columns, 3) as JPEG: noise makes PNG several times as large."""
    image = sitk.GetImageFromArray(picture, isVector=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=85)
        return path.read_bytes()
