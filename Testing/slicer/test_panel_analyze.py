"""The Analyze panel, driven by clicks: from a scan to findings, heat map, a saved scene, and back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import (
    REAL_CT,
    UNICODE,
    VIEWS,
    Hand,
    Networks,
    node_names,
    own_reading,
    panel,
    phantom_file,
    responsive,
    scan,
    shown_heat_map,
    tries_the_gap_again,
)

from greenrfm.bundle import Bundle
from greenrfm.reading import Reading
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.events import click, process_events

NOT_DIAGNOSTIC = "Not for diagnostic use"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("panel") / UNICODE, "demonstration")


def assert_shows(hand: Hand, expected: Reading) -> None:
    """Assert that the rows are the reading's scores, present ones first, each with its call."""
    rows = {name: (bar, call) for name, bar, call in hand.rows}
    assert rows == {score.name: (f"{100 * score.probability:.0f} %", score.call) for score in expected.scores}
    calls = [call for _, _, call in hand.rows]
    assert calls == sorted(calls, key=("present", "indeterminate", "absent").index)
    assert str(hand.ui.noticeLabel.text) == expected.notice
    from GreenRFMLib.advice import in_viewer

    for warning in expected.warnings:
        assert in_viewer(warning).lower() in str(hand.ui.warningsLabel.text).lower()


def slice_nodes(slicer: Any) -> list[Any]:
    return [node for node in slicer.util.getNodesByClass("vtkMRMLSliceNode") if node.GetName() in VIEWS]


def shown_index(slicer: Any) -> list[float]:
    """Return the index in the heat map of the point that all slice views show."""
    import vtk

    planes = [slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()) for node in slice_nodes(slicer)]
    normals = np.array([plane[:3, 2] for plane in planes])
    ras = np.linalg.solve(normals, [normal @ plane[:3, 3] for normal, plane in zip(normals, planes, strict=True)])
    to_index = vtk.vtkMatrix4x4()
    shown_heat_map(slicer).GetRASToIJKMatrix(to_index)
    return list(to_index.MultiplyPoint([*ras, 1.0]))[:3]


def round_trip(slicer: Any, hand: Hand, bundle: Bundle, path: Path, scene: Path) -> None:
    """Analyze, look, save, close, load, look again: everything a radiologist does with one study."""
    expected = own_reading(bundle, path)
    hand.choose(slicer.util.loadVolume(str(path)), bundle.folder)
    with responsive():
        hand.analyze()
    assert_shows(hand, expected)
    assert shown_heat_map(slicer) is None
    click(hand.ui.heatMapCheckBox)
    assert_heat_map(slicer, hand, expected)
    hand.select("Emphysema")
    assert_heat_map(slicer, hand, expected)
    assert slicer.util.saveScene(str(scene))
    rows = hand.rows
    slicer.mrmlScene.Clear(0)
    process_events()
    assert hand.rows == []
    assert "Choose a volume" in hand.status
    slicer.util.loadScene(str(scene))
    process_events()
    assert hand.rows == rows
    assert_shows(hand, expected)
    assert hand.selected == "Emphysema"
    assert_heat_map(slicer, hand, expected)
    hand.select("Effusion")
    assert_heat_map(slicer, hand, expected)
    click(hand.ui.heatMapCheckBox)
    assert shown_heat_map(slicer) is None


def assert_heat_map(slicer: Any, hand: Hand, expected: Reading) -> None:
    """Assert that the selected finding's cells lie over the views, which show their maximum."""
    assert expected.heatmaps is not None
    key = next(score.key for score in expected.scores if score.name == hand.selected)
    values = slicer.util.arrayFromVolume(shown_heat_map(slicer))
    inner = sorted(expected.heatmaps[key][expected.heatmaps.inner])  # the outermost cells lie below
    assert sorted(values.ravel())[-len(inner) :] == pytest.approx(inner, abs=1e-3)
    i, j, k = (round(index) for index in shown_index(slicer))
    assert values[k, j, i] == pytest.approx(values.max(), abs=1e-3)
    assert "mm" in str(hand.ui.cellSizeLabel.text)


@tries_the_gap_again
def test_a_phantom_from_analyze_to_a_saved_scene_and_back(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    path = phantom_file(tmp_path / UNICODE)
    round_trip(slicer, hand, bundle, path, tmp_path / "scene.mrb")


@tries_the_gap_again
def test_a_real_ct_from_analyze_to_a_saved_scene_and_back(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path, shared_data: Path
) -> None:
    path = tmp_path / UNICODE / "chest.nii.gz"
    path.parent.mkdir()
    shutil.copy(shared_data / REAL_CT, path)
    round_trip(slicer, hand, bundle, path, tmp_path / "scene.mrb")


@tries_the_gap_again
def test_the_viewer_stays_usable_while_a_large_ct_is_read(slicer: Any, hand: Hand, tmp_path: Path) -> None:
    # 512 × 512 × 320 voxels, stored as scanners do; hashing, copying, preprocessing, network and nodes together.
    voxels = np.random.default_rng(0).integers(-1024, 1500, (40, 512, 512)).astype(np.int16)
    spacing = np.diag([-0.7, -0.7, 1.0, 1.0])
    node = slicer.util.addVolumeFromArray(np.tile(voxels, (8, 1, 1)), ijkToRAS=spacing, name="large")
    fresh = make_tiny_bundle(tmp_path / "bundle", layers=4)
    hand.choose(node, fresh.folder)
    with responsive():
        hand.analyze()
    if hand.ui.overruleButton.visible:  # noise is no chest
        with responsive():
            click(hand.ui.overruleButton)
    assert len(hand.rows) == 3
    with responsive():
        click(hand.ui.heatMapCheckBox)
        hand.select("Effusion")


@tries_the_gap_again
def test_the_viewer_stays_usable_while_the_largest_real_ct_is_read(
    slicer: Any, hand: Hand, shared_data: Path, bundle: Bundle
) -> None:
    first = shared_data / "ct_abdomen_CRLM-CT-1004" / "dicom" / "1-01.dcm"
    node = slicer.util.loadVolume(str(first))
    assert node.GetImageData().GetDimensions() == (512, 512, 41)
    hand.choose(node, bundle.folder)
    with responsive():
        hand.analyze()
    assert len(hand.rows) == 3


def test_the_empty_panel_says_what_to_choose(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    assert hand.status == "Choose a volume and the folder of a model bundle."
    assert NOT_DIAGNOSTIC in str(hand.ui.noticeLabel.text)
    assert not hand.ui.analyzeButton.enabled
    node = scan(slicer)
    hand.choose(node, "")
    assert hand.status == "Choose the folder of a model bundle."
    hand.choose(node, bundle.folder)
    assert hand.ui.analyzeButton.enabled
    hand.choose(None, bundle.folder)
    assert hand.status == "Choose a volume."
    assert not hand.ui.analyzeButton.enabled


def test_notice_and_warnings_stand_above_the_scores(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    assert NOT_DIAGNOSTIC in str(hand.ui.noticeLabel.text)
    assert "generated phantoms" in str(hand.ui.noticeLabel.text)
    assert "lungs go on beyond" in str(hand.ui.warningsLabel.text)
    tops = [widget.y for widget in (hand.ui.noticeLabel, hand.ui.warningsLabel, hand.ui.findingsTable)]
    assert tops == sorted(tops)
    assert hand.ui.warningsLabel.visible


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("vtkMRMLLabelMapVolumeNode", "label map"),
        ("vtkMRMLVectorVolumeNode", "colours or vectors"),
        ("vtkMRMLScalarVolumeNode", "no voxels"),
    ],
)
def test_a_wrong_volume_is_a_sentence_in_the_panel(
    slicer: Any, hand: Hand, bundle: Bundle, kind: str, words: str
) -> None:
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass(kind, "wrong")
    if words != "no voxels":
        image = vtk.vtkImageData()
        image.SetDimensions(4, 5, 6)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3 if "Vector" in kind else 1)
        node.SetAndObserveImageData(image)
    hand.choose(node, bundle.folder)
    assert words in hand.status
    assert not hand.ui.analyzeButton.enabled


def test_a_volume_that_is_bent_after_it_was_chosen_is_a_sentence(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    node = scan(slicer)
    hand.choose(node, bundle.folder)
    grid = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    node.SetAndObserveTransformNodeID(grid.GetID())
    click(hand.ui.analyzeButton)
    assert "non-linear transform" in hand.status
    assert not hand.running


@pytest.mark.parametrize("damage", ["no folder", "a file", "no manifest", "altered"])
def test_a_broken_bundle_is_a_sentence_in_the_panel(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "bundle"
    if damage == "a file":
        folder.write_text("no bundle")
    elif damage != "no folder":
        shutil.copytree(bundle.folder, folder)
        path = folder / ("manifest.json" if damage == "no manifest" else "vision.onnx")
        path.unlink() if damage == "no manifest" else path.write_bytes(path.read_bytes()[::-1])
    before = node_names(slicer)
    node = scan(slicer)
    hand.choose(node, folder)
    hand.analyze()
    assert "bundle" in hand.status
    assert "unexpectedly" not in hand.status
    assert "\n" not in hand.status
    assert node_names(slicer) == sorted([*before, "scan"])
    hand.choose(node, bundle.folder)
    hand.analyze()
    assert len(hand.rows) == 3


def test_cancel_leaves_the_scene_as_it_was_and_the_panel_usable(
    slicer: Any, hand: Hand, bundle: Bundle, slow: Bundle, networks: Networks
) -> None:
    node = scan(slicer)
    before = slicer.mrmlScene.GetNumberOfNodes()
    hand.choose(node, slow.folder)
    hand.start()
    networks.wait_until_at_work()
    assert "Reading the volume" in hand.status
    assert hand.ui.progressBar.visible
    assert not hand.ui.analyzeButton.enabled
    click(hand.ui.cancelButton)
    assert "Cancelled" in hand.status
    assert not hand.running
    assert not hand.ui.progressBar.visible
    hand.choose(node, bundle.folder)
    assert hand.ui.analyzeButton.enabled
    networks.assert_cancelled_at_once()
    process_events()
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    hand.analyze()
    assert len(hand.rows) == 3


def test_a_scene_closed_while_reading_cancels_it(
    slicer: Any, hand: Hand, bundle: Bundle, slow: Bundle, networks: Networks
) -> None:
    hand.choose(scan(slicer), slow.folder)
    hand.start()
    networks.wait_until_at_work()
    slicer.mrmlScene.Clear(0)
    process_events()
    assert not hand.running
    assert "scene was closed" in hand.status
    networks.assert_cancelled_at_once()
    process_events()
    assert node_names(slicer) == []
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    assert len(hand.rows) == 3


def test_another_volume_has_its_own_result(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    one, other = scan(slicer, "one"), scan(slicer, "other")
    hand.choose(one, bundle.folder)
    hand.analyze()
    click(hand.ui.heatMapCheckBox)
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of one"
    hand.choose(other, bundle.folder)
    assert hand.rows == []
    assert shown_heat_map(slicer) is None
    hand.choose(one, bundle.folder)
    assert len(hand.rows) == 3
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of one"


def test_a_heat_map_is_not_taken_for_a_scan(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    hand.choose(slicer.mrmlScene.GetFirstNodeByName("GreenRFM heat map of scan"), bundle.folder)
    assert "heat map of an earlier analysis" in hand.status
    assert not hand.ui.analyzeButton.enabled
    assert slicer.mrmlScene.GetFirstNodeByName("GreenRFM maps of scan").GetHideFromEditors()


def test_the_opacity_slider_changes_the_overlay(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    click(hand.ui.heatMapCheckBox)
    hand.ui.opacitySlider.value = 0.25
    process_events()
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {composite.GetForegroundOpacity() for composite in composites} == {0.25}


def test_a_result_whose_heat_map_was_deleted_says_so(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    slicer.mrmlScene.RemoveNode(slicer.mrmlScene.GetFirstNodeByName("GreenRFM heat map of scan"))
    click(hand.ui.heatMapCheckBox)
    assert "no longer in the scene" in str(hand.ui.cellSizeLabel.text)


def test_the_bundle_is_remembered_in_the_settings_and_not_in_the_scene(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    assert str(bundle.folder) not in (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    with panel() as later:
        assert os.fspath(later.ui.bundlePathLineEdit.currentPath) == str(bundle.folder)


def test_an_error_in_storing_is_a_sentence_too(
    slicer: Any, hand: Hand, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from GreenRFMLib import results

    def full(*_: Any) -> None:
        raise OSError("Müller^Hans")

    monkeypatch.setattr(results, "_fill_table", full)
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    assert "unexpectedly (OSError)" in hand.status
    assert "Müller" not in hand.status
    assert node_names(slicer) == ["scan"]
