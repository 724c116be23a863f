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


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_nifti_is_counted_and_damage_is_none(
    slicer: Any, hand: Hand, tmp_path: Path, dtype: str, version: int
) -> None:
    from GreenRFMLib.nifti import not_numbers

    order, kind = dtype[0], dtype[1:]
    values = np.arange(1000).astype(dtype)
    if kind[0] == "f":
        values[[3, 77, 999]] = np.nan, np.inf, -np.inf
    header = bytearray(352 if version == 1 else 544)
    code = {"f4": 16, "f8": 64, "i2": 4}[kind]
    header[:4] = np.array(348 if version == 1 else 540, f"{order}i4").tobytes()
    place = 70 if version == 1 else 12
    header[place : place + 2] = np.array(code, f"{order}i2").tobytes()
    begin = np.array(len(header), f"{order}{'f4' if version == 1 else 'i8'}").tobytes()
    place = 108 if version == 1 else 168
    header[place : place + len(begin)] = begin
    path = tmp_path / "x.nii"
    path.write_bytes(bytes(header) + values.tobytes())
    assert not_numbers(path) == (3 if kind[0] == "f" else 0)
    for damaged in (b"", bytes(header[:60]), b"\x1f\x8b nothing", bytes(800)):
        path.write_bytes(damaged)
        assert not_numbers(path) == 0
    assert not_numbers(tmp_path / "nowhere.nii") == 0
