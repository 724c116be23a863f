"""The generated patient: body, lungs, heart, vessels, spine and what lies around them, in mm (LPS)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from greenrfm.phantoms.canvas import WHOLE, Array, Canvas, Point, smooth_noise

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Patient:
    """What stays the same between two studies of one patient; lengths in mm, densities in HU."""

    age: int
    sex: str
    half_width: float
    half_depth: float
    height: float
    fat: float
    roundness: float
    heart_scale: float
    dome_right: float
    dome_left: float
    spine_curve: float
    bone: float
    muscle: float
    fat_hu: float
    vessel_scale: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """Draw a patient; age and sex shape the rest."""
        age = int(np.clip(rng.normal(58, 16), 20, 92))
        sex = "F" if rng.random() < 0.5 else "M"
        size = rng.normal(0.95 if sex == "F" else 1.04, 0.05)
        fat = float(np.clip(rng.gamma(6, 3.2), 6, 40))
        return cls(
            age=age,
            sex=sex,
            half_width=float(128 * size),
            half_depth=float(86 * size * rng.normal(1, 0.04)),
            height=float(rng.normal(225, 13) * size),
            fat=fat,
            roundness=float(rng.uniform(2.25, 2.65)),
            heart_scale=float(rng.uniform(0.86, 1.07)),
            dome_right=float(rng.uniform(25, 55)),
            dome_left=float(rng.uniform(15, 45)),
            spine_curve=float(rng.normal(0, 6)),
            bone=float(np.clip(rng.normal(330 - 2.2 * (age - 50), 100), 60, 620)),
            muscle=float(rng.uniform(35, 62)),
            fat_hu=float(rng.uniform(-118, -88)),
            vessel_scale=float(rng.uniform(0.8, 1.25)),
            seed=int(rng.integers(2**31)),
        )


@dataclass
class Chest:
    """A drawn chest: the canvas and the landmarks that lesions need (points in mm, masks on the grid)."""

    canvas: Canvas
    patient: Patient
    lung: Mask
    body: Mask
    right: Array
    heart_centre: Point
    heart_axes: Point
    blood: float
    base: float
    apex: float
    spine_y: float
    aorta: tuple[Point, ...]
    carina: Point
    floor: Array
    lung_hu: float
    back: float
    front: float
    extras: dict[str, float] = field(default_factory=dict)

    @property
    def dependent_surface(self) -> Array:
        """Return y in mm (shaped as `canvas.x`) of the curve behind which fluid gathers in a patient on the back."""
        across = self.canvas.x / (1.08 * self.patient.half_width)
        return np.asarray(0.86 * self.back * np.sqrt(np.clip(1 - across**2, 0.05, 1)))


def draw_chest(
    canvas: Canvas, patient: Patient, rng: np.random.Generator, *, contrast: bool, arms_up: bool, heart: float
) -> Chest:
    """Draw the healthy patient; `heart` multiplies the heart's size (cardiomegaly starts near 1.25)."""
    fixed = np.random.default_rng(patient.seed)  # the anatomy; `rng` holds what differs between studies
    p = patient
    x, y, z = canvas.x, canvas.y, canvas.z
    shape = canvas.hu.shape
    base, apex = -p.height / 2, p.height / 2
    wall = 13.0
    blood = float(rng.uniform(110, 190)) if contrast else float(rng.uniform(30, 52))
    muscle = p.muscle + (15 if contrast else 0)

    # Trunk: fat, muscle, cavity are nested superellipses that narrow towards the apex; shoulders widen again.
    taper = 1 - 0.42 * np.clip((z - 0.15 * p.height) / (0.42 * p.height), 0, 1) ** 2
    belly = 1 + 0.05 * np.clip(-(z - base) / 60, 0, 1)
    shoulder = 1 + (0.5 if arms_up else 0.75) * np.clip((z - apex + 55) / 60, 0, 1) ** 1.5

    def superellipse(a: Array | float, b: Array | float) -> Array:
        edge: Array = (np.abs(x / a) ** p.roundness + np.abs(y / b) ** p.roundness) ** (1 / p.roundness) - 1
        return edge

    inner_a, inner_b = p.half_width * taper, p.half_depth * (0.6 + 0.4 * taper)
    cavity = superellipse(inner_a, inner_b) * p.half_depth
    outer_a = (p.half_width + wall) * belly * np.maximum(shoulder * taper, 0.8)
    outer_b = (p.half_depth + wall) * belly * np.maximum(0.72 + 0.28 * taper, 0.8)
    trunk = superellipse(outer_a, outer_b) * p.half_depth
    skin = superellipse(outer_a + p.fat, outer_b + 0.8 * p.fat) * (p.half_depth + p.fat)
    canvas.paint(WHOLE, canvas.soft(skin), p.fat_hu)
    texture = smooth_noise(shape, (12, 12, 8), rng)
    canvas.paint(WHOLE, canvas.soft(trunk), muscle + 9 * texture)
    body = skin < 0

    if p.sex == "F":
        for side in (-1, 1):
            size = p.fat * fixed.uniform(0.9, 1.6) + 14
            centre = (side * 0.5 * p.half_width, -(p.half_depth + wall + 0.55 * p.fat), -0.05 * p.height)
            box, cover = canvas.ellipsoid(centre, (1.5 * size, size, 1.6 * size))
            canvas.paint(box, cover * (canvas.hu[box] < -400), p.fat_hu + 25 * fixed.random())
            body[box] |= cover > 0.5

    _arms_and_table(canvas, p, rng, body, arms_up, float(np.max(outer_b)) + 0.8 * p.fat)

    # The cavity is first all mediastinal fat; lungs, heart and vessels follow.
    canvas.paint(WHOLE, canvas.soft(cavity), p.fat_hu + 12 + 6 * texture)
    ribs = np.sin(2 * np.pi * (z + 0.55 * y + 3 * fixed.standard_normal()) / 27 + (x > 0) * 0.3) > 0.35
    shell = (cavity > 1) & (cavity < 9) & ribs & (np.abs(x) > 22)
    canvas.paint(WHOLE, canvas.soft(np.abs(cavity - 5) - 4) * shell, p.bone + 180)
    canvas.paint(*canvas.tube((0, -p.half_depth - 3, -60), (0, -0.82 * p.half_depth - 3, 70), 8.5), p.bone + 60)

    inspiration = float(rng.uniform(-8, 10))
    floor = _diaphragm(canvas, p, base - inspiration)
    blob = smooth_noise(shape, (5, 5, 4), fixed)
    canvas.paint(WHOLE, canvas.soft(cavity) * (z < floor), muscle + 12 + 4 * texture)
    _abdomen(canvas, p, floor, fixed, rng, contrast)

    # Lungs: the cavity above the diaphragm, beside a mediastinum that widens around the heart.
    lean = p.spine_curve * np.sin(z / 90)
    mid = 21 + 5 * fixed.random() + 9 * np.exp(-(((z - 0.1 * p.height) / 45) ** 2))
    beside = np.abs(x - lean) - mid - 9 * (y > 0.45 * p.half_depth)
    lung_edge = np.maximum(np.maximum(cavity + 3, -beside), np.maximum(floor - z, z - apex) * 0.8)
    lung_hu = float(rng.uniform(-875, -745))
    gravity = float(rng.uniform(15, 55)) * (y / p.half_depth)
    lung_values = lung_hu + gravity + float(rng.uniform(6, 16)) * smooth_noise(shape, (24, 24, 14), rng)
    canvas.paint(WHOLE, canvas.soft(lung_edge), lung_values + 5 * blob)
    lung = lung_edge < 0

    spine_y = 0.62 * p.half_depth
    _spine(canvas, p, spine_y, fixed)
    scale = p.heart_scale * heart * (0.55 + 0.45 * p.half_width / 128)
    axes = (53 * scale, 40 * scale, 48 * scale)
    centre = (13 + 9 * scale, -p.half_depth + 18 + axes[1], base + 38 + 0.62 * axes[2])
    for grown, value in ((5.0 + 9 * fixed.random(), p.fat_hu + 8), (1.5, 20.0), (0.0, blood + 6)):
        box, cover = canvas.ellipsoid(centre, (axes[0] + grown, axes[1] + grown, axes[2] + grown), 0.5)
        canvas.paint(box, cover, value + 5 * texture[box])
        lung[box] &= cover < 0.5
    # The muscle of the left ventricle shows only against contrast.
    wall_box, wall_cover = canvas.ellipsoid(
        (centre[0] + 15, centre[1], centre[2] - 8), (26 * scale, 24 * scale, 28 * scale)
    )
    canvas.paint(wall_box, wall_cover, 95.0 if contrast else blood)
    inner_box, inner_cover = canvas.ellipsoid(
        (centre[0] + 15, centre[1], centre[2] - 8), (17 * scale, 15 * scale, 20 * scale)
    )
    canvas.paint(inner_box, inner_cover, blood + 4)

    carina = (float(lean.mean()) - 2, 6.0, 0.16 * p.height + 8 * fixed.standard_normal())
    aorta = _great_vessels(canvas, p, carina, centre, spine_y, base, blood, fixed)
    _airways(canvas, carina, p, apex, fixed)
    _lung_vessels(canvas, p, lung, carina, blood, fixed)
    lung &= canvas.hu < -300
    return Chest(
        canvas, p, lung, body, (x < 0).astype(np.float32), centre, axes, blood, base - inspiration, apex,
        spine_y, aorta, carina, floor, lung_hu, float(p.half_depth), float(-p.half_depth),
    )  # fmt: skip


def _diaphragm(canvas: Canvas, p: Patient, base: float) -> Array:
    def dome(side: int, rise: float) -> Array:
        r2 = ((canvas.x - side * 0.5 * p.half_width) / (0.55 * p.half_width)) ** 2 + (canvas.y / p.half_depth) ** 2
        height: Array = rise * np.clip(1 - r2, -1.2, 1)
        return height

    floor: Array = base + 8 + np.maximum(dome(-1, p.dome_right), dome(1, p.dome_left))
    return floor.astype(np.float32)


def _abdomen(
    canvas: Canvas, p: Patient, floor: Array, fixed: np.random.Generator, rng: np.random.Generator, contrast: bool
) -> None:
    below = floor - canvas.z
    liver = fixed.uniform(35, 65) + (45 if contrast else 0)
    inside = (canvas.hu > -200) & (below > 2) & (np.abs(canvas.y) < p.half_depth * 1.02)
    canvas.paint(
        WHOLE, (inside & (canvas.x < 0.2 * p.half_width) & (canvas.x > -0.9 * p.half_width)).astype(np.float32), liver
    )
    stomach: Point = (0.42 * p.half_width, -5, float(floor.min()) - 4)
    box, cover = canvas.ellipsoid(stomach, (36, 32, 40))
    cover = cover * (below[box] > 3)
    level = rng.uniform(-20, 15)
    canvas.paint(box, cover, np.where(canvas.y[box[0]] < level, np.float32(-950), np.float32(25)))


def _spine(canvas: Canvas, p: Patient, spine_y: float, fixed: np.random.Generator) -> None:
    radius = 15 + 3 * fixed.random()
    y0 = spine_y + 14
    near = canvas.box((-32, y0 - radius - 2, -1e6), (32, y0 + 52, 1e6))
    x, y, z = canvas.grid(near)
    x = x - p.spine_curve * np.sin(z / 90)
    distance = np.sqrt(x**2 + (y - y0) ** 2) - radius
    disc = (np.sin(2 * np.pi * z / 24) > 0.86).astype(np.float32)
    cortex = np.exp(-((distance + 1) ** 2) / 5)
    canvas.paint(near, canvas.soft(distance), (p.bone - 40) * (1 - disc) + 85 * disc + 240 * cortex)
    process = np.maximum(np.abs(x) - 5 - 12 * (y < y0 + 26), np.abs(y - y0 - 30) - 16)
    canvas.paint(near, canvas.soft(process) * (np.sin(2 * np.pi * z / 24 + 1) > -0.4), p.bone + 40)
    canal = np.sqrt(x**2 + (y - y0 - radius - 8) ** 2) - 7
    canvas.paint(near, canvas.soft(canal), 25)


def _great_vessels(
    canvas: Canvas,
    p: Patient,
    carina: Point,
    heart: Point,
    spine_y: float,
    base: float,
    blood: float,
    fixed: np.random.Generator,
) -> tuple[Point, ...]:
    radius = float(fixed.uniform(11, 14.5) + 0.06 * (p.age - 50))
    top = carina[2] + fixed.uniform(22, 34)
    aorta: tuple[Point, ...] = (
        (-8, heart[1] + 8, heart[2] + 20),
        (-14, heart[1] + 12, top - 18),
        (-4, heart[1] + 26, top),
        (12, 0.4 * spine_y, top + 2),
        (20, spine_y - 14, top - 16),
        (20, spine_y - 8, base + 60),
        (12, spine_y - 12, base - 60),
    )
    for start, end in itertools.pairwise(aorta):
        canvas.paint(*canvas.tube(start, end, radius), blood)
    cava_top: Point = (-24, heart[1] + 16, top + 40)
    canvas.paint(*canvas.tube((-26, heart[1] + 18, heart[2] + 10), cava_top, 9), blood * 0.95)
    trunk: Point = (12, heart[1] + 12, carina[2] - 4)
    for side in (-1, 1):
        hilum: Point = (side * 42, carina[1] - 4, carina[2] - 14)
        canvas.paint(*canvas.tube(trunk, hilum, 10), blood)
    for x in (-18, 4, 22):
        canvas.paint(*canvas.tube((x * 0.6, 0, top), (x * 1.3, 2, top + 70), 5.5), blood)
    return aorta


def _airways(canvas: Canvas, carina: Point, p: Patient, apex: float, fixed: np.random.Generator) -> None:
    trachea: Point = (carina[0] + 3 * fixed.standard_normal(), carina[1] - 8, apex + 70)
    oesophagus = ((4, carina[1] + 17, apex + 60), (8, carina[1] + 22, carina[2] - 60), (10, 30, -0.5 * p.height - 20))
    for start, end in itertools.pairwise(oesophagus):
        canvas.paint(*canvas.tube(start, end, 7), p.muscle)
    for radius, value in ((9.5, p.muscle), (7.5, -990.0)):
        canvas.paint(*canvas.tube(carina, trachea, radius), value)
        for side, drop in ((-1, 22), (1, 26)):
            canvas.paint(*canvas.tube(carina, (side * 38, carina[1] + 4, carina[2] - drop), radius - 2.2), value)


def _lung_vessels(
    canvas: Canvas, p: Patient, lung: Mask, carina: Point, blood: float, fixed: np.random.Generator
) -> None:
    """Branching vessels from each hilum outwards; they end where the lung ends.

    Every patient has the same tree, stretched and jittered: the large branches of real lungs are alike too.
    """
    tree = np.random.default_rng(1)
    value = min(blood, 120.0)
    for side in (-1, 1):
        hilum: Point = (side * 40, carina[1], carina[2] - 16)
        tips = [(hilum, 5.5 * p.vessel_scale)]
        for _ in range(24):
            start, radius = tips[int(tree.integers(len(tips)))] if len(tips) > 3 else tips[0]
            direction = tree.standard_normal(3) * (0.75, 0.8, 1.0) + (side * 0.55, 0.1, -0.1)
            direction = direction / np.linalg.norm(direction) + 0.25 * fixed.standard_normal(3)
            length = tree.uniform(18, 42) * p.half_width / 128
            end: Point = (
                start[0] + float(direction[0]) * length,
                start[1] + float(direction[1]) * length,
                start[2] + float(direction[2]) * length,
            )
            radius = max(radius * tree.uniform(0.6, 0.85), 1.0)
            box, cover = canvas.tube(start, end, radius)
            canvas.paint(box, cover * lung[box], value)
            tips.append((end, radius))


def _arms_and_table(
    canvas: Canvas, p: Patient, rng: np.random.Generator, body: Mask, arms_up: bool, back: float
) -> None:
    if not arms_up:
        for side in (-1, 1):
            at = side * (p.half_width + p.fat + 62 + 8 * rng.standard_normal())
            tilt = 12 * rng.standard_normal()
            ends: tuple[Point, Point] = ((at, 15 + tilt, -400), (at - side * 14, 10, 400))
            for radius, value in ((38 + 0.4 * p.fat, p.fat_hu), (34, p.muscle), (11, p.bone + 320), (6, 40.0)):
                box, cover = canvas.tube(*ends, radius)
                outside = (canvas.hu[box] < -400) if radius > 36 else 1
                canvas.paint(box, cover * outside, value)
                body[box] |= cover > 0.5
    if rng.random() < 0.9:
        top = back + rng.uniform(3, 12)
        curve = rng.choice((0.0, 0.0011, 0.0018))
        sheet = canvas.y + curve * canvas.x**2 - top - curve * 9000 * 0.0
        inside = (np.abs(canvas.x) < 215) & ~body
        canvas.paint(WHOLE, canvas.soft(np.abs(sheet - 14) - 14) * inside, float(rng.uniform(-940, -820)))
        canvas.paint(WHOLE, canvas.soft(np.abs(sheet - 2) - 2) * inside, float(rng.uniform(-400, 60)))
