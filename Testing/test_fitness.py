"""Is this scan fit to read: which volumes are doubted, which scores withheld, and that a user can overrule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greenrfm.bundle import Bundle, Fitness
from greenrfm.errors import UserError
from greenrfm.reading import Check, Reader, Reading
from greenrfm.reading.checks import worst_first
from greenrfm.volumes import PRESETS, Volume, orient, read_volume
from make_tiny_bundle import make_tiny_bundle
from test_reading import ORIENTATIONS, chest


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle: chest CT."""
    return make_tiny_bundle(tmp_path_factory.mktemp("fitness") / "tiny")


@pytest.fixture(scope="module")
def reader(bundle: Bundle) -> Reader:
    """Return a reader with one thread."""
    return Reader(bundle, threads=1)


def found(reading: Reading) -> set[tuple[str, str]]:
    return {(check.level, check.code) for check in reading.checks}


def without_lungs() -> Volume:
    volume = chest()
    return replace(volume, array=np.where((volume.array > -900) & (volume.array < -700), 40, volume.array))


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_chest_is_read_without_a_word(reader: Reader, codes: str) -> None:
    for modality in ("CT", ""):
        assert reader.read(replace(orient(chest(), codes), modality=modality)).checks == ()


CT = chest().array
WITHHELD = {
    "a picture of 256 grey values": np.clip((CT + 1000) / 8, 0, 255),
    "1024 above Hounsfield units": CT.clip(-1024) + 1024,
    "no Hounsfield units": (CT + 1000) * 0.3,
    "the scale is turned around": -CT,
    "they were scaled": CT / 1000,
    "hardly a voxel lies between": CT - 1024,
}


@pytest.mark.parametrize("why", WITHHELD)
def test_scores_of_what_is_not_in_hounsfield_units_are_withheld(reader: Reader, why: str) -> None:
    reading = reader.read(replace(chest(), array=WITHHELD[why].astype(np.float32)))
    assert found(reading) == {("withhold", "hounsfield")}
    assert why in reading.withheld
    assert reading.to_dict()["findings"] == []
    assert reading.to_dict()["withheld"] == reading.withheld == reading.warnings[0]


def test_a_ct_cut_off_below_air_is_doubted(reader: Reader) -> None:
    reading = reader.read(replace(chest(), array=CT.clip(-160, 240)))
    assert ("doubt", "hounsfield") in found(reading)
    assert any("cut off: air (-1000) cannot be seen" in sentence for sentence in reading.warnings)


def test_an_mr_is_withheld_from_a_ct_model_until_somebody_overrules(reader: Reader) -> None:
    volume = replace(chest(), modality="MR")
    reading = reader.read(volume, study_id="s1")
    assert reading.withheld == "the volume is MR, the model was trained on CT: its scores would mean nothing"
    assert reading.to_dict()["findings"] == []
    for shown in (reading.overrule(), reader.read(volume, overrule=True)):
        assert shown.withheld == ""
        assert len(shown.to_dict()["findings"]) == 3
        assert shown.warnings == ("these scores are shown because somebody overruled that they be withheld",
                                  *reading.warnings)  # fmt: skip
        assert shown.to_dict()["overruled"] is True
    sound = reader.read(chest(), overrule=True)
    assert sound.warnings == ()


def test_a_ct_is_withheld_from_an_mr_model(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, finding_set=replace(bundle.findings, modality="MR", body_part="knee"))
    mr = Reader(replace(bundle, manifest=replace(manifest, preprocessing=replace(PRESETS["knee-mr"], crop=(80, 62, 51),
                size=(80, 62, 51)))), threads=1)  # fmt: skip
    assert ("withhold", "modality") in found(mr.read(chest()))
    assert ("doubt", "modality") in found(mr.read(replace(chest(), modality="")))


def test_a_scan_without_lung_is_withheld_from_a_chest_model_and_says_what_it_may_be(reader: Reader) -> None:
    reading = reader.read(without_lungs())
    assert found(reading) == {("withhold", "body-part")}
    assert "no slice shows aerated lung (a cross-section of" in reading.withheld
    assert "looks like a limb or a neck" in reading.withheld


def test_the_same_scan_is_read_by_a_model_of_a_part_without_rules(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, finding_set=replace(bundle.findings, body_part="spine"))
    assert Reader(replace(bundle, manifest=manifest), threads=1).read(without_lungs()).checks == ()


def test_an_abdomen_model_doubts_a_chest(bundle: Bundle) -> None:
    manifest = replace(bundle.manifest, finding_set=replace(bundle.findings, body_part="abdomen"))
    reading = Reader(replace(bundle, manifest=manifest), threads=1).read(chest())
    assert any("looks like a chest" in sentence for sentence in reading.warnings)


def test_a_picture_cut_out_of_the_body_is_not_withheld_for_lack_of_an_outline(reader: Reader) -> None:
    inside = without_lungs().array[20:60, 15:45]
    inside[:20] -= 140  # fat
    assert reader.read(replace(chest(), array=inside)).withheld == ""


def test_lungs_that_go_on_beyond_the_scan_and_a_thin_scan_are_doubted(reader: Reader) -> None:
    volume = chest()
    reading = reader.read(replace(volume, array=volume.array[:, :, 10:]))
    assert [check.sentence for check in reading.checks] == [
        "the lungs go on beyond the lower end of the scan: what lies there cannot be seen"
    ]
    thin = reader.read(replace(volume, array=volume.array[:, :, 10:18]))
    assert {("doubt", "cut"), ("doubt", "body-part"), ("doubt", "coverage")} <= found(thin)
    assert any("only 20 mm of the scan show aerated lung" in sentence for sentence in thin.warnings)
    four = reader.read(replace(volume, array=volume.array[:, :, 10:14]))
    assert "only 10 mm of the scan show aerated lung" in four.withheld


def test_thick_slices_few_slices_and_oblong_pixels_are_said(reader: Reader) -> None:
    volume = chest()
    affine = volume.affine @ np.diag([1, 1, 5, 1])
    thick = reader.read(Volume(np.ascontiguousarray(volume.array[:, :, ::5]), affine, "CT"))
    assert any("12 mm apart from foot to head (training: 4 mm)" in sentence for sentence in thick.warnings)
    few = reader.read(replace(volume, array=volume.array[:, :, 10:18]))
    assert ("doubt", "slices") in found(few)
    oblong = Volume(np.ascontiguousarray(volume.array[:, ::2]), volume.affine @ np.diag([1, 2, 1, 1]), "CT")
    assert ("note", "spacing") in found(reader.read(oblong))


def test_what_the_file_was_odd_in_is_a_doubt(reader: Reader) -> None:
    reading = reader.read(replace(chest(), warnings=("about 2 slices are missing",)))
    assert reading.checks == (Check("file", "doubt", "about 2 slices are missing"),)


def test_a_field_that_misses_much_of_the_lungs_is_said(reader: Reader) -> None:
    volume = chest()
    far = np.pad(volume.array, ((0, 0), (0, 0), (0, 40)), constant_values=-1000.0)
    reading = reader.read(replace(volume, array=far))
    assert any("of the lungs in this scan lies outside the field" in sentence for sentence in reading.warnings)
    assert ("doubt", "coverage") not in found(reader.read(replace(volume, array=far), field="whole"))


def test_the_worst_is_said_first_and_nothing_twice() -> None:
    doubt, note = Check("cut", "doubt", "b"), Check("cut", "note", "c")
    worst = Check("modality", "withhold", "a")
    assert worst_first([note, doubt, worst, doubt]) == (worst, doubt, note)


def with_fitness(bundle: Bundle, folder: Path, limit: float, center: float) -> Bundle:
    """Return the bundle as if it doubted latents further than `limit` from `center`."""
    arrays = {"center": np.full(768, center, np.float32), "whitening": np.eye(768, dtype=np.float32)}
    np.savez(folder / "reference.npz", **arrays)
    manifest = replace(bundle.manifest, fitness=Fitness(limit, 0.99, 100))
    sessions = {("vision.onnx", 1): bundle.vision(1)}
    return replace(bundle, folder=folder, manifest=manifest, _sessions=sessions, _stamps={})


def test_a_latent_far_from_those_of_training_is_doubted(bundle: Bundle, reader: Reader, tmp_path: Path) -> None:
    distance = float(np.linalg.norm(reader.read(chest()).latent))
    near = Reader(with_fitness(bundle, tmp_path, distance * 1.01, 0.0), threads=1)
    assert near.read(chest()).checks == ()
    far = Reader(with_fitness(bundle, tmp_path, distance * 0.99, 0.0), threads=1)
    (check,) = far.read(chest()).checks
    assert (check.level, check.code) == ("doubt", "latent")
    assert "unlike those it was trained on" in check.sentence


def test_a_bundle_whose_fitness_arrays_do_not_fit_is_one_sentence(bundle: Bundle, tmp_path: Path) -> None:
    broken = with_fitness(bundle, tmp_path, 1.0, 0.0)
    np.savez(tmp_path / "reference.npz", center=np.zeros(3, np.float32))
    with pytest.raises(UserError, match="fitness check"):
        Reader(broken, threads=1).read(chest())


REAL = {
    "ct_chest_LungDx-A0002/dicom": "",
    "ct_chest_LungDx-A0002/derived/lungdx_a0002_1.5x1.5x3.nii.gz": "",
    "ct_chest_LIDC-IDRI-0314/lidc0314_1.5x1.5x3.nii.gz": "",
    "ct_chest_CIP/ct-64.nrrd": "",
    "ct_chest_elastix_3DCT_lung/3DCT_lung.mha": "",
    "ct_head/dicom2stl_ct_example.nii.gz": "looks like a head",
    "ct_extremity_STS/STS_001_CT.nii.gz": "no slice shows aerated lung",
    "ct_body_TotalSegmentator_examples/example_ct.nii.gz": "only 6 mm of the scan show aerated lung",
    "mr_brain_PGBM-001/dicom": "the volume is MR",
    "mr_spine/sct_t2.nii.gz": "no Hounsfield units",
    "ct_head/dicom2stl_mri_t1_example.nii.gz": "no Hounsfield units",
}


@pytest.mark.parametrize("name", REAL)
def test_of_real_scans_a_chest_model_withholds_what_is_no_chest_ct(
    reader: Reader, shared_data: Path, name: str
) -> None:
    reading = reader.read(read_volume(shared_data / name), field="crop")
    assert bool(reading.withheld) == bool(REAL[name])
    assert REAL[name] in reading.withheld
