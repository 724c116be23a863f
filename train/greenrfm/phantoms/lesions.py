"""The findings of chest-ct-18 that the phantoms can have, each drawn with its truth mask.

A lesion takes the drawn chest, a severity from 0 (subtle) to 1 (marked) and a random generator, paints,
marks every voxel that belongs to it, and returns what a radiologist could say of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from greenrfm.phantoms.anatomy import Chest
from greenrfm.phantoms.canvas import WHOLE, Array, Box, Point, smooth_noise
from greenrfm.phantoms.phrases import Instance

Lesion = Callable[[Chest, float, np.random.Generator], list[Instance]]
SIDES = {-1: "right", 1: "left"}


def _lung_point(chest: Chest, rng: np.random.Generator, side: int = 0, zone: str = "") -> tuple[Point, int, str]:
    """Return a random point inside the lung with its side (-1 right, 1 left) and lobe."""
    c = chest.canvas
    low, high = {"upper": (0.55, 0.95), "lower": (0.0, 0.45), "": (0.0, 0.95)}[zone]
    span = chest.apex - chest.base
    allowed = chest.lung.copy()
    if side:
        allowed &= (c.x * side) > 0
    level = (c.z - chest.base) / span
    allowed &= (level >= low) & (level <= high)
    spots = np.flatnonzero(allowed)
    if not spots.size:
        spots = np.flatnonzero(chest.lung)
    row, column, slice_ = np.unravel_index(int(rng.choice(spots)), c.hu.shape)
    point = (float(c.x[0, column, 0]), float(c.y[row, 0, 0]), float(c.z[0, 0, slice_]))
    where = -1 if point[0] < 0 else 1
    height = (point[2] - chest.base) / span
    if height > 0.55:
        lobe = "upper lobe"
    elif height > 0.33 and point[1] < 0:
        lobe = "middle lobe" if where < 0 else "lingula"
    else:
        lobe = "lower lobe"
    return point, where, lobe


def cardiomegaly(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Mark the heart, which `draw_chest` has already drawn too large."""
    box, cover = chest.canvas.ellipsoid(chest.heart_centre, chest.heart_axes, 0.5)
    chest.canvas.mark("cardiomegaly", box, cover)
    return [Instance("cardiomegaly", "", "", 0, severity, 1)]


def pericardial_effusion(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw a shell of fluid around the heart, thicker behind."""
    thick = 10 + 20 * severity
    c, (hx, hy, hz), axes = chest.canvas, chest.heart_centre, chest.heart_axes
    centre = (hx, hy + 0.25 * thick, hz - 0.2 * thick)
    box, outer = c.ellipsoid(centre, (axes[0] + thick, axes[1] + thick, axes[2] + thick), 0.5)
    x, y, z = c.grid(box)
    co, si = np.cos(0.5), np.sin(0.5)
    dx, dy, dz = x - hx, y - hy, z - hz
    r = np.sqrt(((co * dx + si * dy) / axes[0]) ** 2 + ((co * dy - si * dx) / axes[1]) ** 2 + (dz / axes[2]) ** 2)
    keep = (c.hu[box] < 120) & (z > chest.floor[:, :, :][box[0], box[1]] - 8) & (c.hu[box] > -950)
    shell = outer * c.soft((1 - r) * min(axes)) * keep
    c.paint(box, shell, float(rng.uniform(2, 24)))
    chest.lung[box] &= shell < 0.5
    c.mark("pericardial_effusion", box, shell)
    return [Instance("pericardial_effusion", "", "", round(thick), severity, 1)]


def pleural_effusion(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Fill the dependent part of one or both pleural spaces with fluid up to a curved level."""
    c = chest.canvas
    sides = [(-1,), (1,), (-1, 1)][int(rng.choice(3, p=(0.35, 0.25, 0.4)))]
    value = float(rng.uniform(-2, 26))
    depth = 0.0
    for side in sides:
        depth = (10 + 58 * severity) * rng.uniform(0.75, 1.15)
        height = (0.25 + 0.6 * severity) * (chest.apex - chest.base)
        rise = np.clip(1 - (c.z - chest.base - 10) / height, 0, 1) ** 0.6
        wet = chest.lung & (c.x * side > 0) & (c.y > chest.dependent_surface - depth * rise) & (rise > 0)
        c.hu[wet] = value
        chest.lung &= ~wet
        c.mark("pleural_effusion", WHOLE, wet.astype(np.float32))
    name = "bilateral" if len(sides) == 2 else SIDES[sides[0]]
    return [Instance("pleural_effusion", name, "", round(depth), severity, 1)]


def _patch(chest: Chest, point: Point, size: float, rng: np.random.Generator) -> tuple[Box, Array]:
    """Return an irregular blob inside the lung: an ellipsoid whose edge is moved by smooth noise."""
    c = chest.canvas
    axes = tuple(size / 2 * rng.uniform(0.75, 1.25, 3))
    box, _ = c.ellipsoid(point, (axes[0] * 1.4, axes[1] * 1.4, axes[2] * 1.4))
    x, y, z = c.grid(box)
    dx, dy, dz = x - point[0], y - point[1], z - point[2]
    radius = np.sqrt((dx / axes[0]) ** 2 + (dy / axes[1]) ** 2 + (dz / axes[2]) ** 2)
    knots = tuple(max(2, int(n * s / 14)) for n, s in zip(radius.shape, c.spacing, strict=True))
    edge = radius + 0.22 * smooth_noise(radius.shape, knots, rng)
    return box, c.soft((edge - 1) * size / 2) * chest.lung[box]


def consolidation(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Fill part of a lobe with fluid density and leave air bronchograms open."""
    c, found = chest.canvas, []
    for _ in range(1 + int(rng.random() < 0.5)):
        point, side, lobe = _lung_point(chest, rng)
        size = 70 + 80 * severity * rng.uniform(0.8, 1.2)
        box, cover = _patch(chest, point, size, rng)
        c.paint(box, cover, float(rng.uniform(15, 60)) + 8 * smooth_noise(cover.shape, (6, 6, 5), rng))
        c.mark("consolidation", box, cover)
        for _ in range(int(rng.integers(1, 4))):
            end = tuple(p + size * 0.45 * float(d) for p, d in zip(point, rng.standard_normal(3), strict=True))
            tube, air = c.tube(point, (end[0], end[1], end[2]), 1.8)
            c.paint(tube, air * chest.lung[tube], -850.0)
        found.append(Instance("consolidation", SIDES[side], lobe, round(size), severity, 1))
    return found


def lung_opacity(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw patches of ground glass: denser than lung, thinner than fluid, vessels still visible."""
    c = chest.canvas
    count = 1 + int(rng.integers(0, 3)) + int(5 * severity)
    value = -520 + 240 * severity * rng.uniform(0.7, 1.2)
    sides, lobes, size = set(), [], 0.0
    for _ in range(count):
        point, side, lobe = _lung_point(chest, rng)
        size = 40 + 50 * severity * rng.uniform(0.6, 1.3)
        box, cover = _patch(chest, point, size, rng)
        c.paint(box, cover * (c.hu[box] < value) * 0.9, value)
        c.mark("lung_opacity", box, cover)
        sides.add(SIDES[side])
        lobes.append(lobe)
    name = sides.pop() if len(sides) == 1 else "bilateral"
    return [Instance("lung_opacity", name, lobes[0] if count == 1 else "", round(size), severity, count)]


def atelectasis(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw plates of collapsed lung just above the diaphragm."""
    c, sides = chest.canvas, set()
    count = 2 + int(rng.integers(0, 3))
    thick = 8 + 14 * severity
    for _ in range(count):
        (px, py, _), side, _ = _lung_point(chest, rng, zone="lower")
        row, column = int(np.argmin(np.abs(c.y.ravel() - py))), int(np.argmin(np.abs(c.x.ravel() - px)))
        pz = float(chest.floor[row, column, 0]) + 6 + 22 * float(rng.random())
        reach = 38 + 42 * severity * float(rng.uniform(0.7, 1.2))
        box = c.box((px - reach, py - reach, pz - reach), (px + reach, py + reach, pz + reach))
        x, y, z = c.grid(box)
        normal = np.array([0.5 * rng.standard_normal(), 0.5 * rng.standard_normal(), 1.0])
        normal /= np.linalg.norm(normal)
        dx, dy, dz = x - px, y - py, z - pz
        off = dx * normal[0] + dy * normal[1] + dz * normal[2]
        flat = np.sqrt(dx**2 + dy**2 + dz**2) - reach
        cover = c.soft(np.maximum(np.abs(off) - thick / 2, flat).astype(np.float32)) * chest.lung[box]
        c.paint(box, cover, float(rng.uniform(-60, 45)))
        c.mark("atelectasis", box, cover)
        sides.add(SIDES[side])
    return [
        Instance("atelectasis", sides.pop() if len(sides) == 1 else "bilateral", "base", round(thick), severity, count)
    ]


def emphysema(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Open holes of air in the lung, mostly in the upper zones."""
    c = chest.canvas
    box = (slice(None), slice(None), slice(None))
    knots = tuple(int(n * s / rng.uniform(11, 20)) for n, s in zip(c.hu.shape, c.spacing, strict=True))
    noise = smooth_noise(c.hu.shape, knots, rng)
    level = np.clip((c.z - chest.base) / (chest.apex - chest.base), 0, 1)
    upper = rng.random() < 0.8
    threshold = 0.7 - 1.4 * severity + (0.9 * (0.75 - level) if upper else 0.0)
    cover = np.clip((noise - threshold) / 0.35 + 0.5, 0, 1).astype(np.float32) * chest.lung * (c.hu < -650)
    c.paint(box, cover, float(rng.uniform(-990, -965)))
    c.mark("emphysema", box, cover)
    return [Instance("emphysema", "bilateral", "upper lobe" if upper else "", 0, severity, 1)]


def lung_nodule(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw one to six round nodules, solid, calcified or part ground glass."""
    c = chest.canvas
    count = 5 + int(rng.integers(0, 5)) + int(14 * severity)
    kind = rng.choice(3, p=(0.68, 0.28, 0.04))
    value = (float(rng.uniform(15, 70)), float(rng.uniform(200, 500)), float(rng.uniform(-450, -250)))[int(kind)]
    by_lobe: dict[tuple[str, str], list[float]] = {}
    for index in range(count):
        point, side, lobe = _lung_point(chest, rng)
        size = (20 + 24 * severity) * (1 if index == 0 else rng.uniform(0.6, 1.0))
        axes = tuple(size / 2 * rng.uniform(0.9, 1.1, 3))
        box, cover = c.ellipsoid(point, (axes[0], axes[1], axes[2]))
        c.paint(box, cover * (c.hu[box] < value), value)
        c.mark("lung_nodule", box, cover)
        by_lobe.setdefault((SIDES[side], lobe), []).append(size)
    return [
        Instance("lung_nodule", side, lobe, round(max(sizes)), severity, len(sizes))
        for (side, lobe), sizes in by_lobe.items()
    ]


def lymphadenopathy(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Enlarge nodes beside the trachea, below the carina and at the hila."""
    c, (cx, cy, cz) = chest.canvas, chest.carina
    stations: dict[str, Point] = {
        "paratracheal": (cx - 18, cy - 8, cz + 24),
        "subcarinal": (cx + 3, cy + 10, cz - 22),
        "hilar": (cx + float(rng.choice((-1, 1))) * 46, cy + 2, cz - 18),
        "mediastinum": (cx + 12, cy - 24, cz + 14),
    }
    names = list(rng.permutation(list(stations)))[: 3 + int(1.7 * severity)]
    size = 28 + 30 * severity
    for name in names:
        for _ in range(int(rng.integers(1, 4))):
            at = tuple(p + 7 * float(d) for p, d in zip(stations[name], rng.standard_normal(3), strict=True))
            axes = tuple(size / 2 * rng.uniform(0.7, 1.15, 3))
            box, cover = c.ellipsoid((at[0], at[1], at[2]), (axes[0], axes[1], axes[2]))
            c.paint(box, cover * (c.hu[box] < 90), float(rng.uniform(38, 75)))
            chest.lung[box] &= cover < 0.5
            c.mark("lymphadenopathy", box, cover)
    place = names[0]
    side = "" if place != "hilar" else ("right" if stations["hilar"][0] < cx else "left")
    return [Instance("lymphadenopathy", side, place, round(size), severity, len(names))]


def _deposits(
    chest: Chest, finding: str, path: list[Point], count: int, radius: float, rng: np.random.Generator
) -> None:
    """Put calcified spots along a path of points."""
    c = chest.canvas
    for _ in range(count):
        at = path[int(rng.integers(len(path)))]
        size = radius * float(rng.uniform(0.6, 1.3))
        box, cover = c.ellipsoid(at, (size, size, size * float(rng.uniform(1, 2))))
        c.paint(box, cover, float(rng.uniform(600, 1300)))
        c.mark(finding, box, cover)


def coronary_artery_wall_calcification(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Put deposits along the courses of the left anterior descending, circumflex and right arteries."""
    (hx, hy, hz), (a, b, h) = chest.heart_centre, chest.heart_axes
    t = np.linspace(0, 1, 24)
    courses = {
        "LAD": (hx + a * (0.05 + 0.55 * t), hy - b * (0.88 - 0.15 * t), hz + h * (0.5 - 0.9 * t)),
        "circumflex": (hx + a * (0.35 + 0.5 * t), hy + b * (-0.1 + 0.6 * t), hz + h * (0.5 - 0.4 * t)),
        "RCA": (hx - a * (0.45 + 0.35 * t), hy - b * (0.6 - 0.5 * t), hz + h * (0.4 - 0.9 * t)),
    }
    names = ["LAD", *(n for n in ("circumflex", "RCA") if rng.random() < 0.25 + 0.6 * severity)]
    for name in names:
        path = [(float(x), float(y), float(z)) for x, y, z in zip(*courses[name], strict=True)]
        _deposits(chest, "coronary_artery_wall_calcification", path, 5 + int(12 * severity), 4.2 + 3.6 * severity, rng)
    return [
        Instance("coronary_artery_wall_calcification", "", "LAD" if len(names) == 1 else "", 0, severity, len(names))
    ]


def arterial_wall_calcification(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Put plaques on the wall of the aortic arch and the descending aorta."""
    path: list[Point] = []
    for start, end in zip(chest.aorta[2:-1], chest.aorta[3:], strict=True):
        for t in np.linspace(0, 1, 12):
            angle = rng.uniform(0, 2 * np.pi)
            middle = [s + t * (e - s) for s, e in zip(start, end, strict=True)]
            path.append((middle[0] + 12.5 * np.cos(angle), middle[1] + 12.5 * np.sin(angle), middle[2]))
    _deposits(chest, "arterial_wall_calcification", path, 8 + int(30 * severity), 3.8 + 3.6 * severity, rng)
    place = "descending aorta" if rng.random() < 0.4 else "arch"
    return [Instance("arterial_wall_calcification", "", place, 0, severity, 1)]


def hiatal_hernia(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Put a pouch of stomach with air and fluid behind the heart."""
    c = chest.canvas
    size = 28 + 24 * severity
    # It sits on the hiatus: just above the diaphragm, in front of the spine.
    floor = float(chest.floor[:, int(np.argmin(np.abs(c.x.ravel()))), 0].max())
    at = (8 + 6 * float(rng.standard_normal()), 0.30 * chest.back, floor + 0.7 * size)
    box, cover = c.ellipsoid(at, (size, size * 0.9, size * 1.05))
    c.paint(box, cover, 45.0)
    chest.lung[box] &= cover < 0.5
    inner, lumen = c.ellipsoid(at, (size - 5, size * 0.9 - 5, size * 1.05 - 5))
    level = at[1] + size * float(rng.uniform(-0.7, 0.4))
    content = np.where(c.y[inner[0]] < level, np.float32(-930), np.float32(rng.uniform(10, 40)))
    c.paint(inner, lumen, content)
    c.mark("hiatal_hernia", box, cover)
    return [Instance("hiatal_hernia", "", "", round(2 * size), severity, 1)]


def medical_material(chest: Chest, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Place a pacemaker with its lead, a central venous catheter, sternal wires or an aortic stent."""
    c, p = chest.canvas, chest.patient
    kind = str(rng.choice(("pacemaker", "central venous catheter", "sternal wires", "stent")))
    side = 1 if rng.random() < 0.75 else -1
    metal = float(rng.uniform(2200, 3071))
    hx, hy, hz = chest.heart_centre

    def draw(path: list[Point], radius: float, value: float) -> None:
        for start, end in itertools.pairwise(path):
            box, cover = c.tube(start, end, radius)
            c.paint(box, cover, value)
            c.mark("medical_material", box, cover)

    top = chest.carina[2]
    if kind == "pacemaker":
        at: Point = (side * 0.62 * p.half_width, -0.72 * p.half_depth - 6, top + 35)
        box, cover = c.ellipsoid(at, (26, 10, 24))
        c.paint(box, cover, metal)
        c.mark("medical_material", box, cover)
        draw([at, (-22, hy + 14, top + 30), (-26, hy + 16, hz + 20), (hx - 12, hy - 8, hz - 12)], 3.8, metal)
    elif kind == "central venous catheter":
        draw(
            [(-38, -6, top + 90), (-24, hy + 16, top + 40), (-26, hy + 18, hz + 22)],
            5.0,
            float(rng.uniform(1400, 2600)),
        )
    elif kind == "sternal wires":
        for z in np.linspace(-48, 58, int(rng.integers(3, 7))):
            y = -0.9 * p.half_depth - 6
            draw([(-9, y - 3, z), (0, y - 9, z), (9, y - 3, z), (0, y + 5, z), (-9, y - 3, z)], 4.4, metal)
    else:
        start, end = np.array(chest.aorta[4]), np.array(chest.aorta[5])
        for t in np.linspace(0.0, 0.9, 7):
            x, y, z = start + t * (end - start)
            ring = [(x + 12 * np.cos(a), y + 12 * np.sin(a), z) for a in np.linspace(0, 2 * np.pi, 9)]
            draw([(float(a), float(b), float(d)) for a, b, d in ring], 4.5, metal)
    return [Instance("medical_material", SIDES[side] if kind == "pacemaker" else "", kind, 0, max(severity, 0.8), 1)]


# Drawn in this order: fluid and collapse before what lies inside aerated lung, metal last.
LESIONS: dict[str, Lesion] = {
    "cardiomegaly": cardiomegaly,
    "emphysema": emphysema,
    "pericardial_effusion": pericardial_effusion,
    "pleural_effusion": pleural_effusion,
    "hiatal_hernia": hiatal_hernia,
    "lymphadenopathy": lymphadenopathy,
    "lung_opacity": lung_opacity,
    "atelectasis": atelectasis,
    "consolidation": consolidation,
    "lung_nodule": lung_nodule,
    "arterial_wall_calcification": arterial_wall_calcification,
    "coronary_artery_wall_calcification": coronary_artery_wall_calcification,
    "medical_material": medical_material,
}
