"""Random volumes for tests, and comparing them."""

from __future__ import annotations

import itertools

import numpy as np

from greenrfm.volumes import (
    Preprocessing,
    Volume,
)

CODES = ["".join(code) for order in itertools.permutations(("LR", "PA", "SI")) for code in itertools.product(*order)]
SMALL = Preprocessing(
    spacing=(2.0, 2.0, 3.0),
    size=(14, 12, 8),
    crop=(8, 8, 4),
    intensity="window",
    window=(-1000, 200),
    shift=400,
    scale=600,
)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        i, j = [other for other in range(3) if other != axis]
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        turned = turned @ one
    return turned


def random_volume(
    seed: int,
    shape: tuple[int, int, int] = (11, 9, 7),
    spacing: tuple[float, float, float] = (0.9, 1.1, 1.4),
    tilt: float = 0.0,
) -> Volume:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation((tilt, -tilt, tilt)) * spacing
    affine[:3, 3] = random.uniform(-200, 200, 3)
    return Volume(random.integers(-1200, 1500, shape).astype(np.int16), affine)


def same(one: Volume, other: Volume) -> bool:
    return np.array_equal(one.array, other.array) and np.allclose(one.affine, other.affine, atol=2e-4)
