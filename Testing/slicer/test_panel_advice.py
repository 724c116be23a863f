"""What greenrfm's sentences advise in the panel: nothing that takes a command line."""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from analyze_panel import Hand, scan

import greenrfm
from greenrfm.bundle import NOT_CALIBRATED_BUNDLE, Bundle
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.events import click, wait_until
from slicer_harness.extension import extension_folder

PACKAGE = Path(greenrfm.__file__).parent
ROOMS = ("bundle", "library", "reading", "volumes")
# Writing and checking bundles, measuring speed, and reading files, all of which the viewer does itself or not at all.
ELSEWHERE = {
    *("bundle/write.py", "bundle/check.py", "bundle/check_networks.py", "reading/speed.py", "reading/zero_shot.py"),
    *("library/export.py", "library/server.py"),
    *("volumes/dicom.py", "volumes/dicom_series.py", "volumes/facts.py", "volumes/headers.py", "volumes/write.py"),
}
# Options and their values, commands, files of the command line, and what only the bundle's maker can do.
COMMAND_LINE = re.compile(
    r"(?<![\w-])--\w|greenrfm (bundle|read|train|library|cases|adapt|check)\b|\bpip\b|cohort|"
    r"'(crop|padded|whole|tiles)'|whole field|--?series|(?<!new )\bexport (it|the|again|with)\b|"
    r"\bgreenrfm\b|open the bundle|\bgive (its|the folder|the original|the scan|it as)\b|adapt it with"
)


@pytest.fixture(autouse=True)
def extension(slicer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(extension_folder())


def sentences() -> Iterator[tuple[str, str]]:
    """Yield (place, text) of all that the rooms which read say; what is filled in stands as "X"."""
    for room in ROOMS:
        for path in sorted((PACKAGE / room).glob("*.py")):
            name = f"{room}/{path.name}"
            if name not in ELSEWHERE:
                tree = ast.parse(path.read_text(encoding="utf-8"))
                for line, text in _texts(tree):
                    yield f"{name}:{line}", text


def _texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) in parts:
            values = (part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
            yield node.lineno, "".join(map(str, values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.lineno, node.value


def _is_docstring(text: str) -> bool:
    return text[:1].isupper() and text.rstrip().endswith(".")


def test_no_sentence_of_reading_advises_what_takes_a_command_line() -> None:
    from GreenRFMLib.advice import in_viewer

    said = [(place, text) for place, text in sentences() if " " in text and not _is_docstring(text)]
    assert len(said) > 100
    assert any(COMMAND_LINE.search(text) for _, text in said)
    assert [(place, in_viewer(text)) for place, text in said if COMMAND_LINE.search(in_viewer(text))] == []
    assert not COMMAND_LINE.search(in_viewer(NOT_CALIBRATED_BUNDLE))


def test_every_piece_of_advice_is_still_said_by_greenrfm() -> None:
    """Words that were changed there must be changed here too."""
    from GreenRFMLib import advice

    texts = [NOT_CALIBRATED_BUNDLE, *(text for _, text in sentences())]
    said = "\n".join(texts)
    patterns = [pattern for pattern, _ in (*advice._of_scans(), *advice._of_bundles(), *advice._of_libraries())]
    assert [pattern for pattern in patterns if not re.search(pattern, said)] == []


def test_advice_reads_well(slicer: Any) -> None:
    from GreenRFMLib.advice import in_viewer

    for said, shown in {
        "X is not a tokenizer; copy or export the bundle again": (
            "X is not a tokenizer; copy its whole folder again, or ask whoever made the bundle for a new export"
        ),
        "X is no ONNX; export it again": "X is no ONNX; ask whoever made the bundle for a new export",
        "onnxruntime cannot open X; update onnxruntime or export the bundle again": (
            "onnxruntime cannot open X; update the package onnxruntime in Slicer's Python, or ask whoever "
            "made the bundle for a new export"
        ),
        "16% of the lungs lie outside: read the whole field, or cut the scan to the chest": (
            "16% of the lungs lie outside: cut the scan to the chest, with the module Crop Volume"
        ),
        "the volume was taken for pd, the bundle's first sequence: name another with --sequence": (
            "the volume was taken for pd, the bundle's first sequence: choose in the list of images what it is"
        ),
        "library X was made with another bundle (1, not 2) and latents of two bundles cannot be compared; open it with "
        "its own bundle, or add the studies to a new library in another folder: greenrfm library rebuild /a b "
        "--bundle BUNDLE --out NEW_FOLDER": (
            "library X was made with another bundle (1, not 2) and latents of two bundles cannot be compared; analyze "
            "with the bundle it was made with, or choose another folder"
        ),
        "nothing of the kind": "nothing of the kind",
    }.items():
        assert in_viewer(said) == shown


def test_the_panel_shows_the_viewers_advice_above_the_scores_and_the_scene_keeps_greenrfms_words(
    slicer: Any, hand: Hand, bundle: Bundle
) -> None:
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    shown = str(hand.ui.warningsLabel.text)
    assert "cut the scan to the chest, with the module Crop Volume" in shown
    assert "whole field" not in shown
    (table,) = slicer.util.getNodesByClass("vtkMRMLTableNode")
    assert "read the whole field" in table.GetAttribute("GreenRFM.warnings")


def test_the_reason_for_withholding_says_what_can_be_done_in_the_viewer(
    slicer: Any, hand: Hand, bundle: Bundle
) -> None:
    node = scan(slicer)
    slicer.util.arrayFromVolume(node)[:] += 1024
    slicer.util.arrayFromVolumeModified(node)
    hand.choose(node, bundle.folder)
    hand.analyze()
    reason = str(hand.ui.withheldLabel.text)
    assert reason.endswith("load the DICOM series itself, or a file saved with rescale slope and intercept applied."), (
        hand.status
    )


def test_what_a_failure_advises_can_be_done_in_the_panel(slicer: Any, hand: Hand, tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "bundle").folder
    hand.choose(scan(slicer), folder)
    hand.analyze()
    # The text network is opened at the first query: by then it is another file.
    network = (folder / "text.onnx").read_bytes()
    (folder / "text.onnx").write_bytes(network + b"\0")
    hand.ui.textLineEdit.text = "lung nodule"
    ask(hand)
    assert "was changed since the bundle was opened; press Analyze again" in hand.status
    hand.analyze()
    assert "copy the bundle again" in hand.status
    (folder / "text.onnx").write_bytes(network)
    hand.analyze()
    ask(hand)
    assert "text query" in str(hand.ui.cellSizeLabel.text)
    shutil.rmtree(folder)
    hand.analyze()
    assert hand.status.endswith("cannot be read; choose the folder that holds manifest.json.")


def ask(hand: Hand) -> None:
    click(hand.ui.textButton)
    wait_until(lambda: not hand.running, 60)
