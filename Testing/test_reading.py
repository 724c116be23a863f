"""The reading room: scores, heat maps in the right place, warnings, cancelling, and no training packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dicom_files import write_dicom
from greenrfm.bundle import Bundle
from greenrfm.errors import UserError
from greenrfm.reading import Cancelled, HeatMaps, Reader, coarse_volume, resample
from greenrfm.volumes import Volume, orient, read_volume, write_volume
from make_tiny_bundle import PREPROCESSING, STRIDE, make_tiny_bundle, numpy_features

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle."""
    return make_tiny_bundle(tmp_path_factory.mktemp("reading") / "tiny")


@pytest.fixture(scope="module")
def reader(bundle: Bundle) -> Reader:
    """Return a reader with one thread."""
    return Reader(bundle, threads=1)


def chest(ball: tuple[float, float, float] | None = None, radius: float = 9.0) -> Volume:
    """Return a body with two lungs in air, 128 mm wide, oblique and off-centre; or a dense `ball` alone, in LPS mm."""
    random = np.random.default_rng(3)
    turn = np.deg2rad(8)
    directions = np.array([[0, np.cos(turn), -np.sin(turn)], [1, 0, 0], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = directions * (1.6, 2.0, 2.5)
    affine[:3, 3] = (-70.0, -60.0, 300.0)
    array = np.full((80, 62, 51), -1000.0)
    array[8:72, 4:58] = 40
    for columns in (slice(8, 28), slice(34, 54)):
        array[18:62, columns, 6:45] = -820
    array[64:70, 28:34] = 700
    array = (array + random.normal(0, 15, array.shape)).astype(np.float32)
    if ball is not None:
        index = np.indices(array.shape).reshape(3, -1)
        position = affine[:3, :3] @ index + affine[:3, 3:]
        inside = np.linalg.norm(position - np.array(ball)[:, None], axis=0) < radius
        array[:] = -1000
        array.reshape(-1)[inside] = 1000
    return Volume(array, affine, "CT")


ORIENTATIONS = ["LPS", "RAS", "RPI", "SAL", "PIR"]


def test_scores_are_the_heads_over_the_network_and_calls_follow_the_thresholds(bundle: Bundle, reader: Reader) -> None:
    volume = chest()
    reading = reader.read(volume, study_id="s1", heatmaps=True)
    field = bundle.preprocessing.apply(volume).array
    latent = bundle.projection @ numpy_features(field).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(reading.latent, latent, atol=1e-5)
    np.testing.assert_allclose([s.logit for s in reading.scores], bundle.weight @ latent + bundle.bias, atol=1e-4)
    for score, slope, intercept in zip(
        reading.scores, bundle.manifest.calibration.slope, bundle.manifest.calibration.intercept, strict=True
    ):
        assert score.probability == pytest.approx(1 / (1 + np.exp(-(slope * score.logit + intercept))))
        assert score.call == ("present" if score.probability >= 0.5 else "absent")
    assert reading.bundle_hash == bundle.hash
    assert reading.warnings == ()


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("field", ["tiles", "padded", "crop", "whole"])
def test_the_same_anatomy_stored_otherwise_gives_the_same_scores(reader: Reader, codes: str, field: str) -> None:
    volume = chest()
    first = reader.read(volume, field=field)
    second = reader.read(orient(volume, codes), field=field)
    np.testing.assert_allclose(
        [score.logit for score in first.scores], [score.logit for score in second.scores], atol=1e-3
    )
    np.testing.assert_allclose(first.latent, second.latent, atol=1e-3)


def test_the_same_anatomy_as_dicom_nifti_nrrd_or_mha_gives_the_same_scores(reader: Reader, tmp_path: Path) -> None:
    scan = orient(chest(), "LPS")
    scan = Volume(np.rint(scan.array).astype(np.int16), scan.affine, "CT")
    write_dicom(scan, tmp_path / "series", "1.2.840.1")
    for name in ("scan.nii.gz", "scan.nrrd", "scan.mha"):
        write_volume(scan, tmp_path / name)
    read = [reader.read(read_volume(path)) for path in sorted(tmp_path.iterdir())]
    assert len(read) == 4
    for other in read[1:]:
        for one, two in zip(read[0].scores, other.scores, strict=True):
            assert one.logit == pytest.approx(two.logit, abs=1e-3)
            assert one.probability == pytest.approx(two.probability, abs=1e-3)


@pytest.mark.parametrize("field", ["padded", "crop", "whole"])
def test_the_mean_of_each_heat_map_is_its_logit(reader: Reader, field: str) -> None:
    reading = reader.read(chest(), heatmaps=True, field=field)
    assert reading.heatmaps is not None
    means = reading.heatmaps.values.mean(axis=(1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(means, [score.logit for score in reading.scores], atol=1e-4)


@pytest.mark.parametrize("codes", ORIENTATIONS)
@pytest.mark.parametrize("field", ["tiles", "padded", "crop", "whole"])
@pytest.mark.parametrize("ball", [(-20.0, 5.0, 350.0), (5.0, 25.0, 372.0), (-28.0, -12.0, 362.0)])
def test_the_maximum_of_a_heat_map_is_the_cell_that_holds_the_ball(
    reader: Reader, codes: str, field: str, ball: tuple[float, float, float]
) -> None:
    volume = orient(chest(ball), codes)
    maps = reader.read(volume, heatmaps=True, field=field).heatmaps
    assert maps is not None
    heat = maps["lung_nodule"]
    hottest = np.unravel_index(np.argmax(heat), heat.shape)
    place = np.linalg.solve(maps.affine, [*ball, 1.0])[:3]
    np.testing.assert_array_less(np.abs(place - hottest), 0.5 + 0.07)  # a voxel's rounding of the ball
    np.testing.assert_allclose(maps.cell_size_mm, np.multiply(STRIDE, PREPROCESSING.spacing or ()), rtol=1e-6)


@pytest.mark.parametrize(
    ("cells", "inner"), [((4, 5, 3), (slice(1, 3), slice(1, 4), slice(1, 2))), ((2, 3, 1), (slice(0, 2), 1, 0))]
)
def test_what_is_shown_leaves_the_outermost_cells_out(cells: tuple[int, ...], inner: tuple[slice | int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=(1, *cells)).astype(np.float32)
    maps = HeatMaps(("a",), values, np.eye(4), (1.0, 1.0, 1.0), np.eye(4), (8, 8, 8))
    expected = np.zeros(cells, bool)
    expected[inner] = True
    np.testing.assert_array_equal(maps.inner, expected)
    np.testing.assert_array_equal(maps.shown("a")[expected], values[0][expected])
    least = values[0][expected].min()
    np.testing.assert_allclose(maps.shown("a")[~expected], least - 1)
    np.testing.assert_allclose(maps.shown("a", below=least - 5)[~expected], least - 6)
    np.testing.assert_allclose(maps.shown("a", below=least + 5)[~expected], least - 1)


def test_a_map_of_equal_cells_has_its_maximum_inside() -> None:
    flat = HeatMaps(("a",), np.ones((1, 4, 5, 3), np.float32), np.eye(4), (1.0, 1.0, 1.0), np.eye(4), (8, 8, 8))
    shown = flat.shown("a")
    assert flat.inner[shown == shown.max()].all()


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_a_heat_map_on_the_scans_grid_is_hot_where_the_ball_is(reader: Reader, interpolation: str) -> None:
    ball = (-20.0, 5.0, 350.0)
    volume = orient(chest(ball), "RAS")
    maps = reader.read(volume, heatmaps=True).heatmaps
    assert maps is not None
    heat = resample(maps, "lung_nodule", volume, interpolation)
    assert heat.shape == volume.shape
    np.testing.assert_array_equal(heat.affine, volume.affine)
    hottest = heat.affine @ [*np.unravel_index(np.argmax(heat.array), heat.shape), 1]
    assert np.linalg.norm(hottest[:3] - ball) < np.linalg.norm(maps.cell_size_mm)
    # Everything of the scan that the network saw has a value of the map, up to the rim.
    assert heat.array.max() == pytest.approx(maps["lung_nodule"].max(), abs=0.3)


def test_outside_the_field_a_heat_map_shows_nothing_and_at_its_rim_it_goes_on(reader: Reader) -> None:
    tiled = reader.read(chest(), heatmaps=True, field="crop").heatmaps
    assert tiled is not None
    # Centre the cells where a padding network has them, so that the field goes on beyond the last ones.
    cells = np.diag([*map(float, STRIDE), 1.0])
    cells[:3, 3] = 0.5
    maps = replace(tiled, affine=tiled.field_affine @ cells)
    wide = np.array(maps.field_affine)
    wide[:3, 3] -= wide[:3, :3] @ [10, 10, 10]
    rows, columns, slices = (count + 20 for count in maps.field_shape)
    heat = resample(maps, "emphysema", Volume(np.zeros((rows, columns, slices), np.int16), wide), "nearest").array
    inside, values = heat[10:-10, 10:-10, 10:-10], maps["emphysema"]
    assert inside[0, 0, 0] == values[0, 0, 0]
    assert inside[-1, -1, -1] == values[-1, -1, -1]
    assert inside[8, 0, 0] == values[1, 0, 0]
    assert values[-1, -1, -1] > values.min()
    assert heat[9].max() == heat[-10].max() == values.min()


def test_a_heat_map_is_written_and_read_back_as_a_volume(reader: Reader, tmp_path: Path) -> None:
    maps = reader.read(chest(), heatmaps=True).heatmaps
    assert maps is not None
    write_volume(coarse_volume(maps, "effusion"), tmp_path / "heat.nrrd")
    again = orient(read_volume(tmp_path / "heat.nrrd"), "PLS")
    np.testing.assert_allclose(again.array, maps["effusion"], atol=1e-5)
    np.testing.assert_allclose(again.affine, maps.affine, atol=1e-3)
    with pytest.raises(UserError, match="did you mean 'effusion'"):
        maps["efusion"]


def test_a_thin_volume_is_read_whole_with_air_around_it(reader: Reader) -> None:
    thin = chest()
    thin = replace(thin, array=thin.array[:, :, :3])
    reading = reader.read(thin, field="whole", heatmaps=True)
    assert reading.heatmaps is not None
    assert reading.heatmaps.field_shape[2] == STRIDE[2]
    assert any("8 mm from foot to head" in sentence for sentence in reading.warnings)


def test_a_demonstration_bundle_says_so_above_every_score(tmp_path: Path) -> None:
    demonstration = Reader(make_tiny_bundle(tmp_path / "demo", "demonstration"), threads=1).read(chest())
    lines = demonstration.to_dict()["notice"].split("\n")
    assert "not for diagnostic use" in lines[0].lower()
    assert "generated phantoms" in lines[1]
    assert "mean nothing" in lines[1]


def test_a_reading_is_plain_json(bundle: Bundle, reader: Reader) -> None:
    content = json.loads(json.dumps(reader.read(chest(), study_id="s1").to_dict()))
    assert content["study"] == "s1"
    assert [finding["key"] for finding in content["findings"]] == list(bundle.findings.keys)
    assert set(content["findings"][0]) == {"key", "name", "probability", "call"}
    assert content["withheld"] == ""
    assert content["zero_shot"] is None
    assert content["notice"].lower().startswith("not for diagnostic use")
    assert content["warnings"] == []


def test_scores_that_are_no_numbers_are_an_error(bundle: Bundle) -> None:
    broken = replace(bundle, bias=np.full(3, np.nan, np.float32))
    with pytest.raises(UserError, match="not finite"):
        Reader(broken, threads=1).read(chest())


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Return a reader whose network has many slow layers, opened and warm."""
    reader = Reader(make_tiny_bundle(tmp_path_factory.mktemp("slow") / "slow", layers=150), threads=1)
    reader.read(chest(), field="crop")
    return reader


def test_a_reading_is_cancelled_from_another_thread_and_the_reader_lives_on(slow: Reader) -> None:
    start = time.perf_counter()
    whole = slow.read(chest())
    seconds = time.perf_counter() - start
    stop = threading.Event()

    def cancel() -> None:
        stop.wait(seconds / 5)
        while not stop.wait(0.002):
            slow.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    start = time.perf_counter()
    try:
        with pytest.raises(Cancelled):
            slow.read(chest())
        assert time.perf_counter() - start < 0.8 * seconds
    finally:
        stop.set()
        canceller.join()
    np.testing.assert_array_equal(slow.read(chest()).latent, whole.latent)


def test_a_cancel_that_comes_before_the_read_counts(reader: Reader) -> None:
    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(Cancelled):
        reader.read(chest(), cancel=options)
    reader.cancel()  # nothing is running: no effect on the next read
    assert reader.read(chest()).scores


CHILD = """
import json, sys

class Blocker:
    banned = {"torch", "transformers", "pandas", "scipy", "sklearn", "onnx", "monai"}
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.banned:
            raise ImportError(f"{name} is not for the reading side")

sys.meta_path.insert(0, Blocker())
from pathlib import Path
for name in Blocker.banned:
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} was not blocked")

from greenrfm.bundle import Bundle, TextEncoder, check
from greenrfm.reading import Reader, resample
from greenrfm.volumes import read_volume, write_volume

folder, image, heat = map(Path, sys.argv[1:])
bundle = Bundle.load(folder)
assert all(result.ok for result in check(bundle))
volume = read_volume(image)
reading = Reader(bundle, threads=1).read(volume, heatmaps=True, study_id="child")
write_volume(resample(reading.heatmaps, "lung_nodule", volume), heat)
latents = TextEncoder(bundle, threads=1).encode(["No pleural effusion."])
assert not Blocker.banned & {name.split(".")[0] for name in sys.modules}
print(json.dumps(reading.to_dict() | {"text": latents.shape}))
"""


def test_a_whole_reading_happens_where_training_packages_cannot_be_imported(
    bundle: Bundle, reader: Reader, tmp_path: Path
) -> None:
    volume = orient(chest(), "RAS")
    image, heat = tmp_path / "scan.nii.gz", tmp_path / "heat.nii.gz"
    write_volume(volume, image)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "train"), "PYTHONIOENCODING": "utf-8"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(bundle.folder), str(image), str(heat)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    expected = reader.read(volume).to_dict()
    assert found["text"] == [1, 768]
    np.testing.assert_allclose(
        [finding["probability"] for finding in found["findings"]],
        [finding["probability"] for finding in expected["findings"]],
        atol=1e-3,
    )
    assert read_volume(heat).shape == volume.shape
