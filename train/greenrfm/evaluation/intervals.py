"""Intervals by resampling patients, and the shape in which every measure of this room is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.progress import Progress, silent

Floats = NDArray[np.float64]
# name of a measure -> (replicates, findings); NaN where the measure is not defined.
Measures = dict[str, Floats]

BOOTSTRAPS = 1000
LEVEL = 0.95
# One block of weights is 8 MB: a large cohort costs time and not memory, and most of a block stays in the cache.
_BLOCK = 1_000_000


def bootstrap(
    measure: Callable[[Floats], Measures],
    patient_ids: Sequence[str],
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
    progress: Progress = silent,
    stage: str = "resample patients",
) -> tuple[Measures, Measures]:
    """Return a measure's values on the cohort and on cohorts resampled by patient.

    Drawing patients with replacement is the same as weighting each study by how often its patient
    was drawn, so `measure` receives weights of shape (B, N studies) and returns (B, F) per name; all
    weights 1 is the cohort itself. All studies of a patient move together, because two studies of
    one patient are not independent (Efron & Tibshirani 1993, chapter 8). The weights lie in memory as
    (N studies, B), a block of resamples at a time.

    Returns `({name: (F,)}, {name: (bootstraps, F)})`; with fewer than two patients there is nothing to
    resample and the second has no rows. Raises ValueError for an empty cohort.
    """
    studies = len(patient_ids)
    if not studies:
        raise ValueError("there is no study to evaluate")
    point = {name: values[0] for name, values in measure(np.ones((1, studies))).items()}
    patients, patient_of = np.unique(np.asarray(patient_ids, dtype=str), return_inverse=True)
    count = len(patients)
    blocks: list[Measures] = []
    if count > 1:
        drawn = _drawn(count, bootstraps, seed)
        step = max(1, _BLOCK // studies)
        for start in range(0, bootstraps, step):
            block = np.ascontiguousarray(drawn[start : start + step].T, dtype=np.float64)
            blocks.append(measure(block[patient_of].T))
            progress(stage, min(start + step, bootstraps), bootstraps)
    replicates = {
        name: np.concatenate([block[name] for block in blocks]) if blocks else np.empty((0, *values.shape))
        for name, values in point.items()
    }
    return point, replicates


@lru_cache(maxsize=1)
def _drawn(patients: int, bootstraps: int, seed: int) -> NDArray[np.uint8]:
    """Return how often each resample draws each patient, (bootstraps, patients), at a byte each.

    The last answer is kept: one evaluation resamples the same patients for several measures.
    """
    rng, share = np.random.default_rng(seed), np.full(patients, 1 / patients)
    drawn = np.empty((bootstraps, patients), np.uint8)
    for row in drawn:
        # Nobody is drawn 256 times: the chance is below 1 in 256! for each.
        row[:] = rng.multinomial(patients, share)
    return drawn


def percentile_interval(replicates: Floats) -> list[float] | None:
    """Return the 95 % percentile interval `[low, high]` of the defined replicates.

    None if fewer than half of them are defined (or there are none): such an interval would describe
    the lucky resamples, not the cohort.
    """
    defined = replicates[~np.isnan(replicates)]
    if not len(defined) or 2 * len(defined) < len(replicates):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def describe(point: Mapping[str, float], replicates: Mapping[str, Floats]) -> dict[str, Any]:
    """Return `{name: value or None, …, "intervals": {name: [low, high] or None}}`, ready for JSON."""
    values: dict[str, Any] = {name: number(value) for name, value in point.items()}
    values["intervals"] = {
        name: None if values[name] is None else percentile_interval(replicates[name]) for name in point
    }
    return values


def describe_findings(keys: Sequence[str], point: Measures, replicates: Measures) -> dict[str, dict[str, Any]]:
    """Return `describe` of every column, by finding key."""
    return {
        key: describe(
            {name: float(values[column]) for name, values in point.items()},
            {name: values[:, column] for name, values in replicates.items()},
        )
        for column, key in enumerate(keys)
    }


def describe_macro(point: Measures, replicates: Measures, included: NDArray[np.bool_]) -> dict[str, Any]:
    """Return `describe` of the mean over the `included` findings (F,) for which a measure is defined.

    In a resample that lacks a class of some finding, the mean is taken over the others.
    """
    means = {name: float(_mean(values[None, included])[0]) for name, values in point.items()}
    resampled = {
        # Findings that the point estimate leaves out stay out of every resample too.
        name: _mean(values[:, included & ~np.isnan(point[name])])
        for name, values in replicates.items()
    }
    return describe(means, resampled)


def number(value: float) -> float | None:
    """Return a float for JSON, None for NaN."""
    return None if np.isnan(value) else float(value)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is 0."""
    out = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator != 0)
    return out


def _mean(values: Floats) -> Floats:
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
