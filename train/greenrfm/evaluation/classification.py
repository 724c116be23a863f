"""How well probabilities tell present from absent: ranking, decisions, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.calibration import weighted_ece
from greenrfm.evaluation.intervals import (
    BOOTSTRAPS,
    Floats,
    Measures,
    bootstrap,
    describe_findings,
    describe_macro,
    ratio,
)
from greenrfm.evaluation.ranking import Bools, weighted_ranking
from greenrfm.findings import State

MEASURES = (
    "auroc",
    "average_precision",
    "f1",
    "sensitivity",
    "specificity",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
    "brier",
    "ece",
)
# Where a call may be indeterminate: the share decided, and how good those calls are.
DECIDED = ("coverage", "sensitivity_decided", "specificity_decided")
STATED = 0.9


def evaluate_classification(
    probabilities: Floats,
    states: NDArray[np.int8],
    keys: Sequence[str],
    *,
    patient_ids: Sequence[str] | None = None,
    thresholds: float | Mapping[str, float] = 0.5,
    absent_below: Mapping[str, float] | None = None,
    calls: NDArray[np.int8] | None = None,
    specificity: float = STATED,
    sensitivity: float = STATED,
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
    absent_below : if given, a finding is called absent below this, and between the two it is indeterminate.
    calls : (N, F) of PRESENT, ABSENT and UNCERTAIN (indeterminate), instead of both.
    specificity, sensitivity : the stated values of `sensitivity_at_specificity` and `specificity_at_sensitivity`,
        which are read off the ROC curve of these very studies: they tell how the scores rank, not how a threshold does.

    Returns
    -------
    `{"n", "patients", "resampled", "bootstraps", "seed", "macro": {measure: value, "intervals": {measure:
    [low, high]}, "findings": how many, "left_out": {key: reason}}, "findings": {key: {measure: value or
    None, "intervals", "n", "positives", "negatives", "excluded", "threshold"}}, "stated"}`. A measure that is not
    defined is None. A finding with one class only is left out of every macro mean, and named there. An indeterminate
    call counts as not present in f1, sensitivity and specificity; where there can be one, `coverage` is the share
    decided and `sensitivity_decided`, `specificity_decided` are of those alone.

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
    present, absent = states == State.PRESENT, states == State.ABSENT
    known = present | absent
    limits = None if calls is not None else _limits(keys, thresholds)
    if calls is None:
        lower = np.array([_limits(keys, thresholds if absent_below is None else absent_below)[key] for key in keys])
        called = probabilities >= np.array([_limits(keys, thresholds)[key] for key in keys])
        decided = called | (probabilities < lower)
    elif calls.shape != states.shape:
        raise ValueError(f"calls {calls.shape}, states {states.shape}")
    else:
        called, decided = calls == State.PRESENT, (calls == State.PRESENT) | (calls == State.ABSENT)
    three = calls is not None or absent_below is not None
    names = (*MEASURES, *DECIDED) if three else MEASURES

    def one(column: int, weights: Floats) -> Measures:
        rows = np.flatnonzero(known[:, column])
        positive, scores, weight = present[rows, column], probabilities[rows, column], weights[:, rows]
        return {
            **weighted_ranking(positive, scores, weight, specificity, sensitivity),
            "brier": ratio(weight @ (scores - positive) ** 2, weight.sum(axis=1)),
            "ece": weighted_ece(positive, scores, weight),
            **_decisions(positive, called[rows, column], decided[rows, column], weight),
        }

    def measure(weights: Floats) -> Measures:
        columns = [one(column, weights) for column in range(len(keys))]
        return {
            name: np.stack([column[name] for column in columns], axis=1) if columns else np.empty((len(weights), 0))
            for name in names
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
            threshold=None if limits is None else limits[key],
        )
        if absent_below is not None and calls is None:
            findings[key]["absent_below"] = float(absent_below[key])
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
        "stated": {"specificity": specificity, "sensitivity": sensitivity},
        "macro": {**macro, "findings": int(included.sum()), "left_out": left_out},
        "findings": findings,
    }


def _limits(keys: Sequence[str], thresholds: float | Mapping[str, float]) -> dict[str, float]:
    return {key: float(thresholds[key] if isinstance(thresholds, Mapping) else thresholds) for key in keys}


def _decisions(positive: Bools, called: Bools, decided: Bools, weights: Floats) -> Measures:
    """Return what the calls of one finding are worth, (B,) each; a study that is not `called` counts as not present."""
    true_positive, false_negative = weights @ (positive & called), weights @ (positive & ~called)
    false_positive, true_negative = weights @ (~positive & called), weights @ (~positive & ~called)
    positives = true_positive + false_negative
    f1 = ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative)
    said_absent = decided & ~called
    rejected = weights @ (~positive & said_absent)
    return {
        "f1": np.where(positives > 0, f1, np.nan),
        "sensitivity": ratio(true_positive, positives),
        "specificity": ratio(true_negative, true_negative + false_positive),
        "coverage": ratio(weights @ decided, weights.sum(axis=1)),
        "sensitivity_decided": ratio(true_positive, true_positive + weights @ (positive & said_absent)),
        "specificity_decided": ratio(rejected, rejected + false_positive),
    }
