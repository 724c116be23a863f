"""How scores rank present before absent: the areas under two curves, and points read off the first.

Each measure takes `weights` (B, N), one row per resample of the cohort, and returns (B,). Equal scores are one level
of the ranking: no order among them is in anyone's favour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.intervals import Floats, ratio

Bools = NDArray[np.bool_]
# Shares are sums of weights: the level that lies exactly at the stated value must not be lost to rounding.
_ROUNDING = 1e-9


def auroc(positive: Bools, scores: Floats) -> float | None:
    """Return the area under the ROC curve, ties counting one half; None if a class is missing."""
    value = weighted_auroc(np.asarray(positive, dtype=bool), np.asarray(scores), np.ones((1, len(scores))))[0]
    return None if np.isnan(value) else float(value)


def weighted_auroc(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """Return the area under the ROC curve for each row of `weights` (B, N); NaN if a class is missing.

    It is the share of (present, absent) pairs in which the present study has the higher score, ties
    counting one half (Hanley & McNeil 1982), summed over groups of equal scores.
    """
    return _auroc(*_by_score(positive, scores, weights))


def _auroc(above: Floats, below: Floats) -> Floats:
    positives, negatives = above.sum(axis=1), below.sum(axis=1)
    lower = negatives[:, None] - np.cumsum(below, axis=1)
    return ratio((above * (lower + 0.5 * below)).sum(axis=1), positives * negatives)


def weighted_average_precision(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """Return sum over score levels of (gain in recall) x precision, (B,); NaN if a class is missing.

    Without interpolation, and equal scores form one level, as in scikit-learn.
    """
    return _average_precision(*_by_score(positive, scores, weights))


def _average_precision(gained: Floats, false: Floats) -> Floats:
    positives, negatives = gained.sum(axis=1), false.sum(axis=1)
    called = np.cumsum(gained + false, axis=1)
    # Levels before the first drawn study have nothing called; they gain nothing either.
    precision = np.cumsum(gained, axis=1) / np.where(called > 0, called, 1.0)
    return ratio((gained * precision).sum(axis=1), np.where(negatives > 0, positives, 0.0))


def sensitivity_at_specificity(positive: Bools, scores: Floats, weights: Floats, specificity: float) -> Floats:
    """Return the highest sensitivity of the ROC points with at least this specificity, (B,); NaN if a class is missing.

    Points are not joined: only what some threshold really reaches counts. It says how the scores rank; whoever decides
    by a threshold must take it from other studies than those measured.
    """
    sensitivity, reached = _curve(*_by_score(positive, scores, weights))
    return _best(sensitivity, reached, specificity)


def specificity_at_sensitivity(positive: Bools, scores: Floats, weights: Floats, sensitivity: float) -> Floats:
    """Return the highest specificity of the ROC points with at least this sensitivity, (B,); NaN if a class is missing.

    Points are not joined, as in `sensitivity_at_specificity`.
    """
    reached, specificity = _curve(*_by_score(positive, scores, weights))
    return _best(specificity, reached, sensitivity)


def weighted_ranking(
    positive: Bools, scores: Floats, weights: Floats, specificity: float, sensitivity: float
) -> dict[str, Floats]:
    """Return the four measures of this file by name, (B,) each, for the cost of sorting once."""
    levels = _by_score(positive, scores, weights)
    hits, free = _curve(*levels)
    return {
        "auroc": _auroc(*levels),
        "average_precision": _average_precision(*levels),
        "sensitivity_at_specificity": _best(hits, free, specificity),
        "specificity_at_sensitivity": _best(free, hits, sensitivity),
    }


def _curve(above: Floats, below: Floats) -> tuple[Floats, Floats]:
    """Return sensitivity and specificity (B, levels + 1) from calling nothing to calling everything."""
    positives, negatives = above.sum(axis=1, keepdims=True), below.sum(axis=1, keepdims=True)
    sensitivity = ratio(np.cumsum(above, axis=1), positives)
    specificity = 1 - ratio(np.cumsum(below, axis=1), negatives)
    nothing = np.zeros((len(above), 1))
    return np.hstack([nothing, sensitivity]), np.hstack([1 + nothing, specificity])


def _best(wanted: Floats, stated: Floats, at_least: float) -> Floats:
    allowed = stated >= at_least - _ROUNDING
    best = np.where(allowed, wanted, -np.inf).max(axis=1)
    missing = np.isnan(wanted).any(axis=1) | np.isnan(stated).any(axis=1)
    return np.where(missing, np.nan, best)


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
