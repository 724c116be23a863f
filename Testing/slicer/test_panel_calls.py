"""Three calls and weighted warnings in the findings table, in the scene, and back from scenes new, old and damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from analyze_panel import Hand, scan

from greenrfm.bundle import Bundle
from greenrfm.reading import Reader
from slicer_harness.events import process_events


@pytest.fixture(scope="module")
def banded(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle with a wide band between absent and present: of `scan`, one finding of each call."""
    folder = Path(shutil.copytree(bundle.folder, tmp_path_factory.mktemp("calls") / "banded"))
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["thresholds"] |= {"present": [0.99, 0.3, 0.8], "absent": [0.01, 0.2, 0.6]}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return Bundle.load(folder)


@pytest.fixture
def read(slicer: Any, hand: Hand, banded: Bundle) -> Hand:
    """Return a hand at the panel that shows the three calls."""
    hand.choose(scan(slicer), banded.folder)
    hand.analyze()
    return hand


CALLS = {"Emphysema": "present", "Lung nodule": "indeterminate", "Effusion": "absent"}


def stored_table(slicer: Any) -> Any:
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    return table


def test_each_call_is_a_word_and_a_sign_and_present_ones_are_bold_and_first(read: Hand) -> None:
    table = read.ui.findingsTable
    assert [(name, call) for name, _, call in read.rows] == list(CALLS.items())
    assert [table.item(row, 2).text() for row in range(3)] == ["● present", "◐ indeterminate", "○ absent"]
    assert [table.item(row, 0).font().bold() for row in range(3)] == [True, False, False]
    assert "1 of 3 findings called present, 1 indeterminate" in read.status


def test_the_tooltip_says_from_where_a_finding_is_present_and_below_what_it_is_absent(read: Hand) -> None:
    table = read.ui.findingsTable
    tips = {table.item(row, 0).text(): table.item(row, 0).toolTip() for row in range(3)}
    assert tips["Lung nodule"].endswith("present from 99 % up, absent below 1 %")
    assert tips["Effusion"].endswith("present from 80 % up, absent below 60 %")
    assert table.cellWidget(0, 1).toolTip == tips["Emphysema"]


def test_the_calls_are_the_readers_and_come_back_with_a_saved_scene(
    slicer: Any, read: Hand, banded: Bundle, tmp_path: Path
) -> None:
    from GreenRFMLib.scene import voxels_of

    reading = Reader(banded, threads=1).read(voxels_of(read.ui.volumeSelector.currentNode()).copy())
    assert {score.name: score.call for score in reading.scores} == CALLS
    rows, tip = read.rows, read.ui.findingsTable.item(1, 0).toolTip()
    values = stored_table(slicer).GetTable()
    assert [values.GetValue(row, 5).ToString() for row in range(3)] == [score.call for score in reading.scores]
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    process_events()
    assert read.rows == rows
    assert read.ui.findingsTable.item(1, 0).toolTip() == tip


def test_a_scene_from_before_the_third_call_has_one_threshold_and_its_warnings_are_doubts(
    slicer: Any, read: Hand, tmp_path: Path
) -> None:
    table = stored_table(slicer)
    rows = json.loads(table.GetAttribute("GreenRFM.scores"))
    for row in rows:
        del row["absent_below"]
    table.SetAttribute("GreenRFM.scores", json.dumps(rows))
    table.SetAttribute("GreenRFM.warnings", json.dumps(["the scan has only 7 slices"]))
    assert slicer.util.saveScene(str(tmp_path / "old.mrml"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "old.mrml"))
    process_events()
    assert {name: call for name, _, call in read.rows} == CALLS | {"Lung nodule": "absent"}
    assert str(read.ui.warningsLabel.text) == "⚠ Doubt: the scan has only 7 slices."
    tips = {read.ui.findingsTable.item(row, 0).toolTip() for row in range(3)}
    assert any("present from 99 % up, absent below 99 %" in tip for tip in tips)


@pytest.mark.parametrize(
    "change",
    [
        {"probability": 1.5},
        {"probability": float("nan")},
        {"absent_below": 0.995},
        {"threshold": 10**400},
        {"call": "x"},
    ],
    ids=str,
)
def test_scores_that_cannot_be_are_no_result(slicer: Any, read: Hand, change: dict[str, Any]) -> None:
    table = stored_table(slicer)
    first, *others = json.loads(table.GetAttribute("GreenRFM.scores"))
    table.SetAttribute("GreenRFM.scores", json.dumps([first | change, *others]))
    read.module.widget.enter()
    assert read.rows == []
    read.choose(None, "")
    read.choose(slicer.mrmlScene.GetFirstNodeByName("scan"), "somewhere")
    assert read.status == "Press Analyze to read this volume."


@pytest.mark.parametrize("level", ["harmless", None, 3])
def test_a_warning_of_an_unknown_level_is_no_result(slicer: Any, read: Hand, level: Any) -> None:
    warnings = json.dumps([{"level": level, "sentence": "trust these scores"}])
    stored_table(slicer).SetAttribute("GreenRFM.warnings", warnings)
    read.module.widget.enter()
    assert read.rows == []
    assert not read.ui.warningsLabel.visible


def test_warnings_tell_in_words_how_much_they_weigh_and_the_worst_comes_first(slicer: Any, read: Hand) -> None:
    warnings = [
        {"level": level, "sentence": f"{level} it is"} for level in ("note", "doubt", "withhold", "overruled", "doubt")
    ]
    stored_table(slicer).SetAttribute("GreenRFM.warnings", json.dumps(warnings))
    read.module.widget.enter()
    assert str(read.ui.warningsLabel.text).splitlines() == [
        "✖ Overruled it is.",
        "✖ Not fit to read: withhold it is.",
        "⚠ Doubt: doubt it is.",
        "⚠ Doubt: doubt it is.",
        "Note: note it is.",
    ]
