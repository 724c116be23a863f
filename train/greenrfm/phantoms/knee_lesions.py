"""The findings of knee-mr-14 that a generated knee can have, each drawn with its truth mask.

A lesion takes the drawn knee, a severity from 0 (subtle) to 1 (marked) and a random generator, paints, marks every
voxel that belongs to it, and returns what a radiologist could say of it. "normal" is drawn by nothing: it is the
absence of all others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from greenrfm.phantoms.canvas import WHOLE, Array, Box, Point, smooth_noise
from greenrfm.phantoms.knee_anatomy import (
    ACL,
    CONDYLE,
    CONDYLES,
    LATERAL,
    LCL,
    MCL,
    MEDIAL,
    PATELLA,
    PCL_LOWER,
    PCL_UPPER,
    PLATEAU,
    Knee,
)
from greenrfm.phantoms.phrases import Instance

Lesion = Callable[[Knee, float, np.random.Generator], list[Instance]]
# Log-odds without any condition, then the gains by condition: injury, wear (rises with age), earlier surgery.
GAINS: dict[str, tuple[float, tuple[float, float, float]]] = {
    "medial_meniscus": (-0.6, (0.7, 0.8, 0.2)),
    "lateral_meniscus": (-1.1, (0.8, 0.4, 0.0)),
    "acl": (-1.2, (1.5, -0.3, 0.2)),
    "pcl": (-2.0, (1.1, -0.1, 0.0)),
    "mcl": (-1.5, (1.4, -0.2, 0.0)),
    "lcl": (-2.0, (1.1, -0.2, 0.0)),
    "cartilage_defect": (-0.8, (0.1, 1.4, 0.2)),
    "bone_marrow_edema": (-0.9, (1.3, 0.6, 0.0)),
    "fracture": (-1.9, (1.3, 0.0, 0.0)),
    "effusion_or_baker_cyst": (-0.4, (1.0, 0.6, 0.2)),
    "synovitis_or_bursitis": (-1.3, (0.2, 0.8, 0.2)),
    "post_operative": (-2.2, (0.0, 0.2, 2.0)),
    "osteoarthritis": (-1.4, (-0.2, 1.8, 0.2)),
}
KNOTS = 0.12  # of the noise at a lesion's edge, a millimetre
HEALTHY = 0.15  # of studies have nothing at all


def draw_findings(age: int, rng: np.random.Generator) -> dict[str, float]:
    """Return the present findings with their severity: 0 is barely visible, 1 marked."""
    conditions = np.array([rng.standard_normal(), (age - 44) / 17 + 0.5 * rng.standard_normal(), rng.standard_normal()])
    healthy = rng.random() < HEALTHY
    present = {}
    for finding, (offset, gains) in GAINS.items():
        severity = float(rng.beta(1.8, 1.3))
        if rng.random() < 1 / (1 + np.exp(-(offset + float(np.dot(gains, conditions))))) and not healthy:
            present[finding] = severity
    if "fracture" in present:  # no fresh fracture without edema around it
        present.setdefault("bone_marrow_edema", present["fracture"])
    return present


def _blob(knee: Knee, centre: Point, axes: Point, rng: np.random.Generator, rough: float = 0.22) -> tuple[Box, Array]:
    """Return an ellipsoid whose edge is moved by smooth noise; centre and half-axes as of an average knee."""
    grown = (axes[0] * 1.4, axes[1] * 1.4, axes[2] * 1.4)
    box, _ = knee.ball(centre, grown)
    g, size = knee.grid, knee.patient.size
    x, y, z = g.grid(box)
    at = knee.at(*centre)
    radius = np.sqrt(
        ((x - at[0]) / (axes[0] * size)) ** 2 + ((y - at[1]) / (axes[1] * size)) ** 2
        + ((z - at[2]) / (axes[2] * size)) ** 2
    )  # fmt: skip
    knots = tuple(max(2, int(count * step * KNOTS)) for count, step in zip(radius.shape, g.spacing, strict=True))
    edge = radius + rough * smooth_noise(radius.shape, knots, rng)
    return box, g.soft((edge - 1) * min(axes) * size)


def _torn(key: str, middle: float) -> Lesion:
    def tear(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
        """Draw a bright cleft through the posterior horn or the body; a marked one takes a part away."""
        whole = knee.meniscus(middle)
        g, size = knee.grid, knee.patient.size
        posterior = rng.random() < 0.7
        angle = rng.uniform(0.9, 1.5) if posterior else rng.uniform(-0.3, 0.5)
        outward = float(np.sign(middle))
        u, y = knee.u - middle, g.y / size / 1.2
        along = outward * np.cos(angle) * u + np.sin(angle) * y  # towards the torn place
        across = -outward * np.sin(angle) * u + np.cos(angle) * y
        width = 1.4 + 4.5 * severity
        cleft = np.maximum(np.abs(across) - width, -along) + 0 * g.z
        tilted = np.abs(across - 0.8 * (g.z / size - PLATEAU - 4)) - width if severity < 0.5 else cleft
        cover = whole * g.soft(np.maximum(tilted, -along + 0 * g.z) * size)
        knee.paint(WHOLE, cover, "tear")
        knee.mark(key, WHOLE, cover)
        return [Instance(key, "", "posterior horn" if posterior else "body", 0, severity, 1)]

    return tear


def _rupture(key: str, course: tuple[tuple[Point, Point], ...], radius: float) -> Lesion:
    def rupture(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
        """Swell the ligament with bright signal; a marked lesion interrupts its fibres."""
        first = course[0]
        for start, end in course:
            box, cover = knee.rod(start, end, radius * (1.3 + 0.7 * severity))
            knee.paint(box, cover * (0.35 + 0.6 * severity), "tear", 0.15)
            knee.mark(key, box, cover)
            if severity < 0.5:  # a partial tear: some fibres go on
                knee.tube("ligament", start, end, 0.5 * radius)
        where = rng.uniform(0.3, 0.7)
        middle = tuple(a + where * (b - a) for a, b in zip(*first, strict=True))
        extent = (1.6 + 1.6 * severity) * radius
        box, cover = _blob(knee, (middle[0], middle[1], middle[2]), (extent, extent, extent), rng)
        knee.paint(box, cover * (0.3 + 0.6 * severity), "edema", 0.1)
        knee.mark(key, box, cover)
        return [Instance(key, "", "", 0, severity, 1)]

    return rupture


PLACES: dict[str, tuple[Point, Point]] = {  # a bone's place: its middle, and the surface that bears weight
    "medial femoral condyle": (CONDYLES[0], (MEDIAL, 4, 18 - CONDYLE[2])),
    "lateral femoral condyle": (CONDYLES[1], (LATERAL, 3, 18 - CONDYLE[2])),
    "medial tibial plateau": ((MEDIAL, 2, -16), (MEDIAL, 1, PLATEAU)),
    "lateral tibial plateau": ((LATERAL, 2, -16), (LATERAL, 1, PLATEAU)),
    "patella": (PATELLA, (0, -34, 24)),
}


def _bone(rng: np.random.Generator, names: tuple[str, ...] = tuple(PLACES)) -> str:
    return names[int(rng.integers(len(names)))]


def cartilage_defect(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Fill a gap in the cartilage with fluid, with a little edema in the bone behind it."""
    place = _bone(rng, ("medial femoral condyle", "medial femoral condyle", "lateral femoral condyle", "patella"))
    u, y, z = PLACES[place][1]
    shift = (float(rng.uniform(-4, 4)), float(rng.uniform(-8, 6)))
    size = 4 + 7 * severity
    centre = (u + shift[0], y, z + shift[1]) if place == "patella" else (u + shift[0], y + shift[1], z - 0.5)
    axes = (size, 2.8, size) if place == "patella" else (size, size, 2.8)
    box, cover = knee.ball(centre, axes)
    knee.paint(box, cover, "fluid")
    knee.mark("cartilage_defect", box, cover)
    return [Instance("cartilage_defect", "", place, round(2 * size), severity, 1)]


def bone_marrow_edema(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw a cloud of fluid signal in the marrow."""
    place = _bone(rng)
    _cloud(knee, place, severity, rng, "bone_marrow_edema")
    return [Instance("bone_marrow_edema", "", place, round(18 + 16 * severity), severity, 1)]


def _cloud(knee: Knee, place: str, severity: float, rng: np.random.Generator, key: str) -> None:
    size = (9 + 8 * severity) * (0.6 if place == "patella" else 1)
    box, cover = _blob(knee, PLACES[place][0], (size, size, size), rng)
    marrow = knee.canvases["t1"].hu[box] > 0.6  # edema stays inside the bone
    knee.paint(box, cover * marrow * (0.5 + 0.45 * severity), "edema", 0.1)
    knee.mark(key, box, cover * marrow)


def fracture(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw a dark line through a plateau or condyle, in a cloud of edema."""
    place = _bone(rng, ("medial tibial plateau", "lateral tibial plateau", "lateral femoral condyle"))
    _cloud(knee, place, 0.4 + 0.6 * severity, rng, "bone_marrow_edema")
    u, y, z = PLACES[place][0]
    g, size = knee.grid, knee.patient.size
    tilt = rng.uniform(-0.7, 0.7)
    plane = np.abs((g.z / size - z) * np.cos(tilt) + (knee.u - u) * np.sin(tilt)) - (0.9 + 1.0 * severity)
    near = np.sqrt((knee.u - u) ** 2 + ((g.y / size - y) / 1.3) ** 2 + (g.z / size - z) ** 2) - (11 + 6 * severity)
    inside = (knee.canvases["t1"].hu > 0.25) & (np.abs(knee.u - u) < 18)
    cover = g.soft(np.maximum(plane, near) * size) * inside
    knee.paint(WHOLE, cover, "cortex")
    knee.mark("fracture", WHOLE, cover)
    return [Instance("fracture", "", place, 0, severity, 1)]


def effusion_or_baker_cyst(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Fill the suprapatellar recess with fluid, or draw a cyst behind the medial condyle, or both."""
    kind = rng.random()
    found = []
    if kind < 0.8:
        depth = 3 + 8 * severity
        box, cover = _blob(knee, (0, -30, 46), (22, depth, 17 + 6 * severity), rng, 0.1)
        knee.paint(box, cover, "fluid")
        knee.mark("effusion_or_baker_cyst", box, cover)
        for side in (-1, 1):  # and beside the condyles
            box, cover = _blob(knee, (side * 37, -10, 14), (2 + 4 * severity, 12, 13), rng, 0.1)
            knee.paint(box, cover, "fluid")
            knee.mark("effusion_or_baker_cyst", box, cover)
        found.append(Instance("effusion_or_baker_cyst", "", "effusion", round(2 * depth), severity, 1))
    if kind > 0.65:
        size = 6 + 7 * severity
        box, cover = _blob(knee, (17, 40, -2), (size, 0.7 * size, 1.7 * size), rng, 0.1)
        knee.paint(box, cover, "fluid")
        knee.mark("effusion_or_baker_cyst", box, cover)
        found.append(Instance("effusion_or_baker_cyst", "", "cyst", round(3.4 * size), severity, 1))
    return found


def synovitis_or_bursitis(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw a thick, uneven synovium in the fat pad and recess, or a bursa in front of the patella."""
    if rng.random() < 0.5:
        box, cover = _blob(knee, (0, -51, 16), (15 + 4 * severity, 2 + 3 * severity, 14), rng, 0.15)
        knee.paint(box, cover, "fluid", 0.1)
        knee.mark("synovitis_or_bursitis", box, cover)
        return [Instance("synovitis_or_bursitis", "", "bursitis", 0, severity, 1)]
    for centre, axes in (((0, -27, -2), (14, 6, 9)), ((0, -29, 42), (19, 4, 12)), ((0, 12, -2), (9, 9, 5))):
        grown = (axes[0] * (0.7 + 0.5 * severity), axes[1] * (0.7 + 0.6 * severity), axes[2] * (0.7 + 0.5 * severity))
        box, cover = _blob(knee, centre, grown, rng, 0.45)
        knee.paint(box, cover * (0.6 + 0.4 * severity), "synovium", 0.3)
        knee.mark("synovitis_or_bursitis", box, cover)
    return [Instance("synovitis_or_bursitis", "", "synovitis", 0, severity, 1)]


def post_operative(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw the tunnels of a ligament graft with metal that takes the signal around it."""
    for start, end in (((1, -8, -8), (10, -22, -42)), ((-8, 14, 16), (-26, -2, 46))):
        box, cover = knee.rod(start, end, 5.0)
        knee.paint(box, cover, "scar")
        knee.mark("post_operative", box, cover)
        where = rng.uniform(0.4, 0.7)
        u, y, z = (a + where * (b - a) for a, b in zip(start, end, strict=True))
        size = 4.5 + 5 * severity
        box, cover = _blob(knee, (u, y, z), (size, size, size), rng, 0.15)
        knee.paint(box, cover, "void", 0)
        knee.mark("post_operative", box, cover)
    return [Instance("post_operative", "", "", 0, severity, 1)]


def osteoarthritis(knee: Knee, severity: float, rng: np.random.Generator) -> list[Instance]:
    """Draw osteophytes at the margins and sclerosis below the plateau; `draw_knee` has thinned the cartilage."""
    for outward in (-1, 1):
        for z, y in ((3.0, 0.0), (PLATEAU - 2, 0.0), (10.0, -14.0)):
            size = 2.5 + 4 * severity * rng.uniform(0.7, 1.2)
            centre = (outward * (38 + size), y, z)
            knee.ellipsoid("cortex", centre, (size, size + 2, size))
            knee.ellipsoid("marrow", centre, (max(size - 1.3, 0.5), size, max(size - 1.3, 0.5)))
            knee.mark("osteoarthritis", *knee.ball(centre, (size, size + 2, size)))
    for middle in (MEDIAL, LATERAL):
        box, cover = knee.ball((middle, 1, PLATEAU - 3), (12, 13, 1.5 + 3 * severity))
        knee.paint(box, cover * (0.4 + 0.5 * severity), "cortex")
        knee.mark("osteoarthritis", box, cover)
    return [Instance("osteoarthritis", "", "", 0, severity, 1)]


# In the order of drawing: bone first, fluid over it, metal last.
LESIONS: dict[str, Lesion] = {
    "osteoarthritis": osteoarthritis,
    "bone_marrow_edema": bone_marrow_edema,
    "fracture": fracture,
    "medial_meniscus": _torn("medial_meniscus", MEDIAL),
    "lateral_meniscus": _torn("lateral_meniscus", LATERAL),
    "acl": _rupture("acl", (ACL,), 3.6),
    "pcl": _rupture("pcl", (PCL_UPPER, PCL_LOWER), 4.0),
    "mcl": _rupture("mcl", (MCL,), 3.0),
    "lcl": _rupture("lcl", (LCL,), 2.8),
    "cartilage_defect": cartilage_defect,
    "effusion_or_baker_cyst": effusion_or_baker_cyst,
    "synovitis_or_bursitis": synovitis_or_bursitis,
    "post_operative": post_operative,
}
