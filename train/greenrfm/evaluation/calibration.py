"""Do probabilities mean what they say: expected calibration error, beside what a perfect model of that size shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.intervals import BOOTSTRAPS, LEVEL, Floats, Measures, bootstrap, percentile_interval, ratio
from greenrfm.findings import State
from greenrfm.progress import Progress, silent

ECE_BINS = 10
SIMULATIONS = 1000
# One block of simulated outcomes stays below 32 MB.
_BLOCK = 4_000_000


def reliability_bin(probabilities: Floats, bins: int = ECE_BINS) -> NDArray[np.intp]:
    """Return each probability's bin 0…bins-1; probability 1 belongs to the last."""
    return np.minimum((np.asarray(probabilities) * bins).astype(np.intp), bins - 1)


def perfect_ece(
    probabilities: Floats,
    bins: int = ECE_BINS,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Return the ECE (simulations,) of a model that is calibrated perfectly and says exactly these probabilities (N,).

    In every simulation each finding is present with just the probability that the model gives it, independently. What
    remains is chance: no model of that N can be expected to lie below it.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64).ravel()
    member = np.zeros((len(probabilities), bins))
    member[np.arange(len(probabilities)), reliability_bin(probabilities, bins)] = 1.0
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // max(1, len(probabilities)))
    blocks = []
    for start in range(0, simulations, step):
        drawn = rng.random((min(step, simulations - start), len(probabilities))) < probabilities
        blocks.append(np.abs((drawn - probabilities) @ member).sum(axis=1) / len(probabilities))
        progress("simulate perfect calibration", min(start + step, simulations), simulations)
    return np.concatenate(blocks) if blocks else np.empty(0)


def pooled_calibration(
    probabilities: Floats,
    states: NDArray[np.int8],
    patient_ids: Sequence[str] | None = None,
    *,
    bootstraps: int = BOOTSTRAPS,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the calibration of all findings together, with the ECE of a perfectly calibrated model beside it.

    Parameters
    ----------
    probabilities, states : (N, F); UNCERTAIN and NOT_MENTIONED entries are left out.
    patient_ids : patient of each study; patients are resampled, all findings of a study together.

    Returns
    -------
    `{"pairs", "bins", "ece", "brier", "mean_probability", "prevalence", "intervals", "perfect": {"ece", "interval",
    "simulations", "as_large": share of the simulations with at least the measured ECE}, "points": [{"probability",
    "share", "interval", "n"}]}`; a point is a bin that is not empty. Without a known entry the numbers are None. The
    interval of the ECE resamples patients, and resampling adds to an ECE: it lies a little high.
    """
    probabilities, states = np.asarray(probabilities, dtype=np.float64), np.asarray(states)
    known = (states == State.PRESENT) | (states == State.ABSENT)
    rows, _ = np.nonzero(known)
    said, found = probabilities[known], (states == State.PRESENT)[known]
    if not len(said):
        nothing = dict.fromkeys(("ece", "brier", "mean_probability", "prevalence"))
        empty = {"ece": None, "interval": None, "simulations": 0, "as_large": None}
        return {"pairs": 0, "bins": ECE_BINS, **nothing, "intervals": dict(nothing), "perfect": empty, "points": []}
    studies = len(probabilities)
    # Sums per study and bin: a resample weighs studies, so it never has to touch the pairs again.
    cell = rows * ECE_BINS + reliability_bin(said)

    def sums(values: Floats) -> Floats:
        return np.asarray(np.bincount(cell, values, studies * ECE_BINS), np.float64).reshape(studies, ECE_BINS)

    count, expected, present = sums(np.ones(len(said))), sums(said), sums(found.astype(np.float64))
    error = sums((found - said) ** 2)

    def measure(weights: Floats) -> Measures:
        total = (weights @ count).sum(axis=1)
        return {
            "ece": ratio(np.abs(weights @ (present - expected)).sum(axis=1), total)[:, None],
            "brier": ratio((weights @ error).sum(axis=1), total)[:, None],
            "mean_probability": ratio((weights @ expected).sum(axis=1), total)[:, None],
            "prevalence": ratio((weights @ present).sum(axis=1), total)[:, None],
            "share": ratio(weights @ present, weights @ count),
            "probability": ratio(weights @ expected, weights @ count),
        }

    units = list(patient_ids) if patient_ids is not None else [str(row) for row in range(studies)]
    point, again = bootstrap(measure, units, bootstraps, seed, progress, "resample calibration")
    names = ("ece", "brier", "mean_probability", "prevalence")
    perfect = perfect_ece(said, simulations=simulations, seed=seed, progress=progress)
    ece = float(point["ece"][0])
    return {
        "pairs": len(said),
        "bins": ECE_BINS,
        **{name: float(point[name][0]) for name in names},
        "intervals": {name: percentile_interval(again[name][:, 0]) for name in names},
        "perfect": {
            "ece": float(perfect.mean()) if len(perfect) else None,
            "interval": [float(edge) for edge in np.quantile(perfect, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]
            if len(perfect)
            else None,
            "simulations": len(perfect),
            "as_large": float(np.mean(perfect >= ece)) if len(perfect) else None,
        },
        "points": [
            {
                "probability": float(point["probability"][index]),
                "share": float(point["share"][index]),
                "interval": percentile_interval(again["share"][:, index]),
                "n": int(count[:, index].sum()),
            }
            for index in np.flatnonzero(count.sum(axis=0)).tolist()
        ],
    }
