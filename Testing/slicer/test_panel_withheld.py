"""Scores that would mean nothing: the reason in their place, and what somebody gets who wants them all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import Hand, fusion, node_names, scan, shown_heat_map, with_heat_map

from greenrfm.bundle import Bundle
from slicer_harness.events import click, process_events

RESULT = ["GreenRFM findings of scan", "GreenRFM heat map of scan", "GreenRFM maps of scan"]


def call_it_mr(slicer: Any, node: Any) -> None:
    """Say in the subject hierarchy what a DICOM import would: the volume is an MR."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "MR")


@pytest.fixture
def mr(slicer: Any) -> Any:
    """Return a volume that is an MR, with pixels that are not square and lie far apart."""
    node = scan(slicer)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(np.diag([-2.5, -4.5, 4.0, 1.0])))
    call_it_mr(slicer, node)
    return node


@pytest.fixture
def withheld(hand: Hand, mr: Any, bundle: Bundle) -> Hand:
    """Return a hand at the panel after a CT model has read an MR."""
    hand.choose(mr, bundle.folder)
    hand.analyze()
    return hand


def assert_no_scores(slicer: Any, hand: Hand) -> None:
    assert hand.rows == []
    for name in ("findingsTable", "heatMapCheckBox", "opacitySlider", "cellSizeLabel", "textLineEdit", "textButton"):
        assert not getattr(hand.ui, name).visible, name
    assert shown_heat_map(slicer) is None


def test_withheld_scores_are_nowhere_and_the_reason_stands_in_their_place(
    slicer: Any, withheld: Hand, tmp_path: Path
) -> None:
    assert_no_scores(slicer, withheld)
    reason = str(withheld.ui.withheldLabel.text)
    assert reason.startswith("Scores and heat map are withheld: The volume is MR, the model was trained on CT")
    assert withheld.ui.withheldLabel.visible
    assert "the scores are withheld" in withheld.status
    assert "Not for diagnostic use" in str(withheld.ui.noticeLabel.text)
    # What else is doubtful is said too, the reason itself once.
    assert "MR" not in str(withheld.ui.warningsLabel.text)
    assert "⚠ Doubt: voxels lie 4.5 mm apart" in str(withheld.ui.warningsLabel.text)
    assert node_names(slicer) == ["scan"]
    assert slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    text = (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    assert "GreenRFM.scores" not in text
    assert "probability" not in text


def test_show_scores_anyway_shows_them_under_the_warning_and_the_scene_keeps_both(
    slicer: Any, withheld: Hand, tmp_path: Path
) -> None:
    ui = withheld.ui
    assert str(ui.overruleButton.text) == "Show scores anyway"
    click(ui.overruleButton)
    assert len(withheld.rows) == 3
    assert node_names(slicer) == sorted([*RESULT, "scan"])
    lines = str(ui.warningsLabel.text).splitlines()
    assert lines[0] == "✖ These scores are shown because somebody overruled that they be withheld."
    assert lines[1].startswith("✖ Not fit to read: the volume is MR")
    assert lines[2].startswith("⚠ Doubt: voxels lie")
    assert lines[3].startswith("Note: the pixels are not square")
    assert not ui.withheldLabel.visible
    assert not ui.overruleButton.visible
    assert ui.warningsLabel.y < ui.findingsTable.y
    click(ui.heatMapCheckBox)
    assert shown_heat_map(slicer).GetName() == "GreenRFM heat map of scan"
    rows = withheld.rows
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert withheld.rows == rows
    assert str(ui.warningsLabel.text).splitlines() == lines


def test_an_earlier_result_of_the_volume_is_not_shown_in_place_of_withheld_scores(
    slicer: Any, hand: Hand, bundle: Bundle
) -> None:
    before = fusion(slicer)
    node = with_heat_map(slicer, hand, bundle)
    call_it_mr(slicer, node)
    hand.analyze()
    assert_no_scores(slicer, hand)
    assert fusion(slicer) == before
    hand.module.widget.enter()
    assert_no_scores(slicer, hand)
    click(hand.ui.overruleButton)
    assert "somebody overruled" in str(hand.ui.warningsLabel.text)
    assert node_names(slicer) == sorted([*RESULT, "scan"])


def test_withheld_scores_are_forgotten_with_another_volume_and_with_the_scene(
    slicer: Any, withheld: Hand, mr: Any, bundle: Bundle
) -> None:
    withheld.choose(scan(slicer, "other"), bundle.folder)
    assert not withheld.ui.overruleButton.visible
    assert withheld.ui.findingsTable.visible
    withheld.choose(mr, bundle.folder)
    assert not withheld.ui.overruleButton.visible
    assert withheld.status == "Press Analyze to read this volume."
    withheld.analyze()
    assert withheld.ui.overruleButton.visible
    slicer.mrmlScene.Clear(0)
    process_events()
    assert not withheld.ui.overruleButton.visible
    assert not withheld.ui.withheldLabel.visible


def test_scores_of_a_volume_that_was_changed_since_cannot_be_had(slicer: Any, withheld: Hand, mr: Any) -> None:
    slicer.util.arrayFromVolume(mr)[20:30] = 700
    slicer.util.arrayFromVolumeModified(mr)
    click(withheld.ui.overruleButton)
    assert withheld.rows == []
    assert "was changed, moved or removed" in withheld.status
    assert node_names(slicer) == ["scan"]
    assert not withheld.ui.overruleButton.visible
    withheld.analyze()
    assert withheld.ui.overruleButton.visible


def test_a_reading_that_is_withheld_cannot_be_stored_at_all(slicer: Any, mr: Any, bundle: Bundle, hand: Hand) -> None:
    from greenrfm.reading import Reader
    from GreenRFMLib import results
    from GreenRFMLib.study import gather

    study = gather(mr)
    reading = Reader(bundle, threads=1).read(study.images[0].voxels.copy(), heatmaps=True)
    with pytest.raises(ValueError, match="withheld"):
        results.store(study, reading, [0.0] * 3)
    assert node_names(slicer) == ["scan"]
