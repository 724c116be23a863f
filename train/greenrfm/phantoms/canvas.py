"""A voxel canvas in patient millimetres on which anatomy and lesions are drawn with soft edges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]


@dataclass
class Canvas:
    """HU on a grid in canonical order (rows to posterior, columns to left, slices to superior).

    `y`, `x`, `z` are the voxel centres in mm (LPS, origin in the middle of the chest), shaped to
    broadcast over `hu`, which is float32 of shape (H, W, D). Points are always given as (x, y, z).
    """

    y: Array
    x: Array
    z: Array
    hu: Array
    masks: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    @classmethod
    def blank(cls, shape: tuple[int, int, int], spacing: tuple[float, float, float], centre: Point) -> Canvas:
        """Return a canvas full of air: `spacing` in mm along (H, W, D), `centre` as (x, y, z) in mm."""
        rows, columns, slices = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n, step in zip(shape, spacing, strict=True)
        )
        return cls(
            y=(rows + centre[1])[:, None, None],
            x=(columns + centre[0])[None, :, None],
            z=(slices + centre[2])[None, None, :],
            hu=np.full(shape, -1000, np.float32),
        )

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Return the voxel size in mm along (H, W, D)."""
        return (
            float(self.y[1, 0, 0] - self.y[0, 0, 0]),
            float(self.x[0, 1, 0] - self.x[0, 0, 0]),
            float(self.z[0, 0, 1] - self.z[0, 0, 0]),
        )

    def box(self, low: Point, high: Point) -> Box:
        """Return the slices of the grid between two corners (x, y, z) in mm, one voxel wider each way."""

        def span(axis: Array, start: float, stop: float) -> slice:
            flat = axis.ravel()
            first, last = np.searchsorted(flat, (start, stop))
            return slice(max(int(first) - 1, 0), min(int(last) + 1, flat.size))

        return (
            span(self.y, low[1], high[1]),
            span(self.x, low[0], high[0]),
            span(self.z, low[2], high[2]),
        )

    def grid(self, box: Box) -> tuple[Array, Array, Array]:
        """Return (x, y, z) of a box, shaped to broadcast over `hu[box]`."""
        return self.x[:, box[1], :], self.y[box[0]], self.z[:, :, box[2]]

    def ellipsoid(self, centre: Point, axes: Point, turn: float = 0.0) -> tuple[Box, Array]:
        """Return the box and coverage (0…1) of an ellipsoid with half-axes in mm, turned about z by `turn` rad."""
        reach = max(axes[0], axes[1]) if turn else 0.0
        half = (max(axes[0], reach), max(axes[1], reach), axes[2])
        box = self.box(
            (centre[0] - half[0], centre[1] - half[1], centre[2] - half[2]),
            (centre[0] + half[0], centre[1] + half[1], centre[2] + half[2]),
        )
        x, y, z = self.grid(box)
        dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
        if turn:
            dx, dy = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        radius = np.sqrt((dx / axes[0]) ** 2 + (dy / axes[1]) ** 2 + (dz / axes[2]) ** 2)
        return box, self.soft((radius - 1) * min(axes))

    def tube(self, start: Point, end: Point, radius: float) -> tuple[Box, Array]:
        """Return the box and coverage of a capsule of `radius` mm between two points."""
        low = tuple(min(a, b) - radius for a, b in zip(start, end, strict=True))
        high = tuple(max(a, b) + radius for a, b in zip(start, end, strict=True))
        box = self.box((low[0], low[1], low[2]), (high[0], high[1], high[2]))
        x, y, z = self.grid(box)
        ax, ay, az = (e - s for s, e in zip(start, end, strict=True))
        length = max(ax * ax + ay * ay + az * az, 1e-6)
        dx, dy, dz = x - start[0], y - start[1], z - start[2]
        along = np.clip((dx * ax + dy * ay + dz * az) / length, 0, 1)
        distance = np.sqrt((dx - along * ax) ** 2 + (dy - along * ay) ** 2 + (dz - along * az) ** 2)
        cover = self.soft(distance - radius)
        # A wire thinner than a voxel fills only a part of it.
        thin = min(1.0, 2 * radius / self.spacing[0])
        return box, cover * np.float32(thin)

    def soft(self, distance: Array) -> Array:
        """Turn a signed distance in mm into coverage: 1 inside, 0 outside, linear across one voxel."""
        cover: Array = np.clip(0.5 - distance / self.spacing[0], 0, 1).astype(np.float32)
        return cover

    def paint(self, box: Box, cover: Array, value: float | Array) -> None:
        """Blend `value` HU into a box with coverage 0…1."""
        region = self.hu[box]
        region += cover * (value - region)

    def mark(self, finding: str, box: Box, cover: Array) -> None:
        """Add voxels at least half covered (or the best covered one) to the finding's truth mask."""
        if not cover.size:
            return
        mask = self.masks.setdefault(finding, np.zeros(self.hu.shape, bool))
        inside = cover >= 0.5
        if not inside.any():
            inside = (cover >= cover.max()) & (cover > 0)
        mask[box] |= inside


WHOLE: Box = (slice(None), slice(None), slice(None))


def smooth_noise(shape: tuple[int, ...], cells: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return smooth noise of zero mean and unit deviation: `cells` random knots per axis under cubic B-splines."""
    noise = rng.standard_normal(tuple(max(2, c) for c in cells)).astype(np.float32)
    for size in shape:  # each turn interpolates the first axis and moves it last
        noise = np.tensordot(noise, _spline(noise.shape[0], size), axes=(0, 1))
    noise -= noise.mean()
    noise /= noise.std() + 1e-6
    return noise


def _spline(knots: int, size: int) -> Array:
    """Return the weights (size, knots) of cubic B-splines at evenly spaced knots."""
    distance = np.abs(np.linspace(0, knots - 1, size)[:, None] - np.arange(knots)[None])
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)
