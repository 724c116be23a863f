"""Volumes in files: NIfTI, NRRD, MetaImage, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_files import write_dicom
from greenrfm.errors import UserError
from greenrfm.volumes import (
    Volume,
    orient,
    read_volume,
    write_volume,
)
from greenrfm.volumes.volume import to_image
from some_volumes import SMALL, random_volume, same


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, dtype: type) -> None:
    volume = orient(random_volume(6, tilt=15), "AIR")
    volume = Volume(volume.array.astype(dtype), volume.affine)
    path = tmp_path / "Ünï cödé 胸部" / f"study 1{suffix}"
    write_volume(volume, path)
    read = read_volume(path)
    assert read.array.dtype == dtype
    assert same(read, volume)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_writing_refuses_other_formats_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must end in"):
        write_volume(random_volume(0), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint8, (0, 255), np.int16),
        (np.int32, (-1024, 3000), np.int16),
        (np.uint16, (0, 60000), np.float32),
        (np.float64, (-1.5, 2.5), np.float32),
    ],
)
def test_every_grey_type_becomes_int16_or_float32(tmp_path: Path, dtype, values, expected) -> None:
    array = np.resize(np.array(values, dtype), (3, 4, 5))
    sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / "x.nrrd")
    read = read_volume(tmp_path / "x.nrrd")
    assert read.array.dtype == expected
    assert (read.array.min(), read.array.max()) == values


def test_values_that_are_no_number_are_replaced_and_told(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 100, (4, 4, 4)).astype(np.float32)
    array[0, 0, 0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(array), tmp_path / "x.nrrd")
    read = read_volume(tmp_path / "x.nrrd")
    assert read.array[0, 0, 0] == np.nanmin(array)
    assert "1 voxels hold no number" in read.warnings[0]


def test_a_fourth_dimension_of_one_is_no_obstacle(tmp_path: Path) -> None:
    image = to_image(random_volume(7))
    sitk.WriteImage(sitk.JoinSeries([image]), tmp_path / "one.nrrd")
    assert same(read_volume(tmp_path / "one.nrrd"), random_volume(7))
    sitk.WriteImage(sitk.JoinSeries([image, image]), tmp_path / "two.nii.gz")
    with pytest.raises(UserError, match="4 dimensions"):
        read_volume(tmp_path / "two.nii.gz")


def test_images_that_are_no_volume_are_refused(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.Image([8, 8], sitk.sitkInt16), tmp_path / "flat.nrrd")
    sitk.WriteImage(sitk.Image([8, 8, 1], sitk.sitkInt16), tmp_path / "single.nii.gz")
    sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkVectorUInt8, 3), tmp_path / "colour.nrrd")
    for name, message in {
        "flat.nrrd": "single slice",
        "single.nii.gz": "single slice",
        "colour.nrrd": "colour",
    }.items():
        with pytest.raises(UserError, match=message):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("damage", ["cut", "empty", "junk"])
def test_damaged_files_are_one_sentence(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_volume(random_volume(8, (30, 30, 30)), path)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) * 2 // 3], "empty": b"", "junk": b"not an image " * 50}[damage])
    with pytest.raises(UserError, match=r"x\.\w+.* is damaged or cut off") as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


SIZED = "NDims = 3\nDimSize = 4 4 1\nElementType = MET_SHORT\nElementDataFile = "
HEADERS = {
    "text": ("hello\n" * 5, "damaged"),
    "no size": ("ObjectType = Image\nNDims = 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n", "damaged"),
    "no data": (SIZED + "x.raw\n", "x.raw, which is not"),
    "outside": (SIZED + "../x.raw\n", "outside its own"),
    "list": (SIZED + "LIST\n/x.raw\n", "outside its own"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_bad_detached_header_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    header, message = HEADERS[name]
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.raw").write_bytes(bytes(128))
    path = tmp_path / "folder" / "x.mhd"
    path.write_text(header)
    with pytest.raises(UserError, match=message):
        read_volume(path)
    assert not capfd.readouterr().err  # ITK would print lines of its own


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_detached_header_reads_its_neighbour_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / f"x{suffix}"
    sitk.WriteImage(sitk.Image([8, 8, 8], sitk.sitkInt16), path)
    assert read_volume(path).shape == (8, 8, 8)
    raw = next(file for file in path.parent.iterdir() if file != path)
    raw.rename(tmp_path / raw.name)
    with pytest.raises(UserError, match="is not beside it"):
        read_volume(path)
    path.write_bytes(path.read_bytes().replace(raw.name.encode(), b"../" + raw.name.encode()))
    with pytest.raises(UserError, match="outside its own folder"):
        read_volume(path)


@pytest.mark.parametrize("dimensions", [(3, -12, 12, 8), (9, 12, 12, 8), (3, 0, 12, 8), (-1, 12, 12, 8)])
def test_nifti_dimensions_that_cannot_be_are_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], dimensions: tuple[int, ...]
) -> None:
    path = tmp_path / "x.nii"
    write_volume(random_volume(8, (12, 12, 8)), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<4h", content, 40, *dimensions)
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_volume(path)
    assert not capfd.readouterr().err


def test_a_flipped_bit_in_a_gz_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    write_volume(random_volume(9, (20, 20, 20)), path)
    packed = bytearray(gzip.compress(path.read_bytes()))
    packed[len(packed) // 2] ^= 0x10
    (tmp_path / "x.nii.gz").write_bytes(packed)
    with pytest.raises(UserError, match="damaged"):
        read_volume(tmp_path / "x.nii.gz")


def test_paths_that_hold_no_volume_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("hello")
    for name, message in {
        "nowhere.nii.gz": "does not exist",
        "empty": "no DICOM",
        "notes": "no DICOM",
        "notes/readme.txt": "no volume that can be read",
    }.items():
        with pytest.raises(UserError, match=message):
            read_volume(tmp_path / name)


def test_threads_read_and_prepare_the_same(tmp_path: Path) -> None:
    volume = random_volume(10, (30, 20, 10))
    write_volume(volume, tmp_path / "x.nii.gz")
    write_dicom(volume, tmp_path / "series", "1.2.3.4")
    paths = [tmp_path / "x.nii.gz", tmp_path / "series"] * 6
    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(lambda path: SMALL.apply(read_volume(path)).array, paths))
    assert all(np.abs(array - arrays[0]).max() < 1e-5 for array in arrays)
