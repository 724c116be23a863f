"""Volumes: geometry, reading, writing, preprocessing."""

from __future__ import annotations

import gzip
import itertools
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from dicom_files import blank_image, write_dicom
from greenrfm.errors import UserError
from greenrfm.volumes import (
    PRESETS,
    Preprocessing,
    Volume,
    orient,
    read_volume,
    to_canonical,
    write_volume,
)
from greenrfm.volumes.volume import to_image

CODES = ["".join(code) for order in itertools.permutations(("LR", "PA", "SI")) for code in itertools.product(*order)]
SMALL = Preprocessing(
    spacing=(2.0, 2.0, 3.0),
    size=(14, 12, 8),
    crop=(8, 8, 4),
    intensity="window",
    window=(-1000, 200),
    shift=400,
    scale=600,
)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        i, j = [other for other in range(3) if other != axis]
        one[i, i] = one[j, j] = np.cos(angle)
        one[i, j], one[j, i] = -np.sin(angle), np.sin(angle)
        turned = turned @ one
    return turned


def random_volume(
    seed: int,
    shape: tuple[int, int, int] = (11, 9, 7),
    spacing: tuple[float, float, float] = (0.9, 1.1, 1.4),
    tilt: float = 0.0,
) -> Volume:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation((tilt, -tilt, tilt)) * spacing
    affine[:3, 3] = random.uniform(-200, 200, 3)
    return Volume(random.integers(-1200, 1500, shape).astype(np.int16), affine)


def same(one: Volume, other: Volume) -> bool:
    return np.array_equal(one.array, other.array) and np.allclose(one.affine, other.affine, atol=2e-4)


# Geometry


def test_a_volume_refuses_what_is_no_volume() -> None:
    with pytest.raises(ValueError, match="three axes"):
        Volume(np.zeros((3, 3), np.int16), np.eye(4))
    with pytest.raises(ValueError, match="int16 or float32"):
        Volume(np.zeros((3, 3, 3), np.float64), np.eye(4))
    sheared = np.eye(4)
    sheared[0, 2] = 0.3
    with pytest.raises(ValueError, match="right angles"):
        Volume(np.zeros((3, 3, 3), np.int16), sheared)


@pytest.mark.parametrize("codes", CODES)
def test_orienting_agrees_with_itk(codes: str) -> None:
    volume = orient(random_volume(1, tilt=12), codes)
    assert volume.axis_codes == codes
    expected = sitk.DICOMOrient(to_image(volume), "PLS")
    canonical = to_canonical(volume)
    assert np.array_equal(sitk.GetArrayFromImage(expected).transpose(2, 1, 0), canonical.array)
    assert np.allclose(canonical.affine[:3, 3], expected.GetOrigin())
    assert np.allclose(canonical.affine[:3, :3] / canonical.spacing, np.reshape(expected.GetDirection(), (3, 3)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(2, 20)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.75, 0.8, 1.0, 1.5, 2.0, 2.7, 3.0, 5.0])] * 3),
    tilt=st.floats(-20, 20),
    codes=st.sampled_from(CODES),
    size=st.sampled_from([None, "whole", (9, 10, 5)]),
)
def test_the_stored_orientation_does_not_change_the_prepared_array(seed, shape, spacing, tilt, codes, size) -> None:
    volume = random_volume(seed, shape, spacing, tilt)
    one, other = SMALL.apply(volume, size), SMALL.apply(orient(volume, codes), size)
    assert one.array.shape == other.array.shape
    assert np.abs(one.array - other.array).max() <= 1e-5
    assert np.allclose(one.affine, other.affine, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.5, 4.0)] * 3),
    tilt=st.floats(-20, 20),
    codes=st.sampled_from(CODES),
    where=st.tuples(*[st.floats(0.3, 0.7)] * 3),
)
def test_a_bright_blob_lies_where_the_affine_says(spacing, tilt, codes, where) -> None:
    volume = random_volume(0, (24, 24, 24), spacing, tilt)
    centre = np.array(where) * 23
    distance = (np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), -1) - centre) * volume.spacing
    blob = 200 * np.exp(-(distance**2).sum(-1) / (2 * 4.0**2)) - 1000
    volume = orient(Volume(blob.astype(np.float32), volume.affine), codes)
    prepared = SMALL.apply(volume, "whole")
    weight = (prepared.array + 1.0).astype(np.float64)
    found = np.array([(weight * index).sum() for index in np.indices(weight.shape)]) / weight.sum()
    brightest = np.unravel_index(weight.argmax(), weight.shape)
    world = random_volume(0, (24, 24, 24), spacing, tilt).affine @ [*centre, 1]
    index = np.linalg.solve(prepared.affine, world)[:3]
    assert np.abs(index - brightest).max() <= 0.5 + 4.0 / 2 * 0.6
    if min(spacing) > 1.5:  # the whole blob lies inside
        assert np.abs(index - found).max() < 0.3


def test_a_linear_ramp_is_kept_in_world_coordinates() -> None:
    """Value = position: any shift of the grid, also by half a voxel, would show."""
    volume = random_volume(0, (40, 36, 30), (0.8, 1.5, 2.5), tilt=10)
    index = np.stack([*np.indices(volume.shape), np.ones(volume.shape)], -1)
    normal = np.array([0.5, -0.7, 0.3])
    ramp = (index @ volume.affine.T)[..., :3] @ normal
    ramp -= ramp.mean()
    prepared = SMALL.apply(Volume(ramp.astype(np.float32), volume.affine), (8, 8, 8))
    world = np.stack([*np.indices((8, 8, 8)), np.ones((8, 8, 8))], -1) @ prepared.affine.T
    expected = world[..., :3] @ normal
    expected -= (index @ volume.affine.T)[..., :3].reshape(-1, 3).mean(0) @ normal
    assert np.abs(prepared.array * 600 - 400 - expected).max() < 0.02


# Preprocessing


def test_averaging_turns_a_checkerboard_into_its_mean() -> None:
    board = np.where(np.indices((32, 32, 32)).sum(0) % 2, 100, -500).astype(np.int16)
    array = SMALL.apply(Volume(board, np.diag([1.0, 1.0, 1.5, 1.0])), "whole").array
    assert np.abs(array - (-200 + 400) / 600).max() < 1e-6


def test_noise_falls_as_averaging_promises() -> None:
    """1 mm to 3 mm slices: a mean of three has 0.58 of the noise, linear interpolation alone all of it."""
    noise = np.random.default_rng(0).normal(-400, 100, (16, 16, 300)).astype(np.float32)
    settings_ = Preprocessing((1.0, 1.0, 3.0), (16, 16, 100), (8, 8, 8), "window", (-1000, 1000))
    assert SMALL.apply(Volume(noise, np.eye(4)), "whole").array.size
    assert settings_.apply(Volume(noise, np.eye(4))).array.std() == pytest.approx(100 / np.sqrt(3), rel=0.03)


def test_outside_and_scanner_padding_are_scaled_air() -> None:
    tissue = np.full((10, 10, 10), 40, np.int16)
    tissue[:2] = -3024
    prepared = PRESETS["chest-ct"].apply(Volume(tissue, np.diag([3.0, 3.0, 3.0, 1.0])), (40, 40, 40))
    assert prepared.array[0, 0, 0] == pytest.approx(-1.0)
    assert prepared.array.min() == pytest.approx(-1.0)  # not the (-3024 + 400) / 600 of raw padding
    assert prepared.array.max() == pytest.approx((40 + 400) / 600)
    abdomen = PRESETS["abdomen-ct"].apply(Volume(tissue, np.eye(4)), (40, 40, 40))
    assert abdomen.array[0, 0, 0] == pytest.approx(-1.0)
    assert abdomen.array.max() == pytest.approx(0.04)


def test_padding_does_not_darken_what_is_averaged_with_it() -> None:
    """-3024 averaged with tissue would give -1500; as air it gives -492."""
    half = np.full((8, 8, 8), 40, np.int16)
    half[::2] = -3024
    array = SMALL.apply(Volume(half, np.diag([1.0, 2.0, 3.0, 1.0])), "whole").array
    # Axis 0 is left-right, so columns of the canonical array are averaged.
    assert np.allclose(array, ((40 - 1024) / 2 + 400) / 600, atol=1e-5)


def test_a_volume_on_the_grid_already_is_copied_not_blurred() -> None:
    volume = to_canonical(random_volume(3, (7, 5, 4), (2.0, 2.0, 3.0)))
    spacing = tuple(np.round(volume.spacing, 6))
    prepared = Preprocessing(spacing, (14, 12, 8), (1, 1, 1), "window", (-1000, 200), shift=400, scale=600).apply(
        volume
    )
    expected = (np.clip(volume.array.astype(np.float32), -1000, 200) + 400) / 600
    index = np.round(np.linalg.solve(prepared.affine, volume.affine @ [0, 0, 0, 1])[:3]).astype(int)
    box = tuple(slice(at, at + count) for at, count in zip(index, volume.shape, strict=True))
    assert np.abs(prepared.array[box] - expected).max() < 1e-5
    prepared.array[box] = -1
    assert prepared.array.max() == -1.0


def test_a_field_smaller_than_the_volume_is_its_centre() -> None:
    volume = random_volume(4, (40, 40, 20), (2.0, 2.0, 3.0))
    whole, part = SMALL.apply(volume, "whole"), SMALL.apply(volume, (20, 10, 8))
    assert whole.array.shape == (40, 40, 20)
    assert np.abs(whole.array[10:30, 15:25, 6:14] - part.array).max() < 1e-5
    assert np.allclose(whole.affine @ [10, 15, 6, 1], part.affine @ [0, 0, 0, 1])


def test_mr_is_normalised_per_volume_whatever_its_scale() -> None:
    signal = np.random.default_rng(0).gamma(2, 100, (30, 30, 10)).astype(np.float32)
    affine = np.diag([0.5, 0.5, 4.0, 1.0])
    preset = PRESETS["knee-mr"]
    one = preset.apply(Volume(signal, affine, "MR"), "whole").array
    other = preset.apply(Volume(signal * 7 + 50, affine, "MR"), "whole").array
    assert one.mean() == pytest.approx(0, abs=1e-4)
    assert one.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(one - other).max() < 1e-4
    assert preset.apply(Volume(signal, affine, "MR")).array.min() == one.min()
    with pytest.raises(UserError, match="same value"):
        preset.apply(Volume(np.zeros((4, 4, 4), np.int16), np.eye(4)))


@pytest.mark.parametrize("codes", CODES)
def test_mr_slices_come_last_however_they_are_stored(codes: str) -> None:
    """A sagittal knee: 3 mm slices along left-right."""
    sagittal = orient(random_volume(5, (24, 60, 50), (3.0, 0.6, 0.6)), codes)
    prepared = PRESETS["knee-mr"].apply(sagittal, "whole")
    assert prepared.array.shape == (50, 60, 24)
    assert Volume(prepared.array, prepared.affine).axis_codes == "IPL"


def test_values_that_cannot_be_hounsfield_units_are_warned_of() -> None:
    shifted = Volume(np.arange(64, dtype=np.int16).reshape(4, 4, 4), np.eye(4))
    assert "below 0 HU" in PRESETS["chest-ct"].apply(shifted).warnings[0]
    assert PRESETS["spine-mr"].apply(shifted).warnings == ()


@pytest.mark.parametrize("name", PRESETS)
def test_preprocessing_survives_its_dictionary(name: str) -> None:
    assert Preprocessing.from_dict(PRESETS[name].to_dict()) == PRESETS[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spacin": [1, 1, 1]}, "did you mean 'spacing'"),
        ({"spacing": [1, 1]}, "spacing must be"),
        ({"spacing": "fine"}, "values that fit|spacing must be"),
        ({"crop": [300, 1, 1]}, "crop must not be larger"),
        ({"intensity": "raw"}, "intensity must be"),
        ({"window": [5, 1]}, "window must be"),
        ({"scale": 0}, "scale must be"),
        ({"sampling": "nearest"}, "sampling must be"),
        ({"orientation": "RAS"}, "orientation must be"),
    ],
)
def test_preprocessing_that_makes_no_sense_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Preprocessing.from_dict(PRESETS["chest-ct"].to_dict() | change)
    with pytest.raises(UserError, match="needs the keys"):
        Preprocessing.from_dict({"spacing": None})


# Files


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


# DICOM


@pytest.fixture
def scan() -> Volume:
    return random_volume(20, (16, 12, 9), (0.75, 0.75, 2.5))


def test_a_dicom_series_equals_the_nifti(tmp_path: Path, scan: Volume) -> None:
    write_dicom(scan, tmp_path / "Ünï cödé 胸部", "1.2.3.4")
    (tmp_path / "Ünï cödé 胸部" / "notes.txt").write_text("not DICOM")
    write_volume(scan, tmp_path / "x.nii.gz")
    dicom, nifti = read_volume(tmp_path / "Ünï cödé 胸部"), read_volume(tmp_path / "x.nii.gz")
    assert same(dicom, nifti)
    assert same(dicom, scan)
    assert (dicom.modality, dicom.series_uid, dicom.warnings) == ("CT", "1.2.3.4", ())
    assert np.abs(SMALL.apply(dicom).array - SMALL.apply(nifti).array).max() <= 1e-5


@pytest.mark.parametrize("tilt", [-20, 8])
def test_an_oblique_series_keeps_its_geometry(tmp_path: Path, tilt: float) -> None:
    oblique = random_volume(21, (16, 12, 9), (0.75, 0.9, 2.5), tilt)
    write_dicom(oblique, tmp_path / "series", "1.2")
    read = read_volume(tmp_path / "series")
    assert same(read, oblique)
    assert read.warnings == ()


@pytest.mark.parametrize("codes", ["RPI", "LIP", "PIL"])
def test_coronal_sagittal_and_prone_series(tmp_path: Path, scan: Volume, codes: str) -> None:
    stored = orient(scan, codes)
    if np.linalg.det(stored.affine[:3, :3]) < 0:  # slices are sorted along the normal: right-handed
        stored = orient(stored, codes[:2] + {"P": "A", "I": "S", "L": "R"}[codes[2]])
    write_dicom(stored, tmp_path / "series", "1.2")
    assert same(read_volume(tmp_path / "series"), stored)
    assert same(to_canonical(read_volume(tmp_path / "series")), to_canonical(scan))


def test_rle_and_jpeg_2000_decode_to_the_same_values(tmp_path: Path) -> None:
    larger = random_volume(22, (64, 48, 5), (0.75, 0.75, 2.5))
    larger.array.clip(-1024, None, out=larger.array)
    twelve_bits = {"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}
    for name in ("rle", "j2k"):
        for path in write_dicom(larger, tmp_path / name, "1.2.3.4", **twelve_bits):
            if name == "rle":
                image = pydicom.dcmread(path)
                image.compress(RLELossless)
                image.save_as(path)
            else:
                writer = sitk.ImageFileWriter()
                writer.SetImageIO("GDCMImageIO")
                writer.SetUseCompression(True)
                writer.SetCompressor("JPEG2000")
                writer.KeepOriginalImageUIDOn()
                writer.SetFileName(str(path) + ".dcm")
                writer.Execute(sitk.ReadImage(path))
                path.unlink()
        used = {pydicom.dcmread(path).file_meta.TransferSyntaxUID.name for path in (tmp_path / name).iterdir()}
        assert all(("RLE" if name == "rle" else "JPEG 2000") in syntax for syntax in used)
        assert same(read_volume(tmp_path / name), larger)


def test_one_file_stands_for_its_series(tmp_path: Path, scan: Volume) -> None:
    paths = write_dicom(scan, tmp_path, "1.2.3.4")
    for path in write_dicom(random_volume(23), tmp_path / "other", "1.2.3.5"):
        path.rename(tmp_path / f"B{path.name}")
    assert same(read_volume(paths[3]), scan)
    with pytest.raises(UserError, match=r"belongs to series 1\.2\.3\.4"):
        read_volume(paths[3], "1.2.3.5")


def test_several_series_ask_for_a_choice(tmp_path: Path, scan: Volume) -> None:
    write_dicom(scan, tmp_path / "a", "1.2.3.4")
    write_dicom(random_volume(23), tmp_path / "b", "1.2.3.5", SeriesNumber=9)
    with pytest.raises(UserError, match=re.escape("--series UID: 4: 1.2.3.4 (9 slices); 9: 1.2.3.5 (7 slices)")):
        read_volume(tmp_path)
    assert same(read_volume(tmp_path, "1.2.3.4"), scan)
    with pytest.raises(UserError, match=r"holds no series 9\.9; it holds 4: 1\.2\.3\.4"):
        read_volume(tmp_path, "9.9")


def test_localizers_and_other_planes_are_left_out(tmp_path: Path, scan: Volume) -> None:
    write_dicom(scan, tmp_path / "series", "1.2.3.4")
    coronal = orient(random_volume(24, (16, 3, 9)), "LSA")
    for path in write_dicom(coronal, tmp_path / "coronal", "1.2.3.4"):
        path.rename(tmp_path / "series" / f"C{path.name}")
    scout = write_dicom(scan, tmp_path / "scout", "1.2.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    for path in scout[:2]:
        path.rename(tmp_path / "series" / f"S{path.name}")
    read = read_volume(tmp_path / "series")
    assert same(read, scan)
    assert re.match("3 images .* left out", read.warnings[0])


def test_copies_of_a_slice_do_not_matter(tmp_path: Path, scan: Volume) -> None:
    paths = write_dicom(scan, tmp_path, "1.2")
    (tmp_path / "copy").write_bytes(paths[4].read_bytes())
    assert same(read_volume(tmp_path), scan)


def test_missing_slices_are_told(tmp_path: Path, scan: Volume) -> None:
    paths = write_dicom(scan, tmp_path, "1.2")
    for k in (3, 4):
        paths[k].unlink()
    read = read_volume(tmp_path)
    assert read.shape == (16, 12, 7)
    assert read.spacing[2] == pytest.approx(2.5)
    assert "about 2 slices are missing" in read.warnings[0]


def move(path: Path, by: np.ndarray) -> None:
    image = pydicom.dcmread(path)
    image.ImagePositionPatient = (np.array(image.ImagePositionPatient, float) + by).tolist()
    image.save_as(path)


def test_uneven_slices_are_told(tmp_path: Path, scan: Volume) -> None:
    paths = write_dicom(scan, tmp_path, "1.2")
    move(paths[4], np.array([0, 0, 1.0]))
    read = read_volume(tmp_path)
    assert "slices lie unevenly, 1.50 to 3.50 mm apart; 2.50 mm is used" in read.warnings[0]


def test_positions_rounded_to_a_tenth_still_give_the_spacing(tmp_path: Path) -> None:
    thin = random_volume(25, (8, 8, 41), (1.0, 1.0, 0.625))
    for path in write_dicom(thin, tmp_path, "1.2"):
        image = pydicom.dcmread(path)
        image.ImagePositionPatient = [round(float(value), 1) for value in image.ImagePositionPatient]
        image.save_as(path)
    read = read_volume(tmp_path)
    assert read.spacing[2] == pytest.approx(0.625, abs=0.003)
    assert read.warnings == ()


def test_two_phases_in_one_series_are_refused(tmp_path: Path, scan: Volume) -> None:
    write_dicom(scan, tmp_path / "a", "1.2")
    write_dicom(scan, tmp_path / "b", "1.2")
    with pytest.raises(UserError, match="several images at the same position"):
        read_volume(tmp_path)


def test_a_tilted_gantry_is_straightened(tmp_path: Path) -> None:
    """A ball stays where it is in the patient although every slice is shifted against the one below."""
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    centre = np.array([20.0, 24.0, 20.0])
    drift = 0.3  # mm toward posterior per mm toward the head: 16.7 degrees
    i, j, k = np.indices((40, 40, 21)).astype(float)
    position = np.stack([i, j + drift * 2 * k, 2 * k], -1)
    ball = np.where(np.linalg.norm(position - centre, axis=-1) < 7, 100, -1000).astype(np.int16)
    paths = write_dicom(Volume(ball, affine), tmp_path, "1.2")
    for number, path in enumerate(paths):
        move(path, np.array([0, drift * 2 * number, 0]))
    read = read_volume(tmp_path)
    assert "tilted by 16.7 degrees" in read.warnings[0]
    weight = read.array.astype(float) + 1000
    found = np.array([(weight * index).sum() for index in np.indices(read.shape)]) / weight.sum()
    assert np.allclose((read.affine @ [*found, 1])[:3], centre, atol=0.1)


def test_a_slice_that_is_alone_is_refused(tmp_path: Path, scan: Volume) -> None:
    paths = write_dicom(scan, tmp_path, "1.2")
    for path in paths[1:]:
        path.unlink()
    for path in (tmp_path, paths[0]):
        with pytest.raises(UserError, match="holds 1 slice with a position"):
            read_volume(path)


def test_a_cut_off_slice_is_named(tmp_path: Path, scan: Volume) -> None:
    paths = write_dicom(scan, tmp_path, "1.2")
    paths[5].write_bytes(paths[5].read_bytes()[:-100])
    with pytest.raises(UserError, match=f"{paths[5].name} is damaged"):
        read_volume(tmp_path)


def test_unscaled_ct_is_told(tmp_path: Path, scan: Volume) -> None:
    write_dicom(scan, tmp_path, "1.2", RescaleIntercept=2000)
    assert "below 0 HU" in read_volume(tmp_path).warnings[0]


def test_fractional_slopes_give_float(tmp_path: Path, scan: Volume) -> None:
    write_dicom(scan, tmp_path, "1.2", RescaleSlope=0.5, RescaleIntercept=-500)
    read = read_volume(tmp_path)
    assert read.array.dtype == np.float32
    assert np.allclose(read.array, (scan.array + 1024.0) * 0.5 - 500)


def test_an_enhanced_multi_frame_file(tmp_path: Path, scan: Volume) -> None:
    image = blank_image("1.2.3.4", EnhancedCTImageStorage)
    image.Rows, image.Columns, image.NumberOfFrames = scan.shape[1], scan.shape[0], scan.shape[2]
    order = np.random.default_rng(0).permutation(scan.shape[2])  # frames need not be in order
    image.PixelData = b"".join(
        (scan.array[:, :, k].T.astype(np.int32) + 1024).astype(np.int16).tobytes() for k in order
    )
    shared, measures, plane, value = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [scan.spacing[1], scan.spacing[0]], scan.spacing[2]
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    value.RescaleSlope, value.RescaleIntercept, value.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    shared.PixelValueTransformationSequence = Sequence([value])
    image.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for k in order:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = (scan.affine @ [0, 0, k, 1])[:3].tolist()
        group.PlanePositionSequence = Sequence([place])
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = Sequence(groups)
    image.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    for path in (tmp_path, tmp_path / "enhanced.dcm"):
        assert same(read_volume(path), scan)
