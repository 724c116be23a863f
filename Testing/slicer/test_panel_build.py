"""The panel builds bare: no main window, no network, none of the packages that reading needs, and fast."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from analyze_panel import panel, tries_the_gap_again

from make_tiny_bundle import make_tiny_bundle
from slicer_harness.extension import extension_folder

# A child process in which no socket can be opened and, if it is told so, the packages cannot be imported.
BARE = """
import socket, sys

HEAVY = ["onnxruntime", "tokenizers", "yaml", "torch", "qdrant_edge", "transformers", "pandas", "SimpleITK", "pydicom"]

def refuse(*_):
    raise OSError("no network here")

from slicer_harness import boot
boot()
assert not set(HEAVY) & set(sys.modules), "the environment itself imports them: this test would prove nothing"
socket.socket.connect = refuse
import slicer
from slicer_harness.module import load_module
assert slicer.app.layoutManager() is None
assert slicer.util.mainWindow() is None
if sys.argv[2] == "blocked":
    sys.modules.update(dict.fromkeys(HEAVY))
module = load_module(sys.argv[1])
imported = [name for name in HEAVY if sys.modules.get(name) is not None]
assert not imported, imported
print("STATUS", module.widget.ui.statusLabel.text)
module.close()
"""

# A child process that never imported what reading needs: its first Analyze does.
COLD = """
import sys

import numpy as np
from slicer_harness import boot
boot()
import slicer
from slicer_harness.events import Heartbeat, choose_node, click, process_events, wait_until
from slicer_harness.module import load_module

NEEDED = {"onnxruntime", "SimpleITK", "greenrfm.reading"}
ui = load_module(sys.argv[1]).widget.ui
chest = np.full((40, 60, 60), -1000, np.int16)
chest[:, 8:52, 4:56] = 40
chest[:, 14:46, 9:26] = chest[:, 14:46, 34:51] = -900
node = slicer.util.addVolumeFromArray(chest, name="scan")
choose_node(ui.volumeSelector, node)
ui.bundlePathLineEdit.currentPath = sys.argv[2]
process_events()
assert not NEEDED & set(sys.modules)
with Heartbeat() as heartbeat:
    click(ui.analyzeButton)
    wait_until(lambda: not ui.cancelButton.enabled, 60)
assert NEEDED <= set(sys.modules)
assert ui.findingsTable.rowCount == 3, ui.statusLabel.text
print("GAP", round(1000 * heartbeat.longest_gap_s))
slicer.modules.GreenRFMWidget.cleanup()
"""


def bare(code: str, *arguments: str) -> str:
    testing = str(Path(__file__).resolve().parents[1])
    environment = os.environ | {"PYTHONPATH": testing, "QT_QPA_PLATFORM": "offscreen"}
    child = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return child.stdout


@pytest.mark.parametrize(
    ("packages", "status"),
    [
        ("blocked", "Reading needs onnxruntime, tokenizers, pyyaml: press Install."),
        ("there", "Choose a volume and the folder of a model bundle."),
    ],
)
def test_the_panel_builds_without_window_and_network_and_imports_no_package(packages: str, status: str) -> None:
    assert f"STATUS {status}" in bare(BARE, str(extension_folder() / "GreenRFM.py"), packages)


@tries_the_gap_again
def test_the_first_analyze_imports_what_it_needs_and_leaves_the_viewer_usable(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    output = bare(COLD, str(extension_folder() / "GreenRFM.py"), str(bundle.folder))
    print(output)
    gap_ms = int(output.split("GAP")[1])
    assert gap_ms <= 200, f"the UI stood still for {gap_ms} ms"


def test_building_the_panel_takes_at_most_half_a_second(slicer: Any) -> None:
    began = time.perf_counter()
    with panel() as hand:
        took = time.perf_counter() - began
        assert hand.ui.analyzeButton.text == "Analyze"
    assert took <= 0.5, f"{took:.2f} s"


def test_the_modules_own_tests_pass(slicer: Any) -> None:
    with panel() as hand:
        hand.module.python.GreenRFMTest("runTest").runTest()


def test_a_module_without_its_package_says_that_the_extension_is_incomplete(
    slicer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(extension_folder())
    from GreenRFMLib.package import provide_greenrfm

    installed = tmp_path / "module" / "GreenRFMTrain"
    (installed / "greenrfm").mkdir(parents=True)
    (installed / "greenrfm" / "__init__.py").touch()
    before = sys.path[:]
    provide_greenrfm(tmp_path / "module")
    assert sys.path == [str(installed), *before]
    sys.path[:] = before
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="incomplete"):
        provide_greenrfm(tmp_path / "elsewhere")
