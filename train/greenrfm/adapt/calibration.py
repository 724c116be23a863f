"""Platt scaling: from logits to probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from greenrfm.errors import UserError
from greenrfm.findings import State

Floats = NDArray[np.float64]
# Slopes stay above this share of the typical one: a slope of 0 or less would reverse or erase the model's ranking.
MINIMUM = 0.05
# How strongly a finding's slope is drawn to the shared one: as if one unit of information already said so.
PULL = 1.0


@dataclass(frozen=True)
class Calibration:
    """Probability = sigmoid(slope * logit + intercept), slope and intercept (C,); `notes` says what was not fitted."""

    keys: tuple[str, ...]
    slope: Floats
    intercept: Floats
    notes: dict[str, str]
    method: str = "platt"

    def apply(self, logits: Floats) -> Floats:
        """Return the probabilities of logits (N, C)."""
        return sigmoid(self.slope * np.asarray(logits, dtype=np.float64) + self.intercept)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry `calibration` of a bundle's manifest."""
        return {"method": self.method, "slope": self.slope.tolist(), "intercept": self.intercept.tolist()}


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64)))


def fit_calibration(logits: Floats, states: NDArray[np.int8], keys: Sequence[str]) -> Calibration:
    """Fit a slope and an intercept per finding on validation logits (Platt 1999).

    Parameters
    ----------
    logits : (N, C), raw outputs for the validation studies.
    states : (N, C) `State` values; UNCERTAIN and NOT_MENTIONED entries are not used.
    keys : the C findings.

    Targets are Platt's (N+ + 1)/(N+ + 2) and 1/(N- + 2) instead of 1 and 0, so that few positives or a perfect
    separation do not run away, and each slope is drawn to the slope that fits all findings best, so that
    a finding with few positives borrows it. Where a class is missing the slope is the shared one and the
    intercept 0, the model's own zero; if no finding has both, everything is the identity. `notes` says so.

    Raises ValueError for shapes that disagree, and UserError if a logit is not a finite number.
    """
    logits, states = np.asarray(logits, dtype=np.float64), np.asarray(states)
    if logits.ndim != 2 or logits.shape != states.shape or logits.shape[1] != len(keys):
        raise ValueError(f"logits {logits.shape}, states {states.shape}, {len(keys)} findings")
    for column, key in enumerate(keys):
        if not np.isfinite(logits[:, column]).all():
            raise UserError(f"the model gives '{key}' a logit that is not a finite number; its training has diverged")
    samples = {key: _sample(logits[:, column], states[:, column]) for column, key in enumerate(keys)}
    usable = {key: sample for key, sample in samples.items() if 0 < np.sum(sample[1] > 0.5) < len(sample[1])}
    notes: dict[str, str] = {}
    shared, weak = _shared_slope(list(usable.values())) if usable else (1.0, False)
    slope, intercept = np.full(len(keys), shared), np.zeros(len(keys))
    for column, (key, (values, target)) in enumerate(samples.items()):
        if key in usable:
            slope[column], intercept[column] = _fit_one(values, target, shared)
            if weak or slope[column] <= MINIMUM * shared * 1.001:
                notes[key] = "the logits do not rise with the finding in validation; the slope is held at its minimum"
        else:
            missing = "present or absent" if not len(values) else "absent" if target[0] > 0.5 else "present"
            taken = "the shared slope" if usable else "slope 1"
            notes[key] = f"no validation study has it {missing}; {taken} and intercept 0 are used"
    return Calibration(tuple(keys), slope, intercept, notes)


def _sample(logits: Floats, states: NDArray[np.int8]) -> tuple[Floats, Floats]:
    """Return the logits with a known state and Platt's targets for them."""
    present, known = states == State.PRESENT, (states == State.PRESENT) | (states == State.ABSENT)
    positives, negatives = int(present.sum()), int(known.sum() - present.sum())
    target = np.where(present[known], (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return logits[known], target


def _shared_slope(samples: Sequence[tuple[Floats, Floats]]) -> tuple[float, bool]:
    """Return the one slope that fits all findings best beside an intercept each, and whether it is the minimum."""
    centred = [values - values.mean() for values, _ in samples]
    spread = float(np.sqrt(np.mean(np.concatenate(centred) ** 2)))
    if spread == 0:
        return 1.0, True
    values = np.concatenate(centred) / spread
    target = np.concatenate([target for _, target in samples])
    member = np.repeat(np.arange(len(samples)), [len(part) for part in centred])
    start = np.array([1.0, *(_logit(target.mean()) for _, target in samples)])

    def loss(parameters: Floats) -> tuple[float, Floats]:
        shifted = parameters[0] * values + parameters[1 + member]
        error = expit(shifted) - target
        gradient = np.array([error @ values, *np.bincount(member, error, len(samples))])
        return _cross_entropy(shifted, target), gradient

    best = _minimise(loss, start)
    return float(best[0] / spread), bool(best[0] <= MINIMUM * 1.001)


def _fit_one(values: Floats, target: Floats, shared: float) -> tuple[float, float]:
    """Return slope and intercept of one finding; convex, so there is one optimum."""
    middle = values.mean()
    scaled = shared * (values - middle)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        shifted = parameters[0] * scaled + parameters[1]
        error = expit(shifted) - target
        pull = parameters[0] - 1.0
        gradient = np.array([error @ scaled + PULL * pull, error.sum()])
        return _cross_entropy(shifted, target) + 0.5 * PULL * pull**2, gradient

    best = _minimise(loss, np.array([1.0, _logit(target.mean())]))
    slope = best[0] * shared
    return float(slope), float(best[1] - slope * middle)


def _minimise(loss: Any, start: Floats) -> Floats:
    bounds = [(MINIMUM, None)] + [(None, None)] * (len(start) - 1)
    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-8}
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)


def _cross_entropy(shifted: Floats, target: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, shifted) - target * shifted))


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))
