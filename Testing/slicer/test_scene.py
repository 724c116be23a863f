"""Volume nodes to voxels in the patient, readings to nodes, and nodes back to a reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import REAL_CT, UNICODE, own_reading, phantom_file, turned_volume

from greenrfm.bundle import Bundle
from greenrfm.errors import UserError
from greenrfm.reading import Reader, Reading
from greenrfm.volumes import read_volume, to_canonical, write_volume
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.extension import extension_folder

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Axial, as exporters flip it, sagittal, coronal; straight and oblique.
GEOMETRIES = [("LPS", 0), ("RAS", 0), ("LAS", 0), ("PSR", 0), ("RIA", 0), ("LPS", 17), ("RAI", -25), ("SLP", 31)]


@pytest.fixture(autouse=True)
def extension(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(extension_folder())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("scene") / "tiny")


def loaded(slicer: Any, path: Path) -> Any:
    return slicer.util.loadVolume(str(path))


def analysed(bundle: Bundle, node: Any) -> tuple[Any, Reading]:
    """Read the node and store the reading as the panel does; heat maps count from 0 logits."""
    from GreenRFMLib import results

    study, reading = read(bundle, node)
    return results.store(study, reading, [0.0] * len(reading.scores)), reading


def read(bundle: Bundle, node: Any) -> tuple[Any, Reading]:
    """Return the node's study and what greenrfm reads in it."""
    from GreenRFMLib.study import gather

    study = gather(node)
    reading = Reader(bundle, threads=1).read(study.images[0].voxels.copy(), heatmaps=True, overrule=True)
    return study, reading


def lung(slicer: Any, name: str = "scan") -> Any:
    """Return a volume that is lung all over, but for a row of air."""
    array = np.full((30, 40, 40), -900, np.int16)
    array[0, 0] = -1000
    return slicer.util.addVolumeFromArray(array, name=name)


def cell_centres(node: Any, slicer: Any) -> dict[tuple[float, ...], float]:
    """Return value by world position (RAS mm, rounded to 0.01) of every voxel of a volume node."""
    import vtk

    own, world = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(own)
    if node.GetParentTransformNode():
        node.GetParentTransformNode().GetMatrixTransformToWorld(world)
    affine = slicer.util.arrayFromVTKMatrix(world) @ slicer.util.arrayFromVTKMatrix(own)
    return _centres(slicer.util.arrayFromVolume(node).transpose(2, 1, 0), affine)


def _centres(array: np.ndarray, affine: np.ndarray) -> dict[tuple[float, ...], float]:
    index = np.argwhere(np.ones(array.shape, bool))
    place = index @ affine[:3, :3].T + affine[:3, 3]
    keys = (np.round(place, 2) + 0.0).tolist()
    return dict(zip(map(tuple, keys), array[tuple(index.T)].tolist(), strict=True))


def assert_same_cells(one: dict[tuple[float, ...], float], other: dict[tuple[float, ...], float]) -> None:
    places, others = np.array(sorted(one)), np.array(sorted(other))
    np.testing.assert_allclose(places, others, atol=0.02)
    values, expected = [one[tuple(key)] for key in places], [other[tuple(key)] for key in others]
    np.testing.assert_allclose(values, expected, atol=1e-3)


@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
@pytest.mark.parametrize(("codes", "degrees"), GEOMETRIES)
def test_a_volume_node_is_the_volume_that_greenrfm_reads(
    slicer: Any, tmp_path: Path, codes: str, degrees: float, suffix: str
) -> None:
    from GreenRFMLib.scene import voxels_of

    path = tmp_path / f"scan{suffix}"
    write_volume(turned_volume(codes, degrees), path)
    expected = to_canonical(read_volume(path))
    copy = voxels_of(loaded(slicer, path)).copy()
    np.testing.assert_array_equal(copy.array, expected.array)
    np.testing.assert_allclose(copy.affine, expected.affine, atol=2e-4)


@pytest.mark.parametrize(("codes", "degrees"), GEOMETRIES)
def test_scores_and_cells_are_those_of_greenrfm_for_the_same_file(
    slicer: Any, tmp_path: Path, bundle: Bundle, codes: str, degrees: float
) -> None:
    from GreenRFMLib import results

    path = tmp_path / "scan.nrrd"
    write_volume(turned_volume(codes, degrees), path)
    result, _ = analysed(bundle, loaded(slicer, path))
    expected = own_reading(bundle, path)
    assert expected.heatmaps is not None
    for score, wanted in zip(result.scores, expected.scores, strict=True):
        assert score.probability == pytest.approx(wanted.probability, abs=1e-3)
        peak = results.show_finding(result, wanted.key)
        cells = expected.heatmaps.shown(wanted.key, 0.0)
        assert_same_cells(
            cell_centres(result.planes[0].heat_map, slicer), _centres(cells, LPS @ expected.heatmaps.affine)
        )
        highest = LPS @ expected.heatmaps.affine @ [*np.unravel_index(cells.argmax(), cells.shape), 1]
        if (cells == cells.max()).sum() == 1:
            np.testing.assert_allclose(peak.position, highest[:3], atol=0.02)


def test_a_real_chest_ct_scores_as_greenrfm_scores_it(slicer: Any, shared_data: Path, bundle: Bundle) -> None:
    result, _ = analysed(bundle, loaded(slicer, shared_data / REAL_CT))
    for score, wanted in zip(result.scores, own_reading(bundle, shared_data / REAL_CT).scores, strict=True):
        assert score.probability == pytest.approx(wanted.probability, abs=1e-3)


def test_a_linear_transform_turns_the_reading_and_the_heat_map_with_the_volume(
    slicer: Any, tmp_path: Path, bundle: Bundle
) -> None:
    # The scan lies flipped in its file; the transform, not the file, says where it is in the patient.
    path, straight = tmp_path / "flipped.nrrd", tmp_path / "straight.nrrd"
    volume = turned_volume("LPS")
    write_volume(volume, straight)
    turn = np.array([[0.0, -1, 0, 5], [1, 0, 0, -7], [0, 0, -1, 9], [0, 0, 0, 1]])  # RAS mm
    write_volume(type(volume)(volume.array, LPS @ np.linalg.inv(turn) @ LPS @ volume.affine), path)
    node = loaded(slicer, path)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    node.SetAndObserveTransformNodeID(transform.GetID())
    result, reading = analysed(bundle, node)
    expected = own_reading(bundle, straight)
    assert expected.heatmaps is not None
    assert reading.scores[0].probability == pytest.approx(expected.scores[0].probability, abs=1e-3)
    from GreenRFMLib import results

    results.show_finding(result, "lung_nodule")
    wanted = _centres(expected.heatmaps.shown("lung_nodule", 0.0), LPS @ expected.heatmaps.affine)
    assert_same_cells(cell_centres(result.planes[0].heat_map, slicer), wanted)
    # Moving the volume afterwards moves its heat map too.
    turn[:3, 3] += 100
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    moved = {tuple(np.round(np.array(place) + 100, 2).tolist()): value for place, value in wanted.items()}
    assert_same_cells(cell_centres(result.planes[0].heat_map, slicer), moved)


def _label_map(slicer: Any) -> Any:
    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), nodeClassName="vtkMRMLLabelMapVolumeNode")


def _colour(slicer: Any) -> Any:
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 5, 6)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    return node


def _empty(slicer: Any) -> Any:
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")


def _slice(slicer: Any) -> Any:
    return slicer.util.addVolumeFromArray(np.zeros((1, 5, 6), np.int16))


def _bent(slicer: Any) -> Any:
    node = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16))
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    node.SetAndObserveTransformNodeID(grid.GetID())
    return node


def _sheared(slicer: Any) -> Any:
    node = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16))
    shear = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[0, 1] = 0.2
    shear.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(shear.GetID())
    return node


WRONG = {
    "label map": (_label_map, "label map"),
    "colour": (_colour, "colours or vectors"),
    "empty": (_empty, "no voxels"),
    "single slice": (_slice, "single slice"),
    "non-linear transform": (_bent, "non-linear transform"),
    "shear": (_sheared, "right angles"),
}


@pytest.mark.parametrize(("make", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_volume_is_refused_in_one_sentence(slicer: Any, make: Any, words: str) -> None:
    from GreenRFMLib.scene import problem_with, voxels_of

    node = make(slicer)
    with pytest.raises(UserError, match=words):
        voxels_of(node)
    assert words in problem_with(node)


def test_the_modality_comes_from_the_subject_hierarchy(slicer: Any) -> None:
    from GreenRFMLib.scene import voxels_of

    node = lung(slicer)
    assert voxels_of(node).modality == ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")
    assert voxels_of(node).copy().modality == "MR"


def test_voxels_that_are_no_number_are_read_as_greenrfm_reads_them(slicer: Any, tmp_path: Path) -> None:
    from GreenRFMLib.scene import voxels_of

    volume = turned_volume("LPS")
    array = volume.array.astype(np.float32)
    array[:2] = np.nan
    write_volume(type(volume)(array, volume.affine), tmp_path / "nan.nrrd")
    copy = voxels_of(loaded(slicer, tmp_path / "nan.nrrd")).copy()
    expected = to_canonical(read_volume(tmp_path / "nan.nrrd"))
    np.testing.assert_array_equal(copy.array, expected.array)
    assert copy.warnings == expected.warnings
    assert "no number" in copy.warnings[0]


def test_the_copy_is_a_copy_and_a_change_of_the_voxels_is_noticed(slicer: Any) -> None:
    from GreenRFMLib.scene import voxels_of

    node = lung(slicer)
    voxels = voxels_of(node)
    copy = voxels.copy()
    assert voxels.still_in(node)
    slicer.util.arrayFromVolume(node)[:] = 7
    slicer.util.arrayFromVolumeModified(node)
    assert copy.array.max() == -900
    assert not voxels.still_in(node)
    fresh = voxels_of(node)
    slicer.mrmlScene.RemoveNode(node)
    assert not fresh.still_in(node)


def test_a_saved_scene_holds_the_result_exactly_and_every_findings_map(
    slicer: Any, tmp_path: Path, bundle: Bundle
) -> None:
    from GreenRFMLib import results

    path = phantom_file(tmp_path / UNICODE)
    result, reading = analysed(bundle, loaded(slicer, path))
    result.volume.SetName(UNICODE)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    again = results.find(slicer.mrmlScene.GetFirstNodeByName(UNICODE))
    assert again is not None
    assert again.scores == result.scores
    assert again.notice == reading.notice
    assert tuple(remark.sentence for remark in again.remarks) == reading.warnings
    assert (again.bundle_hash, again.time) == (bundle.hash, result.time)
    assert reading.heatmaps is not None
    for key in bundle.findings.keys:
        assert results.show_finding(again, key) is not None
        assert_same_cells(
            cell_centres(again.planes[0].heat_map, slicer),
            _centres(reading.heatmaps.shown(key, 0.0), LPS @ reading.heatmaps.affine),
        )
    assert again.planes[0].heat_map.GetNodeReference("GreenRFM.volume") is again.volume
    display = again.planes[0].heat_map.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetColorNode().GetAttribute("GreenRFM.role") == "colours"
    assert display.GetColorNode().GetNumberOfColors() == 256


def test_the_table_is_for_people_and_for_export(slicer: Any, bundle: Bundle) -> None:
    node = lung(slicer)
    result, reading = analysed(bundle, node)
    table = result.table.GetTable()
    titles = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
    assert titles == ["key", "finding", "probability", "present_from", "absent_below", "call"]
    assert result.table.GetName() == "GreenRFM findings of scan"
    rows = [[table.GetValue(row, column).ToString() for column in (0, 1, 5)] for row in range(3)]
    assert rows == [[score.key, score.name, score.call] for score in reading.scores]
    assert table.GetValue(1, 2).ToDouble() == pytest.approx(reading.scores[1].probability)


def test_a_second_analysis_replaces_the_first(slicer: Any, bundle: Bundle) -> None:
    from GreenRFMLib import results

    node = lung(slicer)
    analysed(bundle, node)
    before = slicer.mrmlScene.GetNumberOfNodes()
    second, _ = analysed(bundle, node)
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert results.find(node).table is second.table
    other = lung(slicer, "other")
    assert results.find(other) is None


def test_nothing_half_made_stays_when_storing_fails(slicer: Any, bundle: Bundle) -> None:
    from GreenRFMLib import results
    from GreenRFMLib.study import gather

    node = lung(slicer)
    first, reading = analysed(bundle, node)
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ValueError, match="shorter"):
        results.store(gather(node), reading, [0.0])
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert results.find(node).table is first.table


def test_table_and_heat_map_lie_in_the_volumes_study_and_the_maps_are_hidden(slicer: Any, bundle: Bundle) -> None:
    node = lung(slicer)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "subject")
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.CreateItem(study, node)
    result, _ = analysed(bundle, node)
    for made in (result.table, result.planes[0].heat_map):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(made)) == study
    hidden = result.table.GetNodeReference("GreenRFM.maps")
    exclude = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyExcludeFromTreeAttributeName()
    assert hidden.GetHideFromEditors()
    assert not result.planes[0].heat_map.GetHideFromEditors()
    assert hidden.GetAttribute(exclude) == "1"


def test_items_that_slicer_filed_at_the_top_move_into_the_volumes_study(slicer: Any, bundle: Bundle) -> None:
    import vtk

    # As qSlicerSubjectHierarchyPluginLogic does, which is not in slicer-core: each visible node gets an item at once.
    scene = slicer.mrmlScene
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    filed = []

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def file_at_the_top(caller: Any, event: Any, node: Any) -> None:
        if (node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLTableNode")) and not node.GetHideFromEditors():
            filed.append(hierarchy.CreateItem(hierarchy.GetSceneItemID(), node))

    observer = scene.AddObserver(scene.NodeAddedEvent, file_at_the_top)
    node = lung(slicer)
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
    result, _ = analysed(bundle, node)
    scene.RemoveObserver(observer)
    assert len(filed) == 3
    for made in (result.table, result.planes[0].heat_map):
        assert hierarchy.GetItemByDataNode(made) in filed
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(made)) == study
    assert hierarchy.GetNumberOfItemChildren(study) == 3


def test_findings_come_by_call_and_then_by_their_distance_from_the_threshold(slicer: Any) -> None:
    from GreenRFMLib.record import Score, ranked

    bands: dict[str, tuple[float, float, float]] = {
        "a": (0.4, 0.5, 0.45),
        "b": (0.3, 0.1, 0.1),
        "c": (0.9, 0.5, 0.2),
        "d": (0.3, 0.9, 0.2),
        "e": (0.1, 0.5, 0.3),
    }
    scores = [Score(key, key, *numbers, 0.0) for key, numbers in bands.items()]
    assert [(score.key, score.call) for score in ranked(scores)] == [
        ("c", "present"),
        ("b", "present"),
        ("d", "indeterminate"),
        ("a", "absent"),
        ("e", "absent"),
    ]


def test_a_finding_whose_cells_stay_below_its_threshold_colours_nothing(slicer: Any, bundle: Bundle) -> None:
    from GreenRFMLib import results

    node = lung(slicer)
    study, reading = read(bundle, node)
    result = results.store(study, reading, [1000.0, -1000.0, 0.0])
    display = result.planes[0].heat_map.GetDisplayNode()
    assert results.show_finding(result, "lung_nodule").reaches is False
    assert display.GetLowerThreshold() > slicer.util.arrayFromVolume(result.planes[0].heat_map).max()
    assert results.show_finding(result, "emphysema").reaches is True
    top = slicer.util.arrayFromVolume(result.planes[0].heat_map).max()
    assert display.GetLowerThreshold() == display.GetWindowLevelMin() == pytest.approx((top - 1000) / 2)
    assert display.GetWindowLevelMax() == pytest.approx(top)


def test_a_map_that_hardly_reaches_the_threshold_does_not_burn(slicer: Any, bundle: Bundle) -> None:
    from GreenRFMLib import heat_map

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    cells = np.zeros((3, 3, 3), np.float32)
    cells[1, 1, 1] = 2.1
    assert heat_map.fill(node, cells, 2.0).reaches
    display = node.GetDisplayNode()
    assert display.GetWindowLevelMin() == pytest.approx(2.05)
    assert display.GetWindowLevelMax() == pytest.approx(3.0)


def test_a_finding_all_over_the_volume_colours_no_outermost_cell_and_peaks_inside(slicer: Any, bundle: Bundle) -> None:
    from GreenRFMLib import results

    array = np.full((40, 60, 60), 400, np.int16)
    array[7:33, 10:50, 10:50] = -900
    node = slicer.util.addVolumeFromArray(array, ijkToRAS=np.diag([2.0, 2.0, 3.0, 1.0]), name="scan")
    study, reading = read(bundle, node)
    assert reading.heatmaps is not None
    result = results.store(study, reading, [0.0] * 3)
    peak = results.show_finding(result, "emphysema")
    cells = slicer.util.arrayFromVolume(result.planes[0].heat_map)
    coloured = cells >= result.planes[0].heat_map.GetDisplayNode().GetLowerThreshold()
    inner = np.zeros(cells.shape, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    assert coloured.any()
    assert not coloured[~inner].any()
    index = np.linalg.solve(reading.heatmaps.affine, LPS @ [*peak.position, 1])[:3]
    assert np.all(np.round(index) >= 1)
    assert np.all(np.round(index) <= np.array(reading.heatmaps.values.shape[1:]) - 2)


def test_a_reading_that_cannot_be_stored_leaves_the_earlier_result(slicer: Any, bundle: Bundle) -> None:
    from GreenRFMLib import results
    from GreenRFMLib.study import gather

    node = lung(slicer)
    first, reading = analysed(bundle, node)
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(ValueError, match="finite"):
        results.store(gather(node), reading, [float("inf"), 0.0, 0.0])
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert results.find(node).table is first.table
