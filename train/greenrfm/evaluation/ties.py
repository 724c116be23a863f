"""Expected values over the random orders of tied candidates, and of drawing candidates at random.

Equal similarities are never broken in anyone's favour: every measure of retrieval is its expected value over the
random orders of tied candidates (McSherry & Najork 2008), so a constant similarity scores exactly chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from greenrfm.evaluation.intervals import Floats, ratio
from greenrfm.evaluation.ranking import Bools


def hit_probability(total: int, matches: int, drawn: NDArray[np.int_]) -> Floats:
    """Return the chance that `drawn` of `total` candidates, taken at random, hold one of the `matches`.

    Hypergeometric: 1 - C(total - matches, drawn) / C(total, drawn); drawn / total for one match.
    """
    drawn = np.clip(drawn, 0, total)
    rest = total - matches
    sure = drawn > rest
    held = np.where(sure, 0, drawn)
    miss = gammaln(rest + 1) - gammaln(rest - held + 1) - gammaln(total + 1) + gammaln(total - held + 1)
    return np.where(sure, 1.0, np.where(held == 0, 0.0, -np.expm1(miss)))


def average_precision(scores: Floats, relevant: Bools, k: int | None = None) -> float | None:
    """Return the average precision of one ranking, (G,) each; None if nothing is relevant.

    It is the sum over the relevant candidates among the first k (all without `k`) of the precision at
    their rank, divided by the number that could be there, min(relevant, k).
    """
    value = average_precisions(scores, relevant, (len(relevant) if k is None else k,))
    return None if value is None else float(value[0])


def average_precisions(scores: Floats, relevant: Bools, ks: Sequence[int]) -> Floats | None:
    """Return `average_precision` at every k, (K,); None if nothing is relevant."""
    relevant = np.asarray(relevant, dtype=bool)
    total = int(relevant.sum())
    if not total:
        return None
    first, size, count, before = ties(np.asarray(scores), relevant)
    rank = np.arange(1, len(relevant) + 1)
    # A place in a tie of n with r relevant is relevant with r/n, and then (i-1)(r-1)/(n-1) before it are too.
    inside = (rank - 1 - first) * (count - 1) / np.maximum(size - 1, 1)
    gain = np.cumsum(count / size * (before + 1 + inside) / rank)
    depth = np.minimum(ks, len(relevant))
    return np.asarray(gain[depth - 1] / np.minimum(total, ks))


def ties(scores: Floats, gain: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats, Floats]:
    """Return for each rank its tie's first place, size, total gain, and the gain before it."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    sums = np.add.reduceat(gain[order].astype(np.float64), starts)
    tie = np.repeat(np.arange(len(starts)), sizes)
    return starts[tie], sizes[tie], sums[tie], (np.cumsum(sums) - sums)[tie]


def expected_gain(scores: Floats, gain: NDArray[Any]) -> Floats:
    """Return the expected gain at each rank, the mean over its tie."""
    _, size, total, _ = ties(scores, gain)
    return np.asarray(total / size)


def checked(similarity: Floats, queries: int, candidates: int) -> Floats:
    """Return the similarity as an array; raise ValueError if its shape or a value does not fit."""
    similarity = np.asarray(similarity)
    if similarity.shape != (queries, candidates):
        raise ValueError(f"similarity {similarity.shape} for {queries} queries and {candidates} candidates")
    if not np.isfinite(similarity).all():
        raise ValueError("a similarity is not a finite number")
    return similarity


def weighted_mean(weights: Floats, values: Floats) -> Floats:
    """Return the weighted mean of each column of `values` (N, F) for each row of `weights` (B, N), without NaN."""
    defined = ~np.isnan(values)
    return ratio(weights @ np.where(defined, values, 0.0), weights @ defined)
