"""Every real CT and MR beside the project reads with plausible values and geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from greenrfm.volumes import PRESETS, VOLUME_SUFFIXES, Volume, orient, read_volume

# (path, stored axes, shape, modality): CT whose field of view holds soft tissue and bone.
CT = [
    ("ct_chest_LungDx-A0002/dicom", "LPS", (512, 512, 30), "CT"),
    ("ct_chest_LungDx-A0002/derived/lungdx_a0002_1.5x1.5x3.nii.gz", "LPS", (221, 221, 80), ""),
    ("ct_chest_LIDC-IDRI-0314/lidc0314_1.5x1.5x3.nii.gz", "LPS", (267, 267, 92), ""),
    ("ct_chest_CIP/ct-64.nrrd", "LPS", (64, 64, 79), ""),
    ("ct_chest_CIP/ct-64Dicom", "LPS", (64, 64, 79), "CT"),
    ("ct_chest_CIP/TestInput.nrrd", "LPS", (64, 64, 50), ""),
    ("ct_chest_elastix_3DCT_lung/3DCT_lung.mha", "LPS", (115, 157, 129), ""),
    ("ct_chest_elastix_3DCT_lung/3DCT_lung_baseline_small.mha", "LPS", (57, 78, 64), ""),
    ("ct_abdomen_CRLM-CT-1004/dicom", "LPS", (512, 512, 41), "CT"),
    ("ct_abdomen_CRLM-CT-1004/derived/crlm1004_1.5x1.5x3.nii.gz", "LPS", (272, 272, 68), ""),
    ("ct_body_TotalSegmentator_examples/example_ct.nii.gz", "RAS", (122, 101, 112), ""),
    ("ct_body_TotalSegmentator_examples/example_ct_sm.nii.gz", "RAS", (122, 101, 30), ""),
    ("ct_body_TotalSegmentator_examples/aorta_report_ct_cropped.nii.gz", "LPS", (120, 126, 164), ""),
    ("ct_body_TotalSegmentator_examples/pulmonary_report_ct_cropped.nii.gz", "LPS", (122, 102, 112), ""),
    ("ct_body_TotalSegmentator_examples/example_ct_dicom", "LPS", (512, 512, 20), "CT"),
    ("ct_extremity_STS/STS_001_CT.nii.gz", "LPS", (198, 202, 59), ""),
    ("ct_extremity_STS/STS_002_CT.nii.gz", "LPS", (161, 143, 48), ""),
    ("ct_extremity_STS/STS_003_CT.nii.gz", "LPS", (154, 158, 51), ""),
    ("ct_head/dicom2stl_ct_example.nii.gz", "LPS", (256, 256, 26), ""),
    ("mr_spine/tptbox_sample_ct/sub-ct_label-22_ct.nii.gz", "PIR", (73, 47, 73), ""),
]
MR = [
    ("mr_brain_PGBM-001/dicom", "LPS", (260, 320, 24), "MR"),
    ("mr_spine/sct_t2.nii.gz", "PSR", (60, 55, 52), ""),
    ("mr_spine/sct_t2_fake_lesion.nii.gz", "PSR", (99, 99, 29), ""),
    ("mr_spine/sct_t2s_uncropped.nii.gz", "LAS", (320, 320, 11), ""),
    ("mr_spine/sct_t1w.nii.gz", "RAS", (42, 76, 77), ""),
    ("mr_spine/tptbox_sample_mri/sub-mri_label-6_T2w.nii.gz", "PIR", (68, 52, 67), ""),
    ("ct_head/dicom2stl_mri_t1_example.nii.gz", "LPS", (256, 256, 26), ""),
    ("ct_body_TotalSegmentator_examples/example_mr_sm.nii.gz", "LPS", (117, 91, 20), ""),
]
MASKS = ("mask", "_msk", "_seg", "lm-64", "wholeLung")


def test_the_lists_above_name_every_volume(shared_data: Path) -> None:
    files = {
        path.relative_to(shared_data).as_posix()
        for path in shared_data.rglob("*")
        if path.name.lower().endswith(VOLUME_SUFFIXES) and not any(word in path.name for word in MASKS)
    }
    series = {path.relative_to(shared_data).as_posix() for path in shared_data.rglob("*icom") if path.is_dir()}
    assert files | series == {entry[0] for entry in CT + MR}


@pytest.mark.parametrize(("name", "codes", "shape", "modality"), CT)
def test_ct(shared_data: Path, name: str, codes: str, shape: tuple[int, int, int], modality: str) -> None:
    volume = read_volume(shared_data / name)
    assert (volume.axis_codes, volume.shape, volume.modality, volume.warnings) == (codes, shape, modality, ())
    assert min(volume.spacing) > 0.3
    assert max(volume.spacing) < 9
    # Real HU: air is near -1000 and soft tissue lies around 0 to 100.
    assert -3024 <= volume.array.min() <= -900
    assert 300 <= volume.array.max() <= 4000
    soft = volume.array[(volume.array > -150) & (volume.array < 250)]
    assert soft.size > 0.02 * volume.array.size
    assert -70 < np.median(soft) < 110
    prepared = PRESETS["chest-ct"].apply(volume)
    assert prepared.array.shape == (240, 240, 120)
    assert prepared.array.min() == -1
    assert prepared.array.max() <= 1.0001
    assert prepared.warnings == ()
    # The same anatomy stored otherwise, as nibabel or a viewer might write it.
    for other in ("RAS", "SLA"):
        assert np.abs(PRESETS["chest-ct"].apply(orient(volume, other)).array - prepared.array).max() <= 1e-5
    # The field's centre is the volume's, to half a voxel.
    centre = volume.affine @ [*(np.array(volume.shape) - 1) / 2, 1]
    assert np.abs(np.linalg.solve(prepared.affine, centre)[:3] - (119.5, 119.5, 59.5)).max() <= 0.51


@pytest.mark.parametrize(("name", "codes", "shape", "modality"), MR)
def test_mr(shared_data: Path, name: str, codes: str, shape: tuple[int, int, int], modality: str) -> None:
    volume = read_volume(shared_data / name)
    assert (volume.axis_codes, volume.shape, volume.modality, volume.warnings) == (codes, shape, modality, ())
    prepared = PRESETS["spine-mr"].apply(volume)
    assert prepared.array.shape == (240, 240, 24)
    assert np.abs(prepared.array).max() < 10
    assert np.abs(PRESETS["spine-mr"].apply(orient(volume, "RAS")).array - prepared.array).max() <= 1e-5


def same_patient_space(one: Volume, other: Volume) -> float:
    """Return the greatest distance in mm between the corners of two volumes' grids."""
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    scaled = corners * [*(np.array(one.shape) - 1), 1]
    return float(np.abs(scaled @ (one.affine - other.affine).T).max())


def test_dicom_and_nrrd_of_one_scan_are_the_same(shared_data: Path) -> None:
    dicom, nrrd = (read_volume(shared_data / "ct_chest_CIP" / name) for name in ("ct-64Dicom", "ct-64.nrrd"))
    assert np.array_equal(dicom.array, nrrd.array)
    assert same_patient_space(dicom, nrrd) < 0.1


@pytest.mark.parametrize("folder", ["ct_chest_LungDx-A0002", "ct_abdomen_CRLM-CT-1004"])
def test_dicom_and_the_nifti_derived_from_it_prepare_alike(shared_data: Path, folder: str) -> None:
    dicom = PRESETS["chest-ct"].apply(read_volume(shared_data / folder / "dicom"), "whole")
    (derived,) = (shared_data / folder / "derived").glob("*.nii.gz")
    nifti = PRESETS["chest-ct"].apply(read_volume(derived), "whole")
    h, w, d = (min(sizes) for sizes in zip(dicom.array.shape, nifti.array.shape, strict=True))
    one, other = (p.array[:h, :w, :d] for p in (dicom, nifti))
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


def test_dicom_agrees_with_itk_s_own_series_reader(shared_data: Path) -> None:
    for name, _, _, modality in CT + MR:
        if not modality or "TotalSegmentator" in name:  # that series has no UID, so ITK does not find it
            continue
        volume = read_volume(shared_data / name)
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(shared_data / name), volume.series_uid)
        image = sitk.ReadImage(files)
        assert np.array_equal(sitk.GetArrayFromImage(image).transpose(2, 1, 0), volume.array)
        assert np.allclose(image.GetSpacing(), volume.spacing, atol=0.01)
        assert np.allclose(image.GetOrigin(), volume.affine[:3, 3], atol=0.01)


def test_the_head_of_a_ct_points_up(shared_data: Path) -> None:
    """In canonical chest slices the table side is posterior: more air above (anterior) than tissue."""
    prepared = PRESETS["chest-ct"].apply(read_volume(shared_data / "ct_chest_LungDx-A0002/dicom"), "whole")
    assert Volume(prepared.array, prepared.affine).axis_codes == "PLS"
    # The spine: the densest bone of the middle column strip lies in the posterior half.
    strip = prepared.array[:, prepared.array.shape[1] * 9 // 20 : prepared.array.shape[1] * 11 // 20]
    bone = np.argwhere(strip > 0.99)[:, 0]
    assert np.median(bone) > prepared.array.shape[0] * 0.5
