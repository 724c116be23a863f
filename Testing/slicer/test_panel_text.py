"""The heat map of a free text: over the views, named for what it is, and never in a scene file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import (
    Hand,
    fusion,
    node_names,
    panel,
    responsive,
    scan,
    shown_heat_map,
    slice_views,
    tries_the_gap_again,
)

from greenrfm.bundle import Bundle
from greenrfm.reading import Reader
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.events import click, process_events, type_text, wait_until

TEXT_MAP, HEAT_MAP = "GreenRFM text map of scan", "GreenRFM heat map of scan"
TEXT = "right effusion of Mueller"


@pytest.fixture
def read(slicer: Any, hand: Hand, bundle: Bundle) -> Hand:
    """Return a hand at the panel that shows a result."""
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    return hand


def ask(hand: Hand, text: str = TEXT) -> None:
    """Type a text and click Show."""
    hand.ui.textLineEdit.text = text
    click(hand.ui.textButton)
    wait_until(lambda: not hand.running, 60)


def shown(slicer: Any) -> str:
    node = shown_heat_map(slicer)
    return str(node.GetName()) if node is not None else ""


@tries_the_gap_again
def test_a_text_lays_its_own_map_over_the_views_and_is_named_a_text_query(
    slicer: Any, read: Hand, bundle: Bundle
) -> None:
    from GreenRFMLib.scene import voxels_of

    node = read.ui.volumeSelector.currentNode()
    with responsive():
        ask(read)
    assert shown(slicer) == TEXT_MAP, read.status
    reader = Reader(bundle, threads=1)
    features = reader.read(voxels_of(node).copy(), features=True).features
    assert features is not None
    expected = reader.text_heatmap(TEXT, features)
    inner = np.sort(expected.values[0][expected.inner])
    values = slicer.util.arrayFromVolume(shown_heat_map(slicer))
    np.testing.assert_allclose(np.sort(values.ravel())[-len(inner) :], inner, atol=1e-3)
    label = str(read.ui.cellSizeLabel.text)
    assert f"“{TEXT}”: text query, not a calibrated score." in label
    assert "One cell of the heat map is 16 × 16 × 16 mm" in label
    display = shown_heat_map(slicer).GetDisplayNode()
    assert display.GetLowerThreshold() == pytest.approx((inner.mean() + inner[-1]) / 2, abs=1e-2)
    # It lies where a finding's map lies.
    heat_map = slicer.mrmlScene.GetFirstNodeByName(HEAT_MAP)
    assert shown_heat_map(slicer).GetOrigin() == heat_map.GetOrigin()
    assert shown_heat_map(slicer).GetSpacing() == heat_map.GetSpacing()
    click(read.ui.hideTextButton)
    assert shown(slicer) == ""
    assert label not in str(read.ui.cellSizeLabel.text)


def test_the_cell_size_stands_beside_a_findings_map_too(slicer: Any, read: Hand) -> None:
    click(read.ui.heatMapCheckBox)
    assert "One cell of the heat map is 16 × 16 × 16 mm" in str(read.ui.cellSizeLabel.text)


def test_hide_brings_back_the_findings_map_and_another_finding_takes_the_texts_away(slicer: Any, read: Hand) -> None:
    before = fusion(slicer)
    click(read.ui.heatMapCheckBox)
    assert not read.ui.hideTextButton.enabled
    for _ in range(2):
        ask(read)
        assert shown(slicer) == TEXT_MAP
    read.ui.opacitySlider.value = 0.75
    assert {opacity for _, opacity in fusion(slicer)} == {0.75}
    click(read.ui.hideTextButton)
    assert shown(slicer) == HEAT_MAP
    assert not read.ui.hideTextButton.enabled
    ask(read)
    read.select("Effusion")
    assert shown(slicer) == HEAT_MAP
    ask(read)
    click(read.ui.heatMapCheckBox)
    assert fusion(slicer) == before
    assert TEXT_MAP not in node_names(slicer)


def test_the_enter_key_asks_and_no_text_is_a_sentence(slicer: Any, read: Hand) -> None:
    type_text(read.ui.textLineEdit, "lung nodule")
    wait_until(lambda: not read.running, 60)
    assert shown(slicer) == TEXT_MAP
    click(read.ui.hideTextButton)
    ask(read, "  ")
    assert read.status == "There is no text to look for; describe a finding."
    assert shown(slicer) == ""


@pytest.mark.parametrize("file", ["scene.mrb", "scene.mrml"])
def test_neither_the_text_nor_its_map_is_in_a_saved_scene(slicer: Any, read: Hand, tmp_path: Path, file: str) -> None:
    ask(read)
    (tmp_path / "saved").mkdir()
    assert slicer.util.saveScene(str(tmp_path / "saved" / file))
    if file.endswith("mrb"):
        zipfile.ZipFile(tmp_path / "saved" / file).extractall(tmp_path / "saved")
    for path in (tmp_path / "saved").rglob("*"):
        assert "text map" not in path.name
        if path.is_file() and path.suffix != ".mrb":
            assert b"Mueller" not in path.read_bytes(), path
            assert b"text map" not in path.read_bytes(), path
    slicer.mrmlScene.Clear(0)
    process_events()
    assert str(read.ui.textLineEdit.text) == ""
    slicer.util.loadScene(str(tmp_path / "saved" / file))
    process_events()
    assert len(read.rows) == 3
    assert TEXT_MAP not in node_names(slicer)
    assert shown(slicer) == ""
    if file.endswith("mrml"):
        return  # a scene file alone holds no voxels
    click(read.ui.heatMapCheckBox)
    assert shown(slicer) == HEAT_MAP
    # The features are not saved either: the panel says what to do.
    assert not read.ui.textButton.enabled
    assert "Analyze this volume again" in str(read.ui.textButton.toolTip)
    read.analyze()
    ask(read)
    assert shown(slicer) == TEXT_MAP


def fused(slicer: Any) -> list[tuple[str, float]]:
    """Lay a PET over the views, and return what they show."""
    pet = scan(slicer, "PET")
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        composite.SetForegroundVolumeID(pet.GetID())
        composite.SetForegroundOpacity(0.3)
    return fusion(slicer)


def place(slicer: Any, node: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix).copy()


@pytest.mark.parametrize("finding_too", [False, True])
def test_a_scene_saved_under_a_texts_map_opens_without_it_and_the_rest_in_its_place(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path, finding_too: bool
) -> None:
    node, before = scan(slicer), fused(slicer)
    hand.choose(node, bundle.folder)
    hand.analyze()
    if finding_too:
        click(hand.ui.heatMapCheckBox)
    ask(hand)
    assert shown(slicer) == TEXT_MAP
    places = {name: place(slicer, slicer.mrmlScene.GetFirstNodeByName(name)) for name in ("scan", HEAT_MAP)}
    np.testing.assert_array_equal(places[HEAT_MAP], place(slicer, shown_heat_map(slicer)))
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    assert shown(slicer) == TEXT_MAP  # saving takes nothing away
    slicer.mrmlScene.Clear(0)
    process_events()
    assert node_names(slicer) == []
    assert {foreground for foreground, _ in fusion(slicer)} == {""}
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    for name, wanted in places.items():
        np.testing.assert_allclose(place(slicer, slicer.mrmlScene.GetFirstNodeByName(name)), wanted, atol=1e-6)
    if finding_too:
        assert shown(slicer) == HEAT_MAP
        click(hand.ui.heatMapCheckBox)
    assert fusion(slicer) == before
    assert TEXT_MAP not in node_names(slicer)


@pytest.mark.parametrize("others", [0, 7])
def test_no_other_volume_takes_the_texts_maps_place_over_the_views_where_the_module_was_not_opened(
    slicer: Any, bundle: Bundle, tmp_path: Path, others: int
) -> None:
    with slice_views():
        with panel() as hand:
            hand.choose(scan(slicer), bundle.folder)
            hand.analyze()
            ask(hand)
            kept = shown_heat_map(slicer).GetID()  # the views' nodes in the file name it, and no node has it
            assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
        slicer.mrmlScene.Clear(0)
        for number in range(others):
            scan(slicer, f"other {number}")
        slicer.util.loadScene(str(tmp_path / "scene.mrb"), {"clear": not others})
        while slicer.mrmlScene.GetNodeByID(kept) is None:
            scan(slicer, "later")
        process_events()
        assert {foreground for foreground, _ in fusion(slicer)} == {""}


@pytest.mark.parametrize("transformed", [False, True])
def test_a_volume_deleted_under_a_texts_map_takes_it_away(
    slicer: Any, hand: Hand, bundle: Bundle, transformed: bool
) -> None:
    node, before = scan(slicer), fused(slicer)
    hand.choose(node, bundle.folder)
    hand.analyze()
    if transformed:
        node.SetAndObserveTransformNodeID(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    ask(hand)
    slicer.mrmlScene.RemoveNode(node)
    process_events()
    assert fusion(slicer) == before
    assert TEXT_MAP not in node_names(slicer)
    assert not hand.ui.textButton.enabled
    assert not hand.ui.hideTextButton.enabled
    assert hand.rows == []


def test_a_model_of_images_alone_is_not_asked(slicer: Any, read: Hand, tmp_path: Path) -> None:
    assert read.ui.textButton.enabled
    alone = make_tiny_bundle(tmp_path / "alone", text=False)
    read.choose(scan(slicer, "other"), alone.folder)
    assert "Analyze a volume first" in str(read.ui.textLineEdit.toolTip)
    read.analyze()
    assert len(read.rows) == 3
    assert not read.ui.textButton.enabled
    assert not read.ui.textLineEdit.enabled
    assert "images alone" in str(read.ui.textLineEdit.toolTip)


def test_another_volume_or_a_new_reading_takes_the_texts_map_out_of_the_scene(
    slicer: Any, read: Hand, bundle: Bundle
) -> None:
    node = read.ui.volumeSelector.currentNode()
    count = slicer.mrmlScene.GetNumberOfNodes()
    ask(read)
    read.analyze()
    assert shown(slicer) == ""
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    ask(read)
    other = scan(slicer, "other")
    read.choose(other, bundle.folder)
    assert shown(slicer) == ""
    assert TEXT_MAP not in node_names(slicer)
    read.choose(node, bundle.folder)
    assert not read.ui.textButton.enabled  # the other volume was looked at since


def test_the_texts_map_goes_with_the_volumes_transform_and_leaves_a_volume_that_was_moved(
    slicer: Any, read: Hand
) -> None:
    node = read.ui.volumeSelector.currentNode()
    ask(read)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetAndObserveTransformNodeID(transform.GetID())
    assert shown_heat_map(slicer).GetTransformNodeID() == transform.GetID()
    node.SetOrigin(50.0, 60.0, 70.0)
    process_events()
    assert shown(slicer) == ""
    assert "moved or changed" in str(read.ui.cellSizeLabel.text)


def test_a_map_that_somebody_deletes_is_hidden(slicer: Any, read: Hand) -> None:
    ask(read)
    slicer.mrmlScene.RemoveNode(shown_heat_map(slicer))
    process_events()
    assert shown(slicer) == ""
    assert not read.ui.hideTextButton.enabled
    ask(read)
    assert shown(slicer) == TEXT_MAP


def test_a_bundle_that_was_exchanged_since_is_not_asked(slicer: Any, read: Hand, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    read.choose(scan(slicer, "second"), make_tiny_bundle(folder).folder)
    read.analyze()
    path = folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"research"', '"demonstration"'), encoding="utf-8")
    ask(read)
    assert "bundle was changed since" in read.status
    assert shown(slicer) == ""


def test_a_scene_closed_or_a_query_cancelled_leaves_nothing(slicer: Any, read: Hand) -> None:
    read.ui.textLineEdit.text = TEXT
    click(read.ui.textButton)
    if read.running:
        click(read.ui.cancelButton)
        assert "Cancelled" in read.status
        assert shown(slicer) == ""
    ask(read)
    slicer.mrmlScene.Clear(0)
    process_events()
    assert node_names(slicer) == []
    assert str(read.ui.textLineEdit.text) == ""
    assert str(read.ui.cellSizeLabel.text) == ""
