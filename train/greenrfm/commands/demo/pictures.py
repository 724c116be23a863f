"""Slices of a volume as pictures, with truth contours and heat maps over them."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from greenrfm.reading import HeatMaps, resample
from greenrfm.volumes import Volume, to_canonical

matplotlib.use("Agg")

# HU from black to white, wide enough for lung and soft tissue at once.
GREY = (-1000.0, 400.0)
TRUTH, CELL = "#28e0d0", "#ffffff"
# Inches and dots per inch: the height of an overview, the width of one panel under a heat map.
HEIGHT, PANEL, DPI = 2.3, 2.1, 80
_TIGHT = {"left": 0, "right": 1, "bottom": 0, "top": 1, "wspace": 0.02, "hspace": 0.02}
_HEAT = matplotlib.colormaps["inferno"]


def overview(volume: Volume) -> str:
    """Return the middle axial and coronal slice side by side as a data URI."""
    scan = to_canonical(volume)
    widths = [_extent(scan, axis)[0] / _extent(scan, axis)[1] * HEIGHT for axis in (2, 0)]
    figure = Figure((sum(widths), HEIGHT), dpi=DPI, facecolor="black")
    panels = figure.subplots(1, 2, gridspec_kw={"width_ratios": widths, **_TIGHT})
    for panel, axis in zip(panels, (2, 0), strict=True):
        _show(panel, scan, axis, scan.shape[axis] // 2)
    return _jpeg(figure)


def overlay(volume: Volume, mask: Volume, heat: HeatMaps, key: str) -> str:
    """Return axial and coronal slices where the true finding is largest, plain and under the heat map, as a data URI.

    `mask` is the truth on the volume's own grid. Its outline is drawn in all four; the white box is the
    heat map's maximal cell where it cuts the slice. Colour begins half way from the map's median cell to its maximum.
    """
    scan, truth = to_canonical(volume), to_canonical(mask).array != 0
    values = heat.shown(key)
    hot = resample(replace(heat, keys=(key,), values=values[None]), key, scan).array
    high = float(values.max())
    low = (float(np.median(values[heat.inner])) + high) / 2
    share = np.clip((hot - low) / max(high - low, 1e-6), 0, 1)
    cell = _cell_box(values, heat, scan)
    slice_at = int(truth.sum(axis=(0, 1)).argmax())
    row_at = int(truth.sum(axis=(1, 2)).argmax())
    heights = [PANEL * _extent(scan, axis)[1] / _extent(scan, axis)[0] for axis in (2, 0)]
    figure = Figure((2 * PANEL, sum(heights)), dpi=DPI, facecolor="black")
    axes = figure.subplots(2, 2, gridspec_kw={"height_ratios": heights, **_TIGHT})
    for column in range(2):
        for line, axis, at in ((0, 2, slice_at), (1, 0, row_at)):
            panel = axes[line][column]
            _show(panel, scan, axis, at)
            if column:
                shown = _HEAT(_cut(share, axis, at))
                shown[..., 3] = 0.75 * _cut(share, axis, at)
                panel.imshow(shown, aspect=_aspect(scan, axis), interpolation="nearest")
                _draw_cell(panel, cell, axis, at, scan.shape[2])
            outline = _cut(truth, axis, at).astype(float)
            if outline.any():
                panel.contour(outline, [0.5], colors=TRUTH, linewidths=0.9)
    return _jpeg(figure)


def svg(figure: Figure) -> str:
    """Return a plot as a data URI of an SVG whose text is drawn, so that no font is needed."""
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "greenrfm"}):
        return _uri(figure, "image/svg+xml", format="svg", metadata={"Date": None})


def _extent(scan: Volume, axis: int) -> tuple[float, float]:
    """Return width and height in mm of a slice across this axis."""
    rows, columns, slices = (count * step for count, step in zip(scan.shape, scan.spacing, strict=True))
    return (columns, rows) if axis == 2 else (columns, slices)


def _cut(array: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    """Return the axial (axis 2) or coronal (axis 0) slice of a canonical array, as it is displayed: head up."""
    return array[:, :, at] if axis == 2 else array[at].T[::-1]


def _aspect(scan: Volume, axis: int) -> float:
    return scan.spacing[0 if axis == 2 else 2] / scan.spacing[1]


def _show(panel: Axes, scan: Volume, axis: int, at: int) -> None:
    panel.imshow(_cut(scan.array, axis, at), cmap="gray", vmin=GREY[0], vmax=GREY[1], aspect=_aspect(scan, axis))
    panel.set_axis_off()
    # A cell may reach beyond the scan: it must not zoom the picture out.
    panel.autoscale(False)


def _cell_box(values: NDArray[np.float32], heat: HeatMaps, scan: Volume) -> NDArray[np.float64]:
    """Return (2, 3): the lowest and highest edge of the cell of the highest value in the scan's voxel index."""
    at = np.array(np.unravel_index(int(values.argmax()), values.shape), np.float64)
    corners = np.stack([np.append(at + step, 1.0) for step in (-0.5, 0.5)], axis=1)
    voxels = np.linalg.solve(scan.affine, heat.affine @ corners)[:3]
    return np.sort(voxels, axis=1).T


def _draw_cell(panel: Axes, cell: NDArray[np.float64], axis: int, at: int, slices: int) -> None:
    low, high = cell
    if not low[axis] <= at <= high[axis]:
        return
    if axis == 2:
        corner, height = (low[1], low[0]), high[0] - low[0]
    else:
        corner, height = (low[1], slices - 1 - high[2]), high[2] - low[2]
    panel.add_patch(Rectangle(corner, high[1] - low[1], height, fill=False, edgecolor=CELL, linewidth=1.0))


def _jpeg(figure: Figure) -> str:
    # Noise makes PNG slices three times as large.
    return _uri(figure, "image/jpeg", format="jpeg", pil_kwargs={"quality": 82})


def _uri(figure: Figure, mime: str, **how: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, **how)
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
