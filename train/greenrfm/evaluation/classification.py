"""How well probabilities tell present from absent: ranking, decisions, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from greenrfm.evaluation.calibration import ECE_BINS, reliability_bin
from greenrfm.evaluation.intervals import (
    BOOTSTRAPS,
    Floats,
    Measures,
    bootstrap,
    describe_findings,
    describe_macro,
    ratio,
)
from greenrfm.evaluation.ranking import Bools, Ranking
from greenrfm.findings import State
from greenrfm.progress import Progress, silent

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
_UNDECIDED, _SAID_ABSENT, _CALLED = range(3)


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
    progress: Progress = silent,
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

    each = [
        _Finding(known[:, column], present[:, column], probabilities[:, column], called[:, column], decided[:, column])
        for column in range(len(keys))
    ]

    def measure(weights: Floats) -> Measures:
        columns = [finding.measures(weights, specificity, sensitivity) for finding in each]
        return {
            name: np.stack([column[name] for column in columns], axis=1) if columns else np.empty((len(weights), 0))
            for name in names
        }

    point, replicates = bootstrap(measure, patients, bootstraps, seed, progress)
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


class _Finding:
    """One finding's known studies, prepared once, so that a resample costs two sparse products."""

    def __init__(self, known: Bools, present: Bools, probabilities: Floats, called: Bools, decided: Bools) -> None:
        """Prepare the ranking and the sums that the other measures need; all are (N,)."""
        self._rows = np.flatnonzero(known)
        positive, said = present[self._rows], probabilities[self._rows]
        self._ranking = Ranking(positive, said)
        # A study adds 1 to its kind of decision, its gap to its bin of calibration, and its error to their sum.
        decision = 3 * positive + np.where(called, _CALLED, np.where(decided, _SAID_ABSENT, _UNDECIDED))[self._rows]
        groups = (decision, 6 + reliability_bin(said), np.full(len(said), 6 + ECE_BINS))
        values = (np.ones(len(said)), positive - said, (positive - said) ** 2)
        cells = (np.concatenate(groups), np.tile(np.arange(len(said)), 3))
        self._sum = csr_array((np.concatenate(values), cells), shape=(7 + ECE_BINS, len(said)))

    def measures(self, weights: Floats, specificity: float, sensitivity: float) -> Measures:
        """Return every measure, (B,) each; a study that is not called present counts as not present."""
        weights = weights.T[self._rows]
        curve, sums = self._ranking.curve(weights), self._sum @ weights
        absent, present = sums[:3], sums[3:6]
        positives, negatives = present.sum(axis=0), absent.sum(axis=0)
        total = positives + negatives
        hits, alarms = present[_CALLED], absent[_CALLED]
        missed, rejected = present[_SAID_ABSENT], absent[_SAID_ABSENT]
        return {
            "auroc": curve.auroc(),
            "average_precision": curve.average_precision(),
            "sensitivity_at_specificity": curve.sensitivity_at(specificity),
            "specificity_at_sensitivity": curve.specificity_at(sensitivity),
            "f1": np.where(positives > 0, ratio(2 * hits, hits + alarms + positives), np.nan),
            "sensitivity": ratio(hits, positives),
            "specificity": ratio(negatives - alarms, negatives),
            "coverage": ratio(hits + alarms + missed + rejected, total),
            "sensitivity_decided": ratio(hits, hits + missed),
            "specificity_decided": ratio(rejected, rejected + alarms),
            "brier": ratio(sums[-1], total),
            # Naeini et al. 2015. A resampled ECE lies above the cohort's, and a small cohort's above a large one's.
            "ece": ratio(np.abs(sums[6:-1]).sum(axis=0), total),
        }
