"""DICOM: series, compression, geometry, what is odd in a folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, RLELossless

from dicom_files import blank_image, write_dicom
from greenrfm.errors import UserError
from greenrfm.volumes import (
    Volume,
    orient,
    read_volume,
    to_canonical,
    write_volume,
)
from some_volumes import SMALL, random_volume, same


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
