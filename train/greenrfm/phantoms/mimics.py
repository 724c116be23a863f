"""What looks like a finding, to a histogram or at a glance, and is none."""

from __future__ import annotations

import numpy as np

from greenrfm.phantoms.anatomy import Chest


def mimics(chest: Chest, rng: np.random.Generator, present: set[str]) -> None:
    """Draw metal on the skin, small nodes, osteophytes, cartilage, dependent lung, fluid in the belly, thick pleura."""
    c, p = chest.canvas, chest.patient
    if rng.random() < 0.75:  # leads and clips outside the body: as much metal as an implant, and none
        for _ in range(int(rng.integers(3, 16))):
            angle = rng.uniform(0, 2 * np.pi)
            at = (
                (p.half_width + p.fat + 17) * np.cos(angle),
                (p.half_depth + 0.8 * p.fat + 17) * np.sin(angle),
                float(rng.uniform(-80, 90)),
            )
            size = float(rng.uniform(4, 9))
            box, cover = c.ellipsoid(at, (size, size, size))
            c.paint(box, cover * ~chest.body[box], float(rng.uniform(1800, 3071)))
            box, cover = c.tube(at, (at[0] * 1.03, at[1] * 1.05, at[2] + 60), float(rng.uniform(2, 5)))
            c.paint(box, cover * ~chest.body[box], float(rng.uniform(1400, 3071)))
    cx, cy, cz = chest.carina
    for _ in range(int(rng.integers(1, 6))):  # nodes of normal size
        at = (cx + 20 * rng.standard_normal(), cy - 4 + 10 * rng.standard_normal(), cz + 22 * rng.standard_normal())
        radius = float(rng.uniform(2, 4))
        box, cover = c.ellipsoid(at, (radius, radius, 1.5 * radius))
        c.paint(box, cover * (c.hu[box] > -200) * (c.hu[box] < 60), 45.0)
    for _ in range(int(rng.integers(0, 16))):  # osteophytes: calcium beside the aorta
        at = (float(rng.choice((-1, 1))) * 17, chest.spine_y + 4, float(rng.uniform(chest.base, chest.apex)))
        box, cover = c.ellipsoid(at, (6, 5, 5))
        c.paint(box, cover, float(rng.uniform(500, 1300)))
    if rng.random() < 0.8:  # costal and tracheal cartilage calcify with age
        for _ in range(int(rng.integers(4, 32))):
            at = (float(rng.uniform(-60, 60)), -0.86 * p.half_depth, float(rng.uniform(-90, 60)))
            box, cover = c.ellipsoid(at, (5, 4, 4))
            c.paint(box, cover * (c.hu[box] > -300), float(rng.uniform(300, 1200)))
    surface = chest.dependent_surface
    if rng.random() < 0.45:  # lung that lies undermost is denser in everybody
        dependent = chest.lung & (c.y > surface - float(rng.uniform(6, 30)))
        c.hu[dependent] += np.float32(0.8) * (float(rng.uniform(-680, -400)) - c.hu[dependent])
    if rng.random() < 0.65:  # fluid below the diaphragm
        side = float(rng.choice((-1, 1)))
        at = (0.62 * side * p.half_width, 0.2 * chest.back, float(chest.floor.min()) - 12)
        a, b, h = (float(axis) for axis in rng.uniform(28, 60, 3))
        box, cover = c.ellipsoid(at, (a, b, h))
        below = c.z[:, :, box[2]] < chest.floor[box[0], box[1]] - 5
        c.paint(box, cover * below * (c.hu[box] > -150) * (c.hu[box] < 120), float(rng.uniform(0, 22)))
    if "pleural_effusion" not in present and rng.random() < 0.25:  # thickened pleura or fat behind the lung
        depth = float(rng.uniform(3, 7))
        thick = chest.lung & (c.y > surface - depth) & (np.abs(c.z) < 70)
        c.hu[thick] = float(rng.choice((-95.0, 35.0)))
        chest.lung &= ~thick
