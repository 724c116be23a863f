"""Calibration that helps on studies it has not seen, and thresholds that look at validation only."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from greenrfm.adapt import calibrate, choose_thresholds, fit_calibration, fit_latents
from greenrfm.adapt.calibration import sigmoid
from greenrfm.errors import UserError
from greenrfm.findings import State

Floats = NDArray[np.float64]
KEYS = ("cyst", "nodule", "effusion")


def synthetic(seed: int, studies: int, slope: float = 0.4, intercept: float = -1.0) -> tuple[Floats, NDArray[np.int8]]:
    """Return logits that are wrong by this slope and intercept, and states drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, size=(studies, len(KEYS)))
    states = (rng.random(logits.shape) < expit(slope * logits + intercept)).astype(np.int8)
    return logits, states


def test_calibration_recovers_slope_and_intercept_from_many_studies() -> None:
    calibration = fit_calibration(*synthetic(0, 5000), KEYS)
    np.testing.assert_allclose(calibration.slope, 0.4, atol=0.04)
    np.testing.assert_allclose(calibration.intercept, -1.0, atol=0.12)
    assert calibration.notes == {}
    assert calibration.to_dict()["method"] == "platt"


def test_with_many_studies_it_is_logistic_regression() -> None:
    logits, states = synthetic(1, 4000)
    calibration = fit_calibration(logits, states, KEYS)
    for column in range(3):
        model = LogisticRegression(C=1e9).fit(logits[:, [column]], states[:, column])
        assert calibration.slope[column] == pytest.approx(model.coef_[0, 0], rel=0.02)
        assert calibration.intercept[column] == pytest.approx(model.intercept_[0], abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_lowers_the_log_loss_of_unseen_studies_and_keeps_their_order(seed: int) -> None:
    logits, states = synthetic(seed, 60)
    unseen, truth = synthetic(seed + 100, 2000)
    probabilities = fit_calibration(logits, states, KEYS).apply(unseen)
    for column in range(3):
        before = log_loss(truth[:, column], expit(unseen[:, column]))
        assert log_loss(truth[:, column], probabilities[:, column]) < 0.8 * before
        assert roc_auc_score(truth[:, column], probabilities[:, column]) == pytest.approx(
            roc_auc_score(truth[:, column], unseen[:, column])
        )


def test_few_positives_borrow_the_shared_slope_and_do_not_run_away() -> None:
    def spread(alone: bool) -> float:
        slopes = []
        for seed in range(30):
            logits, states = synthetic(seed, 120)
            # Two positives that happen to be perfectly separated.
            states[:, 2] = 0
            states[np.argsort(logits[:, 2])[-2:], 2] = 1
            columns = [2] if alone else [0, 1, 2]
            slopes.append(fit_calibration(logits[:, columns], states[:, columns], [KEYS[c] for c in columns]).slope[-1])
        return float(np.max(slopes))

    assert spread(alone=False) < 1.2
    assert spread(alone=False) < spread(alone=True)


def test_masked_entries_are_not_looked_at() -> None:
    logits, states = synthetic(2, 200)
    masked = states.copy()
    masked[::3, 0] = State.UNCERTAIN
    masked[1::3, 0] = State.NOT_MENTIONED
    moved = np.where(masked < 0, -50.0, logits)
    first, second = fit_calibration(logits, masked, KEYS), fit_calibration(moved, masked, KEYS)
    np.testing.assert_allclose(first.slope, second.slope)
    np.testing.assert_allclose(first.intercept, second.intercept)


def test_a_missing_class_takes_the_shared_slope_and_says_so() -> None:
    logits, states = synthetic(3, 400)
    states[:, 1] = 0
    states[:, 2] = State.NOT_MENTIONED
    calibration = fit_calibration(logits, states, KEYS)
    assert calibration.slope[1] == calibration.slope[2] == pytest.approx(calibration.slope[0], rel=0.05)
    assert calibration.intercept[1] == calibration.intercept[2] == 0
    reason = "no validation study has it present; the shared slope and intercept 0 are used"
    assert calibration.notes["nodule"] == reason
    assert calibration.notes["effusion"].startswith("no validation study has it present or absent")
    assert "cyst" not in calibration.notes


def test_without_any_finding_that_has_both_classes_it_is_the_identity() -> None:
    logits = np.random.default_rng(0).normal(size=(10, 3))
    calibration = fit_calibration(logits, np.ones((10, 3), np.int8), KEYS)
    np.testing.assert_allclose(calibration.apply(logits), expit(logits))
    assert set(calibration.notes) == set(KEYS)
    assert "present" not in calibration.notes["cyst"]


def test_logits_that_fall_with_the_finding_never_get_a_slope_below_zero() -> None:
    logits, states = synthetic(4, 300)
    one = fit_calibration(logits * [1, 1, -1], states, KEYS)
    everything = fit_calibration(-logits, states, KEYS)
    assert (one.slope > 0).all()
    assert list(one.notes) == ["effusion"]
    assert (everything.slope > 0).all()
    assert set(everything.notes) == set(KEYS)
    # What is left is the base rate.
    assert everything.apply(-logits).mean(axis=0) == pytest.approx(states.mean(axis=0), abs=0.02)


def test_logits_that_never_vary_get_the_base_rate() -> None:
    states = (np.arange(200) < 50).astype(np.int8)[:, None]
    calibration = fit_calibration(np.full((200, 1), 3.0), states, ["x"])
    assert calibration.apply(np.array([[3.0]])) == pytest.approx(0.25, abs=0.01)


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=25, deadline=None)
def test_probabilities_do_not_depend_on_the_scale_and_zero_of_the_logits(scale: float, shift: float) -> None:
    logits, states = synthetic(5, 80)
    expected = fit_calibration(logits, states, KEYS).apply(logits)
    moved = scale * logits + shift
    np.testing.assert_allclose(fit_calibration(moved, states, KEYS).apply(moved), expected, atol=2e-3)


def test_the_sigmoid_neither_overflows_nor_loses_small_probabilities() -> None:
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(sigmoid(np.array([-700.0, -40.0, 0.0, 40.0, 800.0])), expit([-700, -40, 0, 40, 800]))


def test_a_diverged_model_is_one_sentence() -> None:
    logits, states = synthetic(6, 20)
    logits[3, 1] = np.nan
    with pytest.raises(UserError, match="'nodule'"):
        fit_calibration(logits, states, KEYS)
    with pytest.raises(ValueError, match="findings"):
        fit_calibration(logits, states, KEYS[:2])


# Thresholds


entries = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([1, 0, -1, -2])), min_size=2, max_size=60)


def kept(probabilities: Floats, states: NDArray[np.int8], present: float, absent: float) -> tuple[float, float]:
    """Return the share of present studies not called absent, and of absent ones not called present."""
    sensitivity = float((probabilities[states == 1] >= absent).mean())
    return sensitivity, float((probabilities[states == 0] < present).mean())


@given(entries, st.sampled_from([(0.95, 0.9), (0.8, 0.8), (0.5, 0.7), (1.0, 1.0)]))
@settings(deadline=None)
def test_cut_offs_keep_what_they_promise_and_never_cross(
    entries: list[tuple[float, int]], shares: tuple[float, float]
) -> None:
    probabilities = np.array([probability for probability, _ in entries])
    states = np.array([state for _, state in entries], np.int8)
    got = choose_thresholds(probabilities[:, None], states[:, None], ["x"], *shares)
    present, absent = float(got.present[0]), float(got.absent[0])
    assert 0 <= absent <= present <= 1
    if not ((states == 1).any() and (states == 0).any()):
        assert (absent, present) == (0, 1)
        assert "every call is indeterminate" in got.notes["x"]
        return
    sensitivity, specificity = kept(probabilities, states, present, absent)
    assert sensitivity >= shares[0] - 1e-9
    # Nothing lies above a probability of 1: who says that of absent studies cannot be kept out.
    assert specificity >= shares[1] - 1e-9 or (probabilities[states == 0] == 1).any()


@given(entries)
@settings(deadline=None)
def test_no_wider_cut_offs_keep_it_too(entries: list[tuple[float, int]]) -> None:
    probabilities = np.array([probability for probability, _ in entries])
    states = np.array([state for _, state in entries], np.int8)
    if not ((states == 1).any() and (states == 0).any()):
        return
    got = choose_thresholds(probabilities[:, None], states[:, None], ["x"])
    present, absent = float(got.present[0]), float(got.absent[0])
    if present == absent:
        return  # one cut-off that keeps both
    known = probabilities[states >= 0]
    for other in known[known > absent]:
        more = bool(((known >= absent) & (known < other)).any())
        assert not more or kept(probabilities, states, present, float(other))[0] < 0.95
    for other in known[known < present]:
        assert kept(probabilities, states, float(other), absent)[1] < 0.9


def test_classes_that_lie_apart_get_one_cut_off_in_the_middle() -> None:
    probabilities = np.array([0.8, 0.9, 0.1, 0.4])[:, None]
    got = choose_thresholds(probabilities, np.array([1, 1, 0, 0], np.int8)[:, None], ["x"])
    assert got.present[0] == got.absent[0] == pytest.approx(0.6)


def test_few_studies_and_missing_classes_are_stated() -> None:
    probabilities = np.array([[0.2, 0.9], [0.3, 0.1]])
    got = choose_thresholds(probabilities, np.array([[0, 0], [0, 1]], np.int8), ["a", "b"])
    assert got.notes["a"].startswith("no validation study has it present")
    assert got.notes["b"] == (
        "validation has only 1 studies present (below 20) and 1 studies absent (below 10); the cut-offs rest on single "
        "studies"
    )
    assert got.by_key()["a"] == 1
    assert got.absent_by_key()["a"] == 0
    assert "sensitivity of at least 0.95" in got.to_dict()["rule"]
    assert "specificity of at least 0.9," in got.to_dict()["rule"]
    with pytest.raises(UserError, match="above 0 and at most 1"):
        choose_thresholds(probabilities, np.zeros((2, 2), np.int8), ["a", "b"], 1.5)
    with pytest.raises(ValueError, match="outside"):
        choose_thresholds(probabilities + 1, np.zeros((2, 2), np.int8), ["a", "b"])


# Distance of latents


def test_a_latent_off_the_training_studies_lies_far_and_one_of_them_near() -> None:
    rng = np.random.default_rng(0)
    projection = rng.normal(size=(40, 12)).astype(np.float32)
    spread = np.geomspace(5, 0.05, 12)

    def latents(count: int) -> NDArray[np.float32]:
        return ((rng.normal(size=(count, 12)) * spread + 3) @ projection.T).astype(np.float32)

    fit = fit_latents(latents(200), latents(150), projection)
    assert fit is not None
    assert fit.n == 150
    assert fit.whitening.shape == (12, 40)
    assert np.mean(fit.distances(latents(1000)) > fit.limit) < 0.05
    # As far along an axis along which training hardly varies as is usual along the widest.
    odd = latents(1000) + (projection @ (np.eye(12)[11] * 5)).astype(np.float32)
    assert np.mean(fit.distances(odd) > fit.limit) > 0.99


def test_too_few_studies_set_no_limit() -> None:
    latents = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)
    assert fit_latents(latents, latents[:5], np.eye(4, dtype=np.float32)) is None
    assert fit_latents(latents[:19], latents, np.eye(4, dtype=np.float32)) is None
    assert fit_latents(latents * 0, latents * 0, np.eye(4, dtype=np.float32)) is None


def test_calibration_and_thresholds_never_look_at_test_or_train() -> None:
    logits, states = synthetic(7, 300)
    splits = list(itertools.islice(itertools.cycle(["train", "validation", "test", ""]), 300))
    calibration, thresholds = calibrate(logits, states, splits, KEYS)
    other = np.array(splits) != "validation"
    logits[other], states[other] = np.nan, 1 - states[other]
    again, thresholds_again = calibrate(logits, states, splits, KEYS)
    np.testing.assert_array_equal(calibration.slope, again.slope)
    np.testing.assert_array_equal(calibration.intercept, again.intercept)
    np.testing.assert_array_equal(thresholds.present, thresholds_again.present)
    np.testing.assert_array_equal(thresholds.absent, thresholds_again.absent)
    with pytest.raises(UserError, match="split 'validation'"):
        calibrate(logits, states, ["test"] * 300, KEYS)
