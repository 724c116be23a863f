"""Voxels of a NIfTI file that hold no number, which SimpleITK reads as 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from greenrfm.volumes import read_volume
from greenrfm.volumes.nifti import not_numbers


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2"])
@pytest.mark.parametrize("version", [1, 2])
def test_every_kind_of_nifti_is_counted_and_damage_is_none(tmp_path: Path, dtype: str, version: int) -> None:
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


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_volume_says_what_it_lost(tmp_path: Path, name: str) -> None:
    array = np.full((4, 5, 6), -1000, np.float32)
    array[0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    assert read_volume(tmp_path / name).warnings == (
        "30 voxels of the file hold no number and are read as 0; save it again with the value of air there",
    )
    sitk.WriteImage(sitk.GetImageFromArray(np.nan_to_num(array, nan=-1000)), str(tmp_path / name))
    assert read_volume(tmp_path / name).warnings == ()
