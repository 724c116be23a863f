"""What a reading holds besides scores: tiles, zero-shot, free text, the fastest setting; what must not change it."""

from __future__ import annotations

import json
import platform
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_files import write_dicom
from greenrfm.bundle import Bundle, FeatureGrid, TextEncoder
from greenrfm.errors import UserError
from greenrfm.reading import NOT_CALIBRATED, Reader, calibrated_field, resample
from greenrfm.reading import speed as speeds
from greenrfm.reading.features import stitched, tiles
from greenrfm.volumes import Volume, orient, read_volume, write_volume
from make_tiny_bundle import PREPROCESSING, STRIDE, make_tiny_bundle
from some_volumes import CODES, rotation
from test_reading import chest


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle."""
    return make_tiny_bundle(tmp_path_factory.mktemp("more") / "tiny")


@pytest.fixture(scope="module")
def reader(bundle: Bundle) -> Reader:
    """Return a reader with one thread."""
    return Reader(bundle, threads=1)


def logits(reader: Reader, volume: Volume, **more: object) -> np.ndarray:
    return np.array([score.logit for score in reader.read(volume, **more).scores])


# What must not change scores


def rescaled(paths: list[Path], slope: float, intercept: float, signed: bool) -> None:
    """Store the same HU with another rescale slope and intercept, and another type where the values fit."""
    for path in paths:
        image = pydicom.dcmread(path)
        values = np.frombuffer(image.PixelData, np.int16).astype(np.int32) - 1024
        stored = np.rint((values - intercept) / slope).astype(np.int32)
        if not signed and stored.min() >= 0:
            image.PixelRepresentation = 0
            image.PixelData = stored.astype(np.uint16).tobytes()
        else:
            image.PixelRepresentation = 1
            image.PixelData = stored.astype(np.int16).tobytes()
        image.RescaleSlope, image.RescaleIntercept = slope, intercept
        image.save_as(path)


@given(
    codes=st.sampled_from(CODES),
    stored=st.sampled_from(["int16", "float32", "dicom", "uint16 dicom", "nii.gz", "mha"]),
    slope=st.sampled_from([1.0, 0.5, 2.0]),
    intercept=st.sampled_from([0.0, -1024.0, 100.0]),
)
@settings(deadline=None, max_examples=25)
def test_orientation_rescaling_and_storage_of_the_same_anatomy_do_not_change_scores(
    reader: Reader, tmp_path_factory: pytest.TempPathFactory, codes: str, stored: str, slope: float, intercept: float
) -> None:
    whole = chest()
    whole = Volume((np.rint(whole.array / 2) * 2).astype(np.int16), whole.affine, "CT")  # what a slope of 2 can say
    expected = logits(reader, whole)
    volume = orient(whole, codes)
    folder = tmp_path_factory.mktemp("stored")
    if stored == "float32":
        volume = replace(volume, array=volume.array.astype(np.float32))
    elif stored.endswith("dicom"):
        rescaled(write_dicom(orient(volume, "LPS"), folder / "series", "1.2.3"), slope, intercept, stored == "dicom")
        volume = read_volume(folder / "series")
    elif stored != "int16":
        write_volume(volume, folder / f"scan.{stored}")
        volume = read_volume(folder / f"scan.{stored}")
    np.testing.assert_allclose(logits(reader, volume), expected, atol=1e-3)


@pytest.mark.parametrize("field", ["tiles", "padded"])
def test_the_same_body_turned_in_the_scanner_frame_gives_the_same_scores_and_a_map_that_turns_with_it(
    reader: Reader, field: str
) -> None:
    volume = chest()
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = rotation((6.0, -4.0, 5.0)), (3.0, -8.0, 20.0)
    moved = replace(volume, affine=turn @ volume.affine)
    first, second = (reader.read(each, heatmaps=True, field=field) for each in (volume, moved))
    np.testing.assert_allclose([s.logit for s in second.scores], [s.logit for s in first.scores], atol=1e-3)
    assert first.heatmaps is not None
    assert second.heatmaps is not None
    np.testing.assert_allclose(second.heatmaps.values, first.heatmaps.values, atol=1e-3)
    np.testing.assert_allclose(second.heatmaps.affine, turn @ first.heatmaps.affine, atol=1e-6)


@pytest.mark.parametrize("field", ["padded", "tiles"])
@given(
    cells=st.tuples(*(st.integers(-1, 1) for _ in range(3))),
    codes=st.sampled_from(CODES),
    key=st.sampled_from(["lung_nodule", "emphysema", "effusion"]),
)
@settings(deadline=None, max_examples=25)
def test_a_body_shifted_by_whole_cells_away_from_the_border_shifts_the_heat_map(
    reader: Reader, field: str, cells: tuple[int, int, int], codes: str, key: str
) -> None:
    spacing = PREPROCESSING.spacing
    assert spacing is not None

    def scan(shift: tuple[int, int, int]) -> Volume:
        array = np.full(PREPROCESSING.size, -1000, np.int16)
        low = [(size // 2 - 2 * step) + by * step for size, step, by in zip(array.shape, STRIDE, shift, strict=True)]
        body = np.random.default_rng(5).integers(-200, 400, [4 * step for step in STRIDE])
        array[tuple(slice(at, at + 4 * step) for at, step in zip(low, STRIDE, strict=True))] = body
        affine = np.zeros((4, 4))
        affine[[1, 0, 2], [0, 1, 2]] = spacing  # rows to posterior, columns to left, slices to head
        affine[3, 3] = 1.0
        return Volume(array, affine, "CT")

    still, moved = (
        reader.read(orient(scan(shift), codes), heatmaps=True, field=field, overrule=True).heatmaps
        for shift in ((0, 0, 0), cells)
    )
    assert still is not None
    assert moved is not None
    np.testing.assert_allclose(moved.affine, still.affine, atol=1e-6)
    # Tiles do not begin at whole cells of the field, so that their maps are interpolated.
    loose = 1e-4 if field == "padded" else 0.05 * float(np.ptp(still[key]))
    np.testing.assert_allclose(moved[key], np.roll(still[key], cells, axis=(0, 1, 2)), atol=loose)


def test_resampling_to_another_spacing_hardly_changes_scores(reader: Reader) -> None:
    volume = chest()
    finer = volume.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] -= volume.affine[:3, :3] @ [0.25, 0.25, 0.25]
    again = Volume(np.repeat(np.repeat(np.repeat(volume.array, 2, 0), 2, 1), 2, 2), finer, "CT")
    np.testing.assert_allclose(logits(reader, again), logits(reader, volume), atol=0.05)


# Tiles


SIDES = st.integers(1, 40)


@given(size=st.tuples(SIDES, SIDES, SIDES), crop=st.tuples(SIDES, SIDES, SIDES))
def test_tiles_cover_the_field_and_stay_within(size: tuple[int, int, int], crop: tuple[int, int, int]) -> None:
    seen = np.zeros(size, bool)
    crop = tuple(min(part, whole) for part, whole in zip(crop, size, strict=True))
    starts = tiles(size, crop)
    assert (
        len(starts) == len(set(starts)) == np.prod([-(-whole // part) for whole, part in zip(size, crop, strict=True)])
    )
    for at in starts:
        assert all(0 <= first <= whole - part for first, whole, part in zip(at, size, crop, strict=True))
        seen[tuple(slice(first, first + part) for first, part in zip(at, crop, strict=True))] = True
    assert seen.all()


def test_tiles_lie_at_the_corners_of_a_field_that_is_a_little_longer() -> None:
    assert tiles((10, 10, 4), (8, 8, 4)) == [(0, 0, 0), (0, 2, 0), (2, 0, 0), (2, 2, 0)]
    assert len(tiles((240, 240, 120), (192, 192, 96))) == 8
    assert tiles((8, 8, 4), (8, 8, 4)) == [(0, 0, 0)]


def test_the_latent_of_tiles_is_their_mean(reader: Reader, bundle: Bundle) -> None:
    field = bundle.preprocessing.apply(chest()).array
    session = bundle.vision(1)
    latents = []
    for at in tiles(PREPROCESSING.size, PREPROCESSING.crop):
        tile = field[tuple(slice(a, a + part) for a, part in zip(at, PREPROCESSING.crop, strict=True))]
        latents.append(session.run(["latent"], {"volume": np.ascontiguousarray(tile)[None, None]})[0][0])
    np.testing.assert_allclose(reader.read(chest(), field="tiles").latent, np.mean(latents, axis=0), atol=1e-6)


def test_a_map_that_is_linear_in_space_is_stitched_without_a_seam() -> None:
    grid = FeatureGrid((8.0, 8.0, 4.0), (3.5, 3.5, 1.5))
    size, crop = (80, 80, 40), (60, 60, 30)

    def plane(start: tuple[int, int, int], cells: tuple[int, int, int]) -> np.ndarray:
        place = [at + offset + step * np.arange(count)
                 for at, offset, step, count in zip(start, grid.offset, grid.stride, cells, strict=True)]  # fmt: skip
        return np.add.outer(np.add.outer(place[0], 2 * place[1]), 3 * place[2])[None].astype(np.float32)

    whole = stitched([(at, plane(at, (7, 7, 7))) for at in tiles(size, crop)], size, grid)
    assert whole.shape == (1, 10, 10, 10)
    np.testing.assert_allclose(
        whole[0, 2:-3, 2:-3, 2:-3], plane((0, 0, 0), (10, 10, 10))[0, 2:-3, 2:-3, 2:-3], rtol=0.03
    )


def test_a_bundle_is_read_with_the_field_it_was_calibrated_with(bundle: Bundle) -> None:
    assert calibrated_field(bundle) == "padded"
    said = replace(bundle, manifest=replace(bundle.manifest, training={"field": "crop"}))
    assert calibrated_field(said) == "crop"
    np.testing.assert_array_equal(
        logits(Reader(said, threads=1), chest()), logits(Reader(bundle, threads=1), chest(), field="crop")
    )
    assert calibrated_field(replace(bundle, manifest=replace(bundle.manifest, training={"field": ["x"]}))) == "padded"


# Zero-shot and free text


def test_zero_shot_is_the_softmax_of_dot_products_averaged_over_the_pairs(reader: Reader, bundle: Bundle) -> None:
    reading = reader.read(chest(), zero_shot=True)
    assert bundle.prompts is not None
    assert reading.zero_shot is not None
    positive, negative = bundle.prompts.positive @ reading.latent, bundle.prompts.negative @ reading.latent
    expected = (np.exp(positive) / (np.exp(positive) + np.exp(negative))).mean(axis=0)
    np.testing.assert_allclose([score.probability for score in reading.zero_shot], expected, atol=1e-5)
    content = json.loads(json.dumps(reading.to_dict()))["zero_shot"]
    assert content["notice"] == NOT_CALIBRATED
    assert "not calibrated" in NOT_CALIBRATED
    assert set(content["findings"][0]) == {"key", "name", "probability"}
    assert reader.read(replace(chest(), modality="MR"), zero_shot=True).to_dict()["zero_shot"] is None


def test_zero_shot_and_free_text_of_a_model_of_images_alone_are_refused(tmp_path: Path) -> None:
    images = Reader(make_tiny_bundle(tmp_path / "images", text=False), threads=1)
    with pytest.raises(UserError, match="images and labels alone"):
        images.read(chest(), zero_shot=True)
    features = images.read(chest(), features=True).features
    assert features is not None
    with pytest.raises(UserError, match="no text encoder"):
        images.text_heatmap("pleural effusion", features)


@pytest.mark.parametrize("codes", ["RAS", "PIR"])
def test_the_map_of_a_free_text_averages_to_how_much_more_it_fits_than_prompts_and_lies_over_the_scan(
    reader: Reader, bundle: Bundle, codes: str
) -> None:
    text = "pleural effusion is present"
    volume = orient(chest(), codes)
    reading = reader.read(volume, features=True)
    assert reading.heatmaps is None
    assert reading.features is not None
    maps = reader.text_heatmap(text, reading.features)
    latent = TextEncoder(bundle, threads=1).encode([text])[0]
    prompts = bundle.prompts
    assert prompts is not None
    more = float((latent - prompts.positive.mean(axis=(0, 1))) @ reading.latent)
    assert maps["text"].mean(dtype=np.float64) == pytest.approx(more, abs=1e-4)
    assert maps.cell_size_mm == pytest.approx((16.0, 16.0, 16.0))
    assert resample(maps, "text", volume).shape == volume.shape
    with pytest.raises(UserError, match="no text"):
        reader.text_heatmap("  ", reading.features)


def test_zero_shot_of_a_model_of_images_alone_is_refused_before_the_network_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = Reader(make_tiny_bundle(tmp_path / "images", text=False), threads=1)
    monkeypatch.setattr(images, "_run", lambda *_: pytest.fail("the network ran"))
    with pytest.raises(UserError, match="no prompts"):
        images.read(chest(), zero_shot=True)


@pytest.mark.parametrize("unit", [1e-6, 1e-3])
def test_a_spacing_in_a_wrong_unit_takes_no_more_memory_than_the_volume(reader: Reader, unit: float) -> None:
    volume = chest()
    tiny = replace(volume, affine=volume.affine @ np.diag([unit, unit, unit, 1.0]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "coverage" in {check.code for check in reader.read(tiny, overrule=True).checks}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def test_a_volume_of_kilometres_cannot_be_seen_whole_and_is_refused(reader: Reader) -> None:
    volume = chest()
    huge = replace(volume, affine=volume.affine @ np.diag([1e5, 1e5, 1e5, 1.0]))
    with pytest.raises(UserError, match="check the spacing"):
        reader.read(huge, field="whole")


def test_voxels_that_are_no_number_are_not_the_bundles_fault(bundle: Bundle) -> None:
    scaled = replace(bundle.preprocessing, intensity="zscore", percentiles=(1.0, 99.0))
    reader = Reader(replace(bundle, manifest=replace(bundle.manifest, preprocessing=scaled)), threads=1)
    volume = chest()
    array = volume.array.astype(np.float32)
    array[3, 3, 3] = np.nan
    with pytest.raises(UserError, match="the volume holds voxels that are no number"):
        reader.read(replace(volume, array=array))


# The fastest setting


def test_tuning_measures_every_setting_and_the_reader_takes_the_fastest(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(speeds.VARIABLE, str(tmp_path / "speed"))
    assert speeds.stored(bundle) is None
    assert Reader(bundle)._setting == speeds.Setting()
    setting = speeds.tune(bundle, runs=1)
    assert [trial.threads for trial in setting.tried][:2] == [None, 1]
    assert not any(trial.half for trial in setting.tried)
    assert setting.seconds in [trial.seconds for trial in setting.tried]
    again = speeds.stored(bundle)
    assert again is not None
    assert (again.threads, again.half, again.seconds) == (setting.threads, setting.half, setting.seconds)
    assert Reader(bundle)._setting.threads == setting.threads
    assert Reader(bundle, threads=7)._setting.threads == 7
    np.testing.assert_allclose(logits(Reader(bundle), chest()), logits(Reader(bundle, threads=1), chest()), atol=1e-4)


def test_another_processor_has_another_setting(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds.tune(bundle, tmp_path, runs=1)
    monkeypatch.setattr(speeds, "_processor", lambda: "model name: another")
    assert speeds.stored(bundle, tmp_path) is None
    monkeypatch.undo()
    assert speeds.stored(bundle, tmp_path) is not None
    assert platform.machine() != "x86_64" or speeds._processor(), "without a name two processors would share a file"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"threads": 0, "half": false, "seconds": 1}',
                                  '{"threads": true, "half": false, "seconds": 1}',
                                  '{"threads": 1, "half": true, "seconds": 1}'])  # fmt: skip
def test_a_damaged_setting_is_as_good_as_none(bundle: Bundle, tmp_path: Path, text: str) -> None:
    speeds.tune(bundle, tmp_path, runs=1)
    (path,) = tmp_path.iterdir()
    path.write_text(text)
    assert speeds.stored(bundle, tmp_path) is None
