"""How scores rank present before absent: the areas under two curves, and points read off the first.

Each measure takes `weights` (B, N), one row per resample of the cohort, and returns (B,). Equal scores are one level
of the ranking: no order among them is in anyone's favour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

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
    return Ranking(positive, scores).curve(weights.T).auroc()


def weighted_average_precision(positive: Bools, scores: Floats, weights: Floats) -> Floats:
    """Return sum over score levels of (gain in recall) x precision, (B,); NaN if a class is missing.

    Without interpolation, and equal scores form one level, as in scikit-learn.
    """
    return Ranking(positive, scores).curve(weights.T).average_precision()


def sensitivity_at_specificity(positive: Bools, scores: Floats, weights: Floats, specificity: float) -> Floats:
    """Return the highest sensitivity of the ROC points with at least this specificity, (B,); NaN if a class is missing.

    Points are not joined: only what some threshold really reaches counts. It says how the scores rank; whoever decides
    by a threshold must take it from other studies than those measured.
    """
    return Ranking(positive, scores).curve(weights.T).sensitivity_at(specificity)


def specificity_at_sensitivity(positive: Bools, scores: Floats, weights: Floats, sensitivity: float) -> Floats:
    """Return the highest specificity of the ROC points with at least this sensitivity, (B,); NaN if a class is missing.

    Points are not joined, as in `sensitivity_at_specificity`.
    """
    return Ranking(positive, scores).curve(weights.T).specificity_at(sensitivity)


class Ranking:
    """The studies sorted by score, once for all resamples, so that each of them costs one sparse product."""

    def __init__(self, positive: Bools, scores: Floats) -> None:
        """Sort studies by `scores` (N,); `positive` (N,) says which have the finding."""
        order = np.argsort(-scores, kind="stable")
        ordered, present = scores[order], positive[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(order)])
        # Levels without a present study can be one: a threshold between them is never better than the one above.
        gains = np.add.reduceat(present, starts, dtype=np.intp) > 0 if len(starts) else np.empty(0, bool)
        opens = gains | np.r_[True, gains[:-1]][: len(gains)]
        # Level 0 is empty: the point of the curve at which nothing is called.
        level = np.repeat(np.cumsum(opens), np.diff(np.r_[starts, len(order)]))
        self._levels = int(level[-1]) + 1 if len(level) else 1
        cell = 2 * level + present
        self._sum = csr_array((np.ones(len(order)), (cell, order)), shape=(2 * self._levels, len(order)))

    def curve(self, weights: Floats) -> Curve:
        """Return the curve of each resample, from `weights` (N, B), a column per resample."""
        counts = (self._sum @ weights).reshape(self._levels, 2, -1)
        passed = np.cumsum(counts, axis=0)
        return Curve(counts[:, 1], counts[:, 0], passed[:, 1], passed[:, 0])


@dataclass(frozen=True)
class Curve:
    """Present and absent weight at each level, highest score first, and down to it: (levels, B) each."""

    present: Floats
    absent: Floats
    hits: Floats
    alarms: Floats

    def auroc(self) -> Floats:
        """Return what `weighted_auroc` says."""
        below = self.alarms[-1] - self.alarms + 0.5 * self.absent
        return ratio(np.einsum("lb,lb->b", self.present, below), self.hits[-1] * self.alarms[-1])

    def average_precision(self) -> Floats:
        """Return what `weighted_average_precision` says."""
        # Levels before the first drawn study have nothing called; they gain nothing either.
        called = self.hits + self.alarms
        precision = self.hits / np.where(called > 0, called, 1.0)
        gained = np.einsum("lb,lb->b", self.present, precision)
        return ratio(gained, np.where(self.alarms[-1] > 0, self.hits[-1], 0.0))

    def sensitivity_at(self, specificity: float) -> Floats:
        """Return what `sensitivity_at_specificity` says."""
        allowed = self.alarms <= (1 - specificity + _ROUNDING) * self.alarms[-1]
        return self._defined(ratio(np.where(allowed, self.hits, 0.0).max(axis=0), self.hits[-1]))

    def specificity_at(self, sensitivity: float) -> Floats:
        """Return what `specificity_at_sensitivity` says."""
        allowed = self.hits >= (sensitivity - _ROUNDING) * self.hits[-1]
        return self._defined(1 - ratio(np.where(allowed, self.alarms, np.inf).min(axis=0), self.alarms[-1]))

    def _defined(self, values: Floats) -> Floats:
        return np.where((self.hits[-1] > 0) & (self.alarms[-1] > 0), values, np.nan)
