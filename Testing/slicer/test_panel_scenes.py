"""What the views and the scene hold beside a result: fusions, added scenes, deleted nodes, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from analyze_panel import Hand, Networks, fusion, scan, shown_heat_map, with_heat_map

from greenrfm.bundle import Bundle
from slicer_harness.events import click, process_events, wait_until


def test_the_pet_of_a_fusion_comes_back_when_the_heat_map_is_hidden(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    node, pet = scan(slicer), scan(slicer, "PET")
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    for number, composite in enumerate(composites):
        composite.SetForegroundVolumeID(pet.GetID() if number else None)
        composite.SetForegroundOpacity(0.3 + 0.1 * number)
    before = fusion(slicer)
    assert len(set(before)) == len(before)
    hand.choose(node, bundle.folder)
    hand.analyze()
    assert fusion(slicer) == before
    for _ in range(2):
        click(hand.ui.heatMapCheckBox)
        hand.select("Effusion")
        hand.analyze()  # the heat map is replaced while it is shown
        hand.ui.opacitySlider.value = 0.75
        assert {opacity for _, opacity in fusion(slicer)} == {0.75}
        assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"
        click(hand.ui.heatMapCheckBox)
        assert fusion(slicer) == before
        hand.ui.opacitySlider.value = 0.5


def test_the_opacity_slider_leaves_a_foreground_that_the_user_chose_meanwhile(
    slicer: Any, hand: Hand, bundle: Bundle
) -> None:
    with_heat_map(slicer, hand, bundle)
    pet = scan(slicer, "PET")
    first, *others = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    first.SetForegroundVolumeID(pet.GetID())
    first.SetForegroundOpacity(0.3)
    hand.ui.opacitySlider.value = 0.85
    assert first.GetForegroundVolumeID() == pet.GetID()
    assert first.GetForegroundOpacity() == 0.3
    assert {composite.GetForegroundOpacity() for composite in others} == {0.85}


@pytest.mark.parametrize("role", ["findings", "heat map"])
def test_a_table_or_heat_map_deleted_while_the_map_is_shown_takes_the_overlay_away(
    slicer: Any, hand: Hand, bundle: Bundle, role: str
) -> None:
    before = fusion(slicer)
    with_heat_map(slicer, hand, bundle)
    (node,) = [
        one
        for kind in ("vtkMRMLTableNode", "vtkMRMLVolumeNode")
        for one in slicer.util.getNodesByClass(kind)
        if one.GetAttribute("GreenRFM.role") == role
    ]
    slicer.mrmlScene.RemoveNode(node)
    process_events()
    assert fusion(slicer) == before
    if role == "findings":
        assert hand.rows == []
        assert "Press Analyze" in hand.status
    else:
        assert "no longer in the scene" in str(hand.ui.cellSizeLabel.text)
    hand.analyze()
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"


def test_analyzing_again_after_a_save_leaves_no_node_of_the_first_result(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    with_heat_map(slicer, hand, bundle)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    counts = []
    for _ in range(2):
        hand.analyze()
        assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
        counts.append(slicer.mrmlScene.GetNumberOfNodes())
    storages = slicer.util.getNodesByClass("vtkMRMLTableStorageNode")
    assert len(storages) == 1
    assert counts[0] == counts[1]


def test_a_scene_added_to_the_one_at_hand_leaves_the_chosen_volume_and_its_result(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    node = with_heat_map(slicer, hand, bundle)
    rows, status = hand.rows, hand.status
    lost = []
    hand.ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", lost.append)
    add_scene(slicer, tmp_path / "theirs.mrml")
    assert lost == [None, node], "the selector keeps its node: this test proves nothing"
    assert hand.ui.volumeSelector.currentNode() is node
    assert (hand.rows, hand.status) == (rows, status)
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"


def add_scene(slicer: Any, path: Path) -> None:
    """Add a scene with one volume to the scene at hand."""
    theirs = slicer.vtkMRMLScene()
    volume = slicer.vtkMRMLScalarVolumeNode()
    volume.SetName("theirs")
    theirs.AddNode(volume)
    theirs.SetURL(str(path))
    assert theirs.Commit(str(path))
    slicer.util.loadScene(str(path), {"clear": False})
    process_events()
    assert slicer.mrmlScene.GetFirstNodeByName("theirs") is not None


def test_a_scene_added_while_reading_does_not_disturb_it(
    slicer: Any, hand: Hand, unhurried: Bundle, networks: Networks, tmp_path: Path
) -> None:
    node = scan(slicer)
    hand.choose(node, unhurried.folder)
    hand.start()
    wait_until(networks.at_work.is_set, 30)
    add_scene(slicer, tmp_path / "theirs.mrml")
    wait_until(lambda: not hand.running, 60)
    assert len(hand.rows) == 3
    assert hand.ui.volumeSelector.currentNode() is node


def test_a_message_about_one_volume_does_not_stay_when_a_scene_brings_another(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    hand.choose(scan(slicer, "first"), bundle.folder)
    hand.analyze()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    hand.choose(scan(slicer, "second"), tmp_path / "nowhere")
    hand.analyze()
    assert "There is no bundle" in hand.status
    slicer.util.loadScene(str(tmp_path / "scene.mrb"), {"clear": False})
    process_events()
    assert hand.ui.volumeSelector.currentNode().GetName() == "first"
    assert "Result of" in hand.status


def test_a_reading_that_ends_after_a_scene_brought_another_volume_says_of_which_it_is(
    slicer: Any, hand: Hand, bundle: Bundle, unhurried: Bundle, networks: Networks, tmp_path: Path
) -> None:
    hand.choose(scan(slicer, "first"), bundle.folder)
    hand.analyze()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    networks.at_work.clear()
    hand.choose(scan(slicer, "second"), unhurried.folder)
    hand.start()
    wait_until(networks.at_work.is_set, 30)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"), {"clear": False})
    wait_until(lambda: not hand.running, 60)
    assert hand.ui.volumeSelector.currentNode().GetName() == "first"
    assert hand.status.startswith("Of second: ")
    assert "findings called present" in hand.status


BROKEN_ATTRIBUTES = {
    "scores": ["null", "7", "[1]", '[{"key": 1}]', "{", "[]"],
    "warnings": ["3", "null", "[1]"],
    "cellSizeMm": ["null", '["a", 1, 2]', "[1]"],
    "ijkToRAS": ["null", "[[1]]", '"x"', '{"a": 1}'],
}


def test_a_loaded_result_of_wrong_types_is_no_result(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    with_heat_map(slicer, hand, bundle)
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    rows = json.loads(table.GetAttribute("GreenRFM.scores"))
    cases = [(name, text) for name, texts in BROKEN_ATTRIBUTES.items() for text in texts]
    for field in rows[1]:
        for value in (None, ["x"], {}):
            cases.append(("scores", json.dumps([rows[0], rows[1] | {field: value}, rows[2]])))
    for name, text in cases:
        right = table.GetAttribute(f"GreenRFM.{name}")
        table.SetAttribute(f"GreenRFM.{name}", text)
        hand.module.widget.enter()
        assert hand.rows == [], (name, text)
        assert shown_heat_map(slicer) is None, (name, text)
        table.SetAttribute(f"GreenRFM.{name}", right)
        hand.module.widget.enter()
        assert len(hand.rows) == 3
        assert shown_heat_map(slicer) is not None


def test_a_result_that_refers_to_other_nodes_shows_no_map(slicer: Any, hand: Hand, bundle: Bundle) -> None:
    with_heat_map(slicer, hand, bundle)
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    model = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    for role in ("GreenRFM.heatMap", "GreenRFM.maps"):
        table.SetNodeReferenceID(role, model.GetID())
        hand.module.widget.enter()
        assert "no longer in the scene" in str(hand.ui.cellSizeLabel.text)
        assert shown_heat_map(slicer) is None
