"""How well probabilities tell present from absent: ranking, decisions at a threshold, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.intervals import (
    BOOTSTRAPS,
    Floats,
    Measures,
    bootstrap,
    describe_findings,
    describe_macro,
    ratio,
)
from greenrfm.findings import State

Bools = NDArray[np.bool_]
MEASURES = ("auroc", "average_precision", "f1", "sensitivity", "specificity", "brier", "ece")
ECE_BINS = 10


def evaluate_classification(
    probabilities: Floats,
    states: NDArray[np.int8],
    keys: Sequence[str],
    *,
    patient_ids: Sequence[str] | None = None,
    thresholds: float | Mapping[str, float] = 0.5,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the measures of every finding and their macro mean, with 95 % bootstrap intervals.

    Parameters
    ----------
    probabilities : (N, F) in [0, 1].
    states : (N, F) `State` values; UNCERTAIN and NOT_MENTIONED entries are left out of their finding.
    keys : the F findings.
    patient_ids : patient of each study; patients, not studies, are resampled. Without it every study
        counts as its own patient, which the result states and which is too narrow if they are not.
    thresholds : a finding is called present at probability >= threshold; they are given, never
        chosen from `states`.

    Returns
    -------
    `{"n", "patients", "resampled", "bootstraps", "seed", "macro": {measure: value, "intervals": {measure:
    [low, high]}, "findings": how many, "left_out": {key: reason}}, "findings": {key: {measure: value or
    None, "intervals", "n", "positives", "negatives", "excluded", "threshold"}}}`. A measure that is not
    defined is None. A finding with one class only is left out of every macro mean, and named there.

    Raises ValueError if the shapes disagree or a probability is not in [0, 1].
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    states = np.asarray(states)
    studies = len(probabilities)
    if probabilities.shape != (studies, len(keys)) or states.shape != probabilities.shape:
        raise ValueError(f"probabilities {probabilities.shape}, states {states.shape}, {len(keys)} findings")
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("a probability is outside 0…1 or not a number")
    patients = list(patient_ids) if patient_ids is not None else [str(row) for row in range(studies)]
    if len(patients) != studies:
        raise ValueError(f"{len(patients)} patient ids for {studies} studies")
    limits = {key: float(thresholds[key] if isinstance(thresholds, Mapping) else thresholds) for key in keys}
    present, absent = states == State.PRESENT, states == State.ABSENT
    known = present | absent

    def measure(weights: Floats) -> Measures:
        columns = [
            _measures(present[rows, column], probabilities[rows, column], limits[key], weights[:, rows])
            for column, key in enumerate(keys)
            for rows in (np.flatnonzero(known[:, column]),)
        ]
        return {
            name: np.stack([column[name] for column in columns], axis=1) if columns else np.empty((len(weights), 0))
            for name in MEASURES
        }

    point, replicates = bootstrap(measure, patients, bootstraps, seed)
    findings = describe_findings(keys, point, replicates)
    left_out: dict[str, str] = {}
    for column, key in enumerate(keys):
        positives, negatives = int(present[:, column].sum()), int(absent[:, column].sum())
        findings[key].update(
            n=positives + negatives,
            positives=positives,
            negatives=negatives,
            excluded=studies - positives - negatives,
            threshold=limits[key],
        )
        missing = [name for name, count in (("present", positives), ("absent", negatives)) if not count]
        if missing:
            left_out[key] = f"no study has it {' or '.join(missing)}"
    included = np.array([key not in left_out for key in keys], dtype=bool)
    macro = describe_macro(point, replicates, included)
    return {
        "n": studies,
        "patients": len(set(patients)),
        "resampled": "patients" if patient_ids is not None else "studies (no patient ids were given)",
        "bootstraps": bootstraps,
        "seed": seed,
        "macro": {**macro, "findings": int(included.sum()), "left_out": left_out},
        "findings": findings,
    }


def auroc(positive: Bools, scores: Floats) -> float | None:
    """Return the area under the ROC curve, ties counting one half; None if a class is missing."""
    value = weighted_auroc(np.asarray(positive, dtype=bool), np.asarray(scores), np.ones((1, len(scores))))[0]
    return None if np.isnan(value) else float(value)


def weighted_auroc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve for each row of `weights` (B, N); NaN if a class is missing.

    It is the share of (present, absent) pairs in which the present study has the higher score, ties
    counting one half (Hanley & McNeil 1982), summed over groups of equal scores.
    """
    above, below = _by_score(positive, scores, weights)
    positives, negatives = above.sum(axis=1), below.sum(axis=1)
    lower = negatives[:, None] - np.cumsum(below, axis=1)
    return ratio((above * (lower + 0.5 * below)).sum(axis=1), positives * negatives)


def weighted_average_precision(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """Return sum over score levels of (gain in recall) x precision, (B,); NaN if a class is missing.

    Without interpolation, and equal scores form one level, as in scikit-learn.
    """
    gained, false = _by_score(positive, scores, weights)
    positives, negatives = gained.sum(axis=1), false.sum(axis=1)
    called = np.cumsum(gained + false, axis=1)
    # Levels before the first drawn study have nothing called; they gain nothing either.
    precision = np.cumsum(gained, axis=1) / np.where(called > 0, called, 1.0)
    return ratio((gained * precision).sum(axis=1), np.where(negatives > 0, positives, 0.0))


def weighted_ece(positive: Bools, probabilities: Floats, weights: Floats, bins: int = ECE_BINS) -> Floats:
    """Return the expected calibration error (B,) over `bins` equal bins of [0, 1] (Naeini et al. 2015).

    In a small cohort its value, and more so its resampled values, lie above that of the same model in a large one.
    """
    bin_of = reliability_bin(probabilities, bins)
    member = np.zeros((len(probabilities), bins))
    member[np.arange(len(probabilities)), bin_of] = positive.astype(np.float64) - probabilities
    return ratio(np.abs(weights @ member).sum(axis=1), weights.sum(axis=1))


def reliability_bin(probabilities: Floats, bins: int = ECE_BINS) -> NDArray[np.intp]:
    """Return each probability's bin 0…bins-1; probability 1 belongs to the last."""
    return np.minimum((np.asarray(probabilities) * bins).astype(np.intp), bins - 1)


def _measures(positive: Bools, probabilities: Floats, threshold: float, weights: Floats) -> Measures:
    """Return every measure as (B,) for the studies of one finding whose state is known."""
    called = probabilities >= threshold
    true_positive, false_negative = weights @ (positive & called), weights @ (positive & ~called)
    false_positive, true_negative = weights @ (~positive & called), weights @ (~positive & ~called)
    positives = true_positive + false_negative
    f1 = ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative)
    return {
        "auroc": weighted_auroc(positive, probabilities, weights),
        "average_precision": weighted_average_precision(positive, probabilities, weights),
        "f1": np.where(positives > 0, f1, np.nan),
        "sensitivity": ratio(true_positive, positives),
        "specificity": ratio(true_negative, true_negative + false_positive),
        "brier": ratio(weights @ (probabilities - positive) ** 2, weights.sum(axis=1)),
        "ece": weighted_ece(positive, probabilities, weights),
    }


def _by_score(positive: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the weight of present and of absent studies per distinct score, highest first: (B, levels)."""
    if not len(scores):
        return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
    order = np.argsort(-np.asarray(scores), kind="stable")
    ordered = np.asarray(scores)[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    weights, positive = weights[:, order], positive[order]
    return (
        np.add.reduceat(weights * positive, starts, axis=1),
        np.add.reduceat(weights * ~positive, starts, axis=1),
    )
