"""The generated knee: bones, cartilage, menisci and ligaments in mm, and the signal of each tissue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenrfm.phantoms.canvas import WHOLE, Array, Box, Canvas, Point, smooth_noise

SEQUENCES = ("pd", "t1", "t2fs")
# Signal of each tissue in proton density, T1, and fat-suppressed T2: 0 is none, 1 the brightest.
SIGNAL = {
    "air": (0.01, 0.01, 0.01),
    "skin": (0.45, 0.40, 0.30),
    "fat": (0.85, 0.95, 0.13),
    "marrow": (0.72, 0.80, 0.12),
    "cortex": (0.06, 0.06, 0.04),
    "muscle": (0.44, 0.38, 0.28),
    "cartilage": (0.62, 0.46, 0.50),
    "meniscus": (0.10, 0.11, 0.07),
    "ligament": (0.13, 0.13, 0.09),
    "capsule": (0.55, 0.45, 0.35),
    "vessel": (0.30, 0.25, 0.55),
    "fluid": (0.85, 0.24, 1.00),
    "tear": (0.75, 0.36, 0.85),
    "edema": (0.50, 0.34, 0.72),
    "synovium": (0.62, 0.36, 0.68),
    "scar": (0.30, 0.28, 0.24),
    "void": (0.00, 0.00, 0.00),
}
EXTENT = (144.0, 140.0, 144.0)  # mm that are drawn (H, W, D): posterior, left, superior
MEDIAL, LATERAL = 22.0, -22.0  # u of the middle of each compartment
PLATEAU = -7.0  # z of the tibial plateau


@dataclass(frozen=True)
class KneePatient:
    """What stays the same between two studies of one knee; lengths in mm, `side` is "right" or "left"."""

    age: int
    sex: str
    side: str
    size: float
    fat: float
    cartilage: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> KneePatient:
        """Draw a patient; age and sex shape the rest."""
        age = int(np.clip(rng.normal(44, 17), 14, 88))
        sex = "F" if rng.random() < 0.5 else "M"
        return cls(
            age=age,
            sex=sex,
            side="right" if rng.random() < 0.5 else "left",
            size=float(np.clip(rng.normal(0.94 if sex == "F" else 1.04, 0.04), 0.85, 1.13)),
            fat=float(np.clip(rng.gamma(5, 1.6), 3, 15)),
            cartilage=float(rng.uniform(2.2, 3.2)),
            seed=int(rng.integers(2**31)),
        )


@dataclass
class Knee:
    """A drawn knee: one canvas a sequence over the same grid.

    Places are (u, y, z) in mm from the middle of the joint: u to the medial side whichever knee it is, y to posterior,
    z to superior. `masks` of the first canvas are the truth.
    """

    canvases: dict[str, Canvas]
    patient: KneePatient
    noise: Array

    @classmethod
    def blank(cls, patient: KneePatient, rng: np.random.Generator, step: float = 1.0) -> Knee:
        """Return a knee's empty field, drawn on voxels of `step` mm."""
        rows, columns, slices = (round(length / step) for length in EXTENT)
        shape = (rows, columns, slices)
        canvases = {name: Canvas.blank(shape, (step, step, step), (0, 0, 0)) for name in SEQUENCES}
        for canvas in canvases.values():
            canvas.hu[...] = SIGNAL["air"][0]
        return cls(canvases, patient, smooth_noise(shape, (20, 20, 20), rng))

    @property
    def grid(self) -> Canvas:
        """Return the canvas whose coordinates, shapes and masks serve for all."""
        return self.canvases[SEQUENCES[0]]

    @property
    def u(self) -> Array:
        """Return the distance to the medial side in mm, shaped as `grid.x`, in units of this patient's size."""
        return self.grid.x * np.float32(self.medial / self.patient.size)

    @property
    def medial(self) -> int:
        """Return the direction of x, the patient's left, in which the medial side lies."""
        return 1 if self.patient.side == "right" else -1

    def at(self, u: float, y: float, z: float) -> Point:
        """Return the place (x, y, z) on the canvas of a place in a knee of average size."""
        size = self.patient.size
        return u * self.medial * size, y * size, z * size

    def paint(self, box: Box, cover: Array, tissue: str, texture: float = 0.03) -> None:
        """Blend a tissue into a box with coverage 0 to 1; its signal varies smoothly by the share `texture`."""
        vary = 1 + texture * self.noise[box]
        for canvas, signal in zip(self.canvases.values(), SIGNAL[tissue], strict=True):
            canvas.paint(box, cover, signal * vary)

    def ellipsoid(self, tissue: str, centre: Point, axes: Point, turn: float = 0.0, texture: float = 0.03) -> None:
        """Paint an ellipsoid; centre and half-axes as of a knee of average size."""
        self.paint(*self.ball(centre, axes, turn), tissue, texture)

    def ball(self, centre: Point, axes: Point, turn: float = 0.0) -> tuple[Box, Array]:
        """Return box and coverage of an ellipsoid; centre and half-axes as of a knee of average size."""
        size = self.patient.size
        return self.grid.ellipsoid(self.at(*centre), (axes[0] * size, axes[1] * size, axes[2] * size), turn)

    def rod(self, start: Point, end: Point, radius: float) -> tuple[Box, Array]:
        """Return box and coverage of a rod; places and radius as of a knee of average size."""
        return self.grid.tube(self.at(*start), self.at(*end), radius * self.patient.size)

    def tube(self, tissue: str, start: Point, end: Point, radius: float, texture: float = 0.03) -> None:
        """Paint a rod."""
        self.paint(*self.rod(start, end, radius), tissue, texture)

    def meniscus(self, middle: float) -> Array:
        """Return the coverage, on the whole grid, of the meniscus around u = `middle`: a wedge open to the notch."""
        du, dy = self.u - middle, self.grid.y / self.patient.size
        radius = np.hypot(du, dy / 1.2)
        above = self.grid.z / self.patient.size - (PLATEAU + 2.0)
        height = 7.5 * np.clip((radius - 8.0) / 10.0, 0, 1)
        opening = -np.sign(middle) * du / np.maximum(radius, 1e-3)
        edge = np.maximum.reduce([above - height, -above + 0 * radius, radius - 19 + 0 * above, 8 - radius + 0 * above])
        return self.grid.soft(np.maximum(edge, 12 * (opening - 0.7) + 0 * above) * self.patient.size)

    def mark(self, finding: str, box: Box, cover: Array) -> None:
        """Add to the finding's truth mask."""
        self.grid.mark(finding, box, cover)

    @property
    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Return the truth mask of each finding."""
        return self.grid.masks


CONDYLES = ((MEDIAL, 4.0, 18.0), (LATERAL, 3.0, 18.0))
CONDYLE = (15.5, 27.0, 19.0)


def draw_knee(patient: KneePatient, rng: np.random.Generator, narrowing: float = 0.0, step: float = 1.0) -> Knee:
    """Draw the healthy knee, but for cartilage that `narrowing` (0 to 1) takes away, on voxels of `step` mm."""
    fixed = np.random.default_rng(patient.seed)
    knee = Knee.blank(patient, rng, step)
    g, fat = knee.grid, patient.fat
    # The leg: wider above than below, the calf behind.
    a = (52 + 0.10 * g.z) * patient.size
    b = (50 + 0.12 * g.z) * patient.size
    y = g.y + 1.5
    leg = (np.hypot(g.x / (a + fat), y / (b + fat)) - 1) * (a + fat)
    knee.paint(WHOLE, g.soft(leg), "skin")
    knee.paint(WHOLE, g.soft(leg + 2), "fat", 0.05)
    away = np.clip((np.abs(g.z + 0.15 * g.y) - 16) / 16, 0, 1)  # muscle thins out towards the joint
    knee.paint(
        WHOLE, g.soft((np.hypot(g.x / a, y / b) - 1) * a + 2 + fat * 0.4 + 8 * (1 - away)) * away, "muscle", 0.06
    )
    for u, depth, radius in ((24, 30, 13), (-22, 32, 12), (8, 36, 9)):  # muscles behind and their fat planes
        knee.tube("muscle", (u, depth, -90), (u + 4, depth + 2, 90), radius, 0.06)
    knee.tube("vessel", (-3, 33, -90), (-3, 33, 90), 4.0)
    knee.tube("vessel", (4, 35, -90), (4, 35, 90), 3.0)
    knee.ellipsoid("capsule", (0, 3, -2), (41, 31, 10))
    knee.ellipsoid("fat", (0, -31, -6), (19, 12, 17), texture=0.05)  # Hoffa's fat pad
    _tibia(knee)
    thickness = patient.cartilage * (1 - 0.75 * narrowing)
    knee.paint(*_plate(knee, thickness), "cartilage")
    for middle in (MEDIAL, LATERAL):
        knee.paint(WHOLE, knee.meniscus(middle), "meniscus")
    _femur(knee, thickness)
    _ligaments(knee, fixed)
    _extensors(knee, thickness)
    return knee


def _tibia(knee: Knee) -> None:
    """Paint the head that narrows to the shaft, and the fibula."""
    g, size = knee.grid, knee.patient.size
    z, u, y = g.z / size, knee.u, g.y / size
    below = PLATEAU - z
    a = 15 + 23 * np.exp(-np.clip(below - 4, 0, None) / 16)
    b = 14 + 12 * np.exp(-np.clip(below - 4, 0, None) / 18)
    edge = np.maximum((np.hypot(u / a, (y - 2) / b) - 1) * b, -below)
    knee.paint(WHOLE, g.soft(edge * size), "cortex")
    knee.paint(WHOLE, g.soft((edge + 1.6) * size), "marrow", 0.05)
    knee.ellipsoid("cortex", (0, 2, PLATEAU), (6, 6, 4.5))  # the eminence between the compartments
    for tissue, radius in (("cortex", 6.5), ("marrow", 4.8)):
        knee.tube(tissue, (-33, 18, -25), (-35, 20, -90), radius)


def _plate(knee: Knee, thickness: float) -> tuple[Box, Array]:
    """Return the tibial cartilage: two discs on the plateau."""
    g, size = knee.grid, knee.patient.size
    u, y, z = knee.u, g.y / size, g.z / size
    radius = np.minimum(np.hypot(u - MEDIAL, (y - 1) / 1.25), np.hypot(u - LATERAL, (y - 1) / 1.25))
    edge = np.maximum(radius - 16, np.abs(z - PLATEAU - thickness / 2) - thickness / 2)
    return WHOLE, g.soft(edge * size)


def _femur(knee: Knee, thickness: float) -> None:
    """Paint cartilage over the condyles, then the bone inside, with the notch between."""
    for centre in CONDYLES:
        axes = (CONDYLE[0] + 0.6 * thickness, CONDYLE[1] + thickness, CONDYLE[2] + thickness)
        box, cover = knee.ball(centre, axes)
        _, y, z = knee.grid.grid(box)
        knee.paint(box, cover * ((z < 20) | (y < -8)), "cartilage")
    for tissue, less in (("cortex", 0.0), ("marrow", 1.6)):
        for centre in CONDYLES:
            knee.ellipsoid(tissue, centre, (CONDYLE[0] - less, CONDYLE[1] - less, CONDYLE[2] - less), texture=0.05)
        knee.ellipsoid(tissue, (0, -10, 24), (27 - less, 14 - less, 15 - less), texture=0.05)
        knee.tube(tissue, (0, -6, 36), (0, -8, 90), 17 - less, 0.05)
    knee.ellipsoid("capsule", (0, 16, 9), (8, 19, 15))


def _ligaments(knee: Knee, fixed: np.random.Generator) -> None:
    lean = float(fixed.normal(0, 1))
    knee.tube("ligament", *ACL, 3.4)
    knee.tube("ligament", *PCL_UPPER, 3.8)
    knee.tube("ligament", *PCL_LOWER, 3.8)
    for step in (-5, 0, 5):
        knee.tube("ligament", (MCL[0][0], MCL[0][1] + step + lean, MCL[0][2]),
                  (MCL[1][0], MCL[1][1] + step + lean, MCL[1][2]), 1.6)  # fmt: skip
    knee.tube("ligament", *LCL, 2.2)


def _extensors(knee: Knee, thickness: float) -> None:
    """Paint patella, quadriceps and patellar tendon, and a thin film of fluid above."""
    knee.ellipsoid("fluid", (0, -27, 44), (14, 1.2, 10))
    knee.ellipsoid("cartilage", (0, -38.5 + thickness, 24), (17, 7, 15))
    knee.ellipsoid("cortex", PATELLA, (19, 9, 18))
    knee.ellipsoid("marrow", PATELLA, (17.4, 7.4, 16.4), texture=0.05)
    for u in (-6, 0, 6):
        knee.tube("ligament", (u, -46, 40), (u, -40, 90), 3.0)
        knee.tube("ligament", (u, -47, 8), (0.7 * u, -34, -34), 2.2)


ACL: tuple[Point, Point] = ((-7, 17, 14), (2, -9, -7))
PCL_UPPER: tuple[Point, Point] = ((6, 2, 12), (3, 18, 2))
PCL_LOWER: tuple[Point, Point] = ((3, 18, 2), (0, 25, -14))
MCL: tuple[Point, Point] = ((39, 2, 24), (35, -3, -42))
LCL: tuple[Point, Point] = ((-39, 5, 20), (-35, 17, -24))
PATELLA: Point = (0, -41, 24)
