"""The points behind the ROC, precision-recall and calibration plots."""

from __future__ import annotations

import numpy as np

from greenrfm.evaluation.calibration import ECE_BINS, reliability_bin
from greenrfm.evaluation.intervals import Floats
from greenrfm.evaluation.ranking import Bools


def roc_points(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """Return (1 - specificity, sensitivity) from (0, 0) to (1, 1), one point per distinct score.

    Raises ValueError if a class is missing: there is no curve then.
    """
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores)
    if positive.all() or not positive.any():
        raise ValueError("a ROC curve needs studies with and without the finding")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[scores[order][1:] != scores[order][:-1], True])
    hits, alarms = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.r_[0.0, alarms / alarms[-1]], np.r_[0.0, hits / hits[-1]]


def precision_recall_points(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """Return (recall, precision), a point per distinct score, highest first, after (0, the first precision).

    Raises ValueError if a class is missing: there is no curve then.
    """
    positive, scores = np.asarray(positive, dtype=bool), np.asarray(scores)
    if positive.all() or not positive.any():
        raise ValueError("a precision-recall curve needs studies with and without the finding")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[scores[order][1:] != scores[order][:-1], True])
    hits = np.cumsum(positive[order])[last]
    precision = hits / (last + 1)
    return np.r_[0.0, hits / hits[-1]], np.r_[precision[0], precision]


def reliability_points(positive: Bools, probabilities: Floats, bins: int = ECE_BINS) -> list[tuple[float, float, int]]:
    """Return (mean probability, share present, studies) of each non-empty bin of equal width."""
    positive, probabilities = np.asarray(positive, dtype=bool), np.asarray(probabilities)
    bin_of = reliability_bin(probabilities, bins)
    return [
        (float(probabilities[inside].mean()), float(positive[inside].mean()), int(inside.sum()))
        for inside in (bin_of == index for index in range(bins))
        if inside.any()
    ]
