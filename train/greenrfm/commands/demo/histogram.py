"""The first control: how far the HU histogram and the volume's size go without looking at any shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from greenrfm.cohort import Study
from greenrfm.commands.demo.hu_features import hu_features
from greenrfm.evaluation import auroc
from greenrfm.findings import State
from greenrfm.progress import Progress

Floats = NDArray[np.float64]
States = NDArray[np.int8]
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class HistogramControl:
    """Probabilities (N, C) of the held-out studies, and the C that validation chose."""

    probabilities: Floats
    strength: float


def histogram_control(
    parts: dict[str, Sequence[Study]],
    states: dict[str, States],
    not_mentioned_weight: float,
    workers: int,
    progress: Progress,
) -> HistogramControl:
    """Train a logistic regression per finding on train, choose C on validation, and score test.

    `parts` and `states` (studies, findings) have the keys train and validation, `parts` also test. The
    labels are the distilled ones that the model learns from, used as it uses them: uncertain entries are
    left out, what is not mentioned counts as absent with its weight.
    """
    features = hu_features([study for part in parts.values() for study in part], workers, progress)
    ends = np.cumsum([len(part) for part in parts.values()])
    rows = dict(zip(parts, np.split(features, ends[:-1]), strict=True))

    def score(name: str, strength: float) -> Floats:
        columns = [
            _fit_one(rows["train"], labels, not_mentioned_weight, strength, rows[name]) for labels in states["train"].T
        ]
        return np.stack(columns, axis=1)

    reached = {strength: _macro(score("validation", strength), states["validation"]) for strength in STRENGTHS}
    best = max(reached, key=lambda strength: reached[strength])
    return HistogramControl(score("test", best), best)


def _macro(scores: Floats, states: States) -> float:
    """Return the macro-AUC against the distilled labels, not mentioned being absent, without uncertain entries."""
    areas = []
    for values, labels in zip(scores.T, states.T, strict=True):
        known = labels != State.UNCERTAIN
        area = auroc(labels[known] == State.PRESENT, values[known])
        areas += [area] if area is not None else []
    return float(np.mean(areas))


def _fit_one(train: Floats, states: States, not_mentioned_weight: float, strength: float, asked: Floats) -> Floats:
    weights = (states >= 0) + not_mentioned_weight * (states == State.NOT_MENTIONED)
    used = weights > 0
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000))
    model.fit(train[used], states[used] == State.PRESENT, logisticregression__sample_weight=weights[used])
    return np.asarray(model.predict_proba(asked)[:, 1], np.float64)
