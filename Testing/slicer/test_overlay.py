"""The heat map lies over the right place: colours in rendered slices against a known point in the patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

import make_tiny_bundle
from greenrfm.bundle import Bundle
from greenrfm.reading import Reader
from slicer_harness.extension import extension_folder

# Cells along the volume's own rows (P), columns (L) and slices (S), centred on the volume, no two sides alike: a
# mix-up of rows and columns would not be seen in cubes.
SPACING = (1.5, 2.5, 4.0)
CELL_MM = {"P": 12.0, "L": 20.0, "S": 16.0}
# A cell's middle, in mm from the volume's: three different distances, so that no mirrored or swapped axis fits.
# Two cells from the outermost ones, which no map shows.
OFFSET = {"L": 30.0, "P": -18.0, "S": 8.0}
# Of the scan along its stored axes: not cubic either, 150, 144 and 140 mm.
VOXEL_MM = (3.0, 2.0, 2.5)
SHAPE = (50, 72, 56)
CENTRE_RAS = np.array([13.0, -21.0, 47.0])
DIRECTION = {"L": (-1, 0, 0), "R": (1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
STORED = ("LPS", "RAS", "LAS", "RPI", "LPI", "PSR", "SAL", "AIL")
# Degrees about the R, A and S axes by which the whole acquisition is turned.
TURNS = {"straight": (0, 0, 0), "gantry tilt": (18, 0, 0), "oblique": (12, -20, 25)}
VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


@dataclass(frozen=True)
class Scene:
    """An analysed scan with one dense ball, its heat map, where the ball is, and how the patient is turned."""

    volume: Any
    result: Any
    peak: Any
    ball: np.ndarray
    rotation: np.ndarray

    def cells_away(self, places: np.ndarray) -> np.ndarray:
        """Return how far RAS places lie from the ball, in cells along the map's own L, P and S axes."""
        axes = self.rotation @ np.array([DIRECTION[axis] for axis in CELL_MM], float).T
        return np.abs((places - self.ball) @ axes) / list(CELL_MM.values())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with pytest.MonkeyPatch.context() as change:
        change.setattr(make_tiny_bundle, "PREPROCESSING", replace(make_tiny_bundle.PREPROCESSING, spacing=SPACING))
        return make_tiny_bundle.make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(autouse=True)
def extension(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(extension_folder())


@pytest.fixture
def views(slicer: Any) -> Any:
    from slicer_harness.views import SliceView  # VTK and MRML, once the environment stands

    made = {orientation: SliceView(name, orientation) for name, orientation in VIEWS.items()}
    yield made
    for view in made.values():
        view.close()


def turned(degrees: tuple[float, float, float]) -> np.ndarray:
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        step = np.eye(3)
        one, two = (axis + 1) % 3, (axis + 2) % 3
        step[one, one] = step[two, two] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ step
    return rotation


def scan(slicer: Any, stored: str, degrees: tuple[float, float, float]) -> tuple[Any, np.ndarray]:
    """Return a volume node of lung with one dense ball, stored along `stored`, and the ball's middle in RAS mm."""
    rotation = turned(degrees)
    ball = CENTRE_RAS + rotation @ sum(distance * np.array(DIRECTION[axis]) for axis, distance in OFFSET.items())
    affine = np.eye(4)
    affine[:3, :3] = (rotation @ np.array([DIRECTION[axis] for axis in stored]).T) * VOXEL_MM
    affine[:3, 3] = CENTRE_RAS - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    array = np.where(np.linalg.norm(place - ball, axis=-1) < 10, 300, -600).astype(np.int16)
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)), ijkToRAS=affine, name="scan")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(-1000, 500)
    return node, ball


def analysed(volume: Any, ball: np.ndarray, bundle: Bundle, rotation: np.ndarray) -> Scene:
    """Read the volume and store the reading as the panel does; show the ball's finding."""
    from GreenRFMLib import results
    from GreenRFMLib.study import gather

    study = gather(volume)
    reading = Reader(bundle, threads=1).read(study.images[0].voxels.copy(), heatmaps=True, overrule=True)
    # Colour begins half way to the highest cell: here at 0, between the ball and the lung around it.
    assert reading.heatmaps is not None
    decisions = [-float(reading.heatmaps.shown(key).max()) for key in reading.heatmaps.keys]
    result = results.store(study, reading, decisions)
    return Scene(volume, result, results.show_finding(result, "lung_nodule"), ball, rotation)


def coloured(picture: np.ndarray) -> np.ndarray:
    """Return the (row, column) of every pixel that is not grey: a CT is grey, an overlay is not."""
    return np.argwhere(np.ptp(picture.astype(int), axis=2) > 25)


@pytest.mark.parametrize("degrees", TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("stored", STORED)
def test_the_overlay_is_on_the_ball_and_nowhere_else(
    slicer: Any, views: Any, bundle: Bundle, stored: str, degrees: tuple[float, float, float]
) -> None:
    from GreenRFMLib import overlay

    case = analysed(*scan(slicer, stored, degrees), bundle, turned(degrees))
    assert np.linalg.norm(np.array(case.peak.position) - case.ball) < 0.1
    for view in views.values():
        view.show(case.volume)
    overlay.show(case.volume, case.result.planes[0].heat_map, 0.6)
    overlay.jump(case.peak.position)
    extent = np.zeros(3)
    for orientation, view in views.items():
        assert view.distance(case.ball) < 0.1, f"{orientation} did not move to the maximum"
        picture = view.picture()
        row, column = view.pixel(case.ball)
        spots = coloured(picture)
        assert [row, column] in spots.tolist(), f"{orientation}: no colour on the ball"
        away = case.cells_away(np.array([view.ras(*spot) for spot in spots])).max(0)
        assert away.max() < 1, f"{orientation}: colour {away.round(2)} cells from the ball"
        extent = np.maximum(extent, away)
        # The ball itself, seen without the overlay, is where the colour is: volume and map agree in the picture too.
        view.composite.SetForegroundOpacity(0)
        bright = np.argwhere(view.picture()[..., 0] > 150)
        assert np.linalg.norm(bright.mean(0) - [row, column]) < 1.5, f"{orientation}: the ball is not in the middle"
    if degrees == TURNS["straight"]:
        # As far as a cell's own sides, which differ: along each axis the colour reaches most of the next cell.
        assert extent.min() > 0.65, f"the colour reaches {extent.round(2)} cells"


def test_the_pictures_have_the_patients_right_on_the_left(slicer: Any, views: Any) -> None:
    volume, _ = scan(slicer, "RAS", (0, 0, 0))
    for view in views.values():
        view.show(volume)
    axial, coronal, sagittal = views.values()
    middle = CENTRE_RAS
    right, front, head = middle + 40 * np.eye(3)
    assert axial.pixel(right)[1] < axial.pixel(middle)[1]
    assert axial.pixel(front)[0] < axial.pixel(middle)[0]
    assert coronal.pixel(right)[1] < coronal.pixel(middle)[1]
    assert coronal.pixel(head)[0] < coronal.pixel(middle)[0]
    assert sagittal.pixel(head)[0] < sagittal.pixel(middle)[0]


@pytest.mark.parametrize("mirrored", range(3), ids=("left-right", "front-back", "head-foot"))
def test_a_mirrored_heat_map_would_be_noticed(slicer: Any, views: Any, bundle: Bundle, mirrored: int) -> None:
    from GreenRFMLib import overlay

    case = analysed(*scan(slicer, "LPS", (0, 0, 0)), bundle, np.eye(3))
    heat_map = case.result.planes[0].heat_map
    to_ras = slicer.util.arrayFromVTKMatrix(ijk_to_ras(heat_map))
    flip = np.diag([-1.0 if axis == mirrored else 1.0 for axis in range(3)] + [1.0])
    flip[:3, 3] = CENTRE_RAS - flip[:3, :3] @ CENTRE_RAS
    heat_map.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(flip @ to_ras))
    for view in views.values():
        view.show(case.volume)
    overlay.show(case.volume, heat_map, 0.6)
    overlay.jump(tuple(case.ball))
    seen = [view.pixel(case.ball) in map(tuple, coloured(view.picture())) for view in views.values()]
    assert not any(seen)


def ijk_to_ras(node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix


def test_the_overlay_follows_a_transform_set_on_the_scan(slicer: Any, views: Any, bundle: Bundle) -> None:
    from GreenRFMLib import overlay

    volume, ball = scan(slicer, "LPS", (0, 0, 0))
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = turned((0, 0, 30)), (5.0, 10.0, -15.0)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(move))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    moved = (move @ [*ball, 1.0])[:3]
    case = analysed(volume, moved, bundle, move[:3, :3])
    assert np.linalg.norm(np.array(case.peak.position) - moved) < 0.1
    for view in views.values():
        view.show(volume)
    overlay.show(volume, case.result.planes[0].heat_map, 0.6)
    overlay.jump(case.peak.position)
    for view in views.values():
        spots = coloured(view.picture())
        assert list(view.pixel(moved)) in spots.tolist()
        assert case.cells_away(np.array([view.ras(*spot) for spot in spots])).max() < 1


def test_hiding_the_overlay_leaves_no_colour(slicer: Any, views: Any, bundle: Bundle) -> None:
    from GreenRFMLib import overlay

    case = analysed(*scan(slicer, "LPS", (0, 0, 0)), bundle, np.eye(3))
    overlay.show(case.volume, case.result.planes[0].heat_map, 0.6)
    overlay.jump(case.peak.position)
    assert all(len(coloured(view.picture())) for view in views.values())
    overlay.hide(case.result.planes[0].heat_map)
    assert not any(len(coloured(view.picture())) for view in views.values())


def test_the_overlay_is_on_the_ball_in_the_3d_view(slicer: Any, views: Any, bundle: Bundle) -> None:
    from GreenRFMLib import overlay
    from slicer_harness.views import ThreeDView, opengl_missing

    if opengl_missing():
        pytest.skip(opengl_missing())
    case = analysed(*scan(slicer, "PSR", TURNS["gantry tilt"]), bundle, turned(TURNS["gantry tilt"]))
    axial = views["Axial"]
    axial.show(case.volume)
    overlay.show(case.volume, case.result.planes[0].heat_map, 0.6)
    overlay.jump(case.peak.position)
    space = ThreeDView(size=(300, 300))
    try:
        space.show_slice(axial)
        space.look("superior")
        picture = space.picture().astype(int)
        # The background is Slicer's blue and the scan is grey: only the overlay has more red than blue.
        warm = np.argwhere(picture[..., 0] - picture[..., 2] > 40)
        assert np.linalg.norm(warm.mean(0) - space.pixel(case.ball)) < 3
        axial.composite.SetForegroundOpacity(0)
        picture = space.picture().astype(int)
        assert (picture[..., 0] - picture[..., 2]).max() < 40
    finally:
        space.close()
