"""Volumes in which there is little or nothing to read: one clear sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from analyze_panel import Hand
from planes_bundle import make_planes_bundle

from greenrfm.bundle import Bundle
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.events import process_events
from slicer_harness.pythonqt import unwrap

EMPTY = "This volume is empty: all its voxels have one value, or none. Choose another one."
SINGLE = "This is a single slice. Choose a whole volume."


@pytest.fixture(scope="module", params=["CT", "MR"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("odd")
    return make_tiny_bundle(folder / "ct") if request.param == "CT" else make_planes_bundle(folder / "mr")


def chest() -> np.ndarray:
    """Return (slices, rows, columns) of a trunk with two lungs, in floating point."""
    array = np.full((40, 60, 60), -1000, np.float32)
    array[:, 8:52, 4:56] = 40
    array[:, 14:46, 9:26] = array[:, 14:46, 34:51] = -900
    array[10:20, 20:35, 30:45] = 400
    return array


def analyze(slicer: Any, hand: Hand, model: Bundle, path: Path, array: np.ndarray) -> None:
    """Save the array to `path`, load it, say what it is if the model asks, and analyze it."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.5, 2.5, 4.0))
    sitk.WriteImage(image, str(path))
    hand.choose(slicer.util.loadVolume(str(path)), model.folder)
    if hand.ui.imagesTable.visible:
        choice = unwrap(hand.ui.imagesTable.cellWidget(0, 1))
        choice.activated.emit(1)
        process_events()
    if hand.ui.analyzeButton.enabled:
        hand.analyze()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_no_number_are_counted_in_a_warning(
    slicer: Any, hand: Hand, model: Bundle, tmp_path: Path, suffix: str, value: float
) -> None:
    array = chest()
    array[3:5, :, :2] = value
    analyze(slicer, hand, model, tmp_path / f"scan{suffix}", array)
    if hand.ui.overruleButton.visible:
        hand.ui.overruleButton.click()
        process_events()
    assert len(hand.rows) == 3, hand.status
    said = {
        ".nrrd": "Doubt: 240 voxels hold no number and were set to -1000.",
    }.get(suffix, "Doubt: 240 voxels of the file hold no number, and the viewer set them to 0.")
    assert said in str(hand.ui.warningsLabel.text)
    values = np.concatenate(
        [slicer.util.arrayFromVolume(node).ravel() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
         if node.GetAttribute("GreenRFM.role")]
    )  # fmt: skip
    assert np.isfinite(values).all()


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("value", [0, -1000, 40, np.nan])
def test_a_blank_volume_is_a_sentence(
    slicer: Any, hand: Hand, model: Bundle, tmp_path: Path, suffix: str, value: float
) -> None:
    analyze(slicer, hand, model, tmp_path / f"scan{suffix}", np.full((12, 30, 30), value, np.float32))
    assert hand.status == EMPTY
    assert hand.rows == []
    assert not hand.ui.overruleButton.visible


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_slice_is_a_sentence(
    slicer: Any, hand: Hand, model: Bundle, tmp_path: Path, suffix: str, axis: int
) -> None:
    analyze(slicer, hand, model, tmp_path / f"scan{suffix}", np.take(chest(), [20], axis))
    assert hand.status == SINGLE
    assert not hand.ui.analyzeButton.enabled


def test_a_volume_that_was_changed_since_it_was_loaded_is_not_compared_with_its_file(
    slicer: Any, hand: Hand, tmp_path: Path
) -> None:
    from GreenRFMLib.scene import voxels_of

    array = chest()
    array[0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "scan.nii.gz"))
    node = slicer.util.loadVolume(str(tmp_path / "scan.nii.gz"))
    assert "3600 voxels of the file" in voxels_of(node).copy().warnings[0]
    slicer.util.arrayFromVolume(node)[0] = -1000
    slicer.util.arrayFromVolumeModified(node)
    assert voxels_of(node).copy().warnings == ()
