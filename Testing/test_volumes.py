"""Volumes: geometry and preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.errors import UserError
from greenrfm.volumes import (
    PRESETS,
    Preprocessing,
    Volume,
    orient,
    to_canonical,
)
from greenrfm.volumes.volume import to_image
from some_volumes import CODES, SMALL, random_volume


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
