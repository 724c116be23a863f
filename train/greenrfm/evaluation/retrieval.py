"""Retrieval measures beside their chance level: recall@k and mean average precision.

Equal similarities are never broken in anyone's favour: every measure is its expected value over the
random orders of tied candidates (McSherry & Najork 2008), so a constant similarity scores exactly chance.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from greenrfm.evaluation.intervals import (
    BOOTSTRAPS,
    Floats,
    Measures,
    bootstrap,
    describe,
    describe_findings,
    describe_macro,
    ratio,
)
from greenrfm.findings import State

Bools = NDArray[np.bool_]
# GreenRFM, public retrieval script.
KS = (1, 5, 10, 50, 100)


def recall_at_k(
    similarity: Floats,
    query_groups: Sequence[Hashable],
    candidate_groups: Sequence[Hashable],
    ks: Sequence[int] = KS,
    *,
    patient_ids: Sequence[str] | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the share of queries with at least one match among their k most similar candidates.

    Parameters
    ----------
    similarity : (Q queries, G candidates), higher is more similar.
    query_groups, candidate_groups : what belongs together, e.g. the report's id on both sides: several
        volumes may share one report, and any of them is a match.
    patient_ids : patient of each query, for resampling; without it queries of one group stay together.
        Candidates are never resampled: the interval is for new queries to this collection.

    Returns
    -------
    `{"queries", "candidates", "without_match", "median_rank", "recall_at_1", "chance_recall_at_1", …,
    "intervals"}`. Chance is the hypergeometric expectation, k/G if each query has one match. Queries
    without any match cannot be found; they are left out and counted in `without_match`.

    Raises ValueError for shapes that disagree, values that are no numbers, or no query with a match.
    """
    similarity = _checked(similarity, len(query_groups), len(candidate_groups))
    code = {group: number for number, group in enumerate(dict.fromkeys((*query_groups, *candidate_groups)))}
    of_query = np.array([code[group] for group in query_groups])
    of_candidate = np.array([code[group] for group in candidate_groups])
    depth = np.array(ks)
    kept, hits, chances, ranks = [], [], [], []
    for row, group in enumerate(of_query):
        match = of_candidate == group
        if not match.any():
            continue
        best = similarity[row, match].max()
        ahead = int((similarity[row] > best).sum())
        tied = similarity[row] == best
        kept.append(row)
        hits.append(hit_probability(int(tied.sum()), int((tied & match).sum()), depth - ahead))
        chances.append(hit_probability(len(match), int(match.sum()), depth))
        # Expected place of the first of m matches among t tied candidates: (t + 1) / (m + 1).
        ranks.append(ahead + (tied.sum() + 1) / ((tied & match).sum() + 1))
    if not kept:
        raise ValueError("no query has a match among the candidates")
    units = [str(patient_ids[row] if patient_ids is not None else of_query[row]) for row in kept]
    hit = np.array(hits)
    point, replicates = bootstrap(lambda weights: {"recall": _weighted(weights, hit)}, units, bootstraps, seed)
    names = [f"recall_at_{k}" for k in ks]
    result = describe(
        {name: float(point["recall"][column]) for column, name in enumerate(names)},
        {name: replicates["recall"][:, column] for column, name in enumerate(names)},
    )
    chance = np.array(chances).mean(axis=0)
    result.update({f"chance_{name}": float(chance[column]) for column, name in enumerate(names)})
    return {
        "queries": len(kept),
        "candidates": len(of_candidate),
        "without_match": len(of_query) - len(kept),
        "median_rank": float(np.median(ranks)),
        **result,
    }


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
    relevant = np.asarray(relevant, dtype=bool)
    total = int(relevant.sum())
    if not total:
        return None
    first, size, count, before = _ties(np.asarray(scores), relevant)
    rank = np.arange(1, len(relevant) + 1)
    # A place in a tie of n with r relevant is relevant with r/n, and then (i-1)(r-1)/(n-1) before it are too.
    inside = (rank - 1 - first) * (count - 1) / np.maximum(size - 1, 1)
    gain = count / size * (before + 1 + inside) / rank
    depth = len(relevant) if k is None else k
    return float(gain[:depth].sum() / min(total, depth))


def mean_average_precision(
    similarity: Floats,
    relevant: Bools,
    candidates: Bools | None = None,
    k: int | None = None,
    *,
    patient_ids: Sequence[str] | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the mean over queries of `average_precision`, its chance level and interval.

    `relevant` and `candidates` are (Q, G); mark as no candidate the query itself and, better, all of its
    patient, or the measure counts finding oneself. Queries with nothing relevant are left out and counted.
    Returns `{"queries", "without_match", "map", "chance_map", "intervals"}`. Raises ValueError for shapes that
    disagree, values that are no numbers, or if no query has anything relevant.
    """
    similarity = _checked(similarity, *relevant.shape)
    allowed = np.ones(relevant.shape, dtype=bool) if candidates is None else candidates
    found: list[tuple[int, float, float]] = []
    for row in range(len(similarity)):
        scores, right = similarity[row, allowed[row]], relevant[row, allowed[row]]
        value, chance = average_precision(scores, right, k), average_precision(np.zeros(len(right)), right, k)
        if value is not None and chance is not None:
            found.append((row, value, chance))
    if not found:
        raise ValueError("no query has a relevant candidate")
    units = [str(patient_ids[row] if patient_ids is not None else row) for row, _, _ in found]
    values = np.array([value for _, value, _ in found])[:, None]
    point, replicates = bootstrap(lambda weights: {"map": _weighted(weights, values)}, units, bootstraps, seed)
    return {
        "queries": len(found),
        "without_match": len(similarity) - len(found),
        "chance_map": float(np.mean([chance for _, _, chance in found])),
        **describe({"map": float(point["map"][0])}, {"map": replicates["map"][:, 0]}),
    }


def share_label_measures(
    similarity: Floats,
    states: NDArray[np.int8],
    keys: Sequence[str],
    patient_ids: Sequence[str],
    ks: Sequence[int] = (1, 5, 10),
    *,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return whether an image's most similar images share its findings: image -> image, (N, N) similarity.

    For each finding every study that has it is a query; candidates are the studies of other patients whose
    state is known. Given are `precision_at_k` (share of the first k with the finding), `map`, and their
    chance levels, which for precision is the prevalence. `jaccard_at_k` is the mean label overlap with the
    first k, over findings known in both (1 if both have none). Unlike CT-CLIP's "MAP@K", which is such an
    overlap, the query is never its own answer. Returns `{"n", "patients", "macro", "findings", "labels"}`.

    Raises ValueError for shapes that disagree or values that are no numbers.
    """
    states = np.asarray(states)
    similarity = _checked(similarity, len(states), len(states))
    if states.shape != (len(patient_ids), len(keys)):
        raise ValueError(f"states {states.shape} for {len(patient_ids)} studies and {len(keys)} findings")
    patients = np.asarray(patient_ids, dtype=str)
    other = patients[:, None] != patients[None, :]
    names = ["map", "chance_map", *(f"{kind}precision_at_{k}" for k in ks for kind in ("", "chance_"))]
    values = np.full((len(names), len(states), len(keys)), np.nan)
    overlap = np.full((2 * len(ks), len(states)), np.nan)
    present, known = states == State.PRESENT, states >= 0
    for row in range(len(states)):
        for column in np.flatnonzero(present[row]).tolist():
            allowed = other[row] & known[:, column]
            scores, right = similarity[row, allowed], present[allowed, column]
            if not right.any():
                continue
            mean_gain = np.cumsum(_expected_gain(scores, right)) / np.arange(1, len(right) + 1)
            values[:2, row, column] = average_precision(scores, right), average_precision(0 * scores, right)
            values[2::2, row, column] = [mean_gain[min(k, len(right)) - 1] for k in ks]
            values[3::2, row, column] = right.mean()
        if other[row].any():
            gain = _jaccard(states[row], states[other[row]])
            mean_gain = np.cumsum(_expected_gain(similarity[row, other[row]], gain)) / np.arange(1, len(gain) + 1)
            overlap[0::2, row] = [mean_gain[min(k, len(gain)) - 1] for k in ks]
            overlap[1::2, row] = gain.mean()

    def measure(weights: Floats) -> Measures:
        return {name: _weighted(weights, values[index]) for index, name in enumerate(names)}

    point, replicates = bootstrap(measure, patient_ids, bootstraps, seed)
    findings = describe_findings(keys, point, replicates)
    for column, key in enumerate(keys):
        findings[key]["queries"] = int((~np.isnan(values[0, :, column])).sum())
    labels, labels_again = bootstrap(lambda w: {"all": _weighted(w, overlap.T)}, patient_ids, bootstraps, seed)
    overlap_names = [f"{kind}jaccard_at_{k}" for k in ks for kind in ("", "chance_")]
    return {
        "n": len(states),
        "patients": len(set(patient_ids)),
        "macro": describe_macro(point, replicates, np.ones(len(keys), dtype=bool)),
        "findings": findings,
        "labels": describe(
            {name: float(labels["all"][index]) for index, name in enumerate(overlap_names)},
            {name: labels_again["all"][:, index] for index, name in enumerate(overlap_names)},
        ),
    }


def _checked(similarity: Floats, queries: int, candidates: int) -> Floats:
    similarity = np.asarray(similarity)
    if similarity.shape != (queries, candidates):
        raise ValueError(f"similarity {similarity.shape} for {queries} queries and {candidates} candidates")
    if not np.isfinite(similarity).all():
        raise ValueError("a similarity is not a finite number")
    return similarity


def _weighted(weights: Floats, values: Floats) -> Floats:
    """Return the weighted mean of each column of `values` (N, F) for each row of `weights` (B, N), without NaN."""
    defined = ~np.isnan(values)
    return ratio(weights @ np.where(defined, values, 0.0), weights @ defined)


def _ties(scores: Floats, gain: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats, Floats]:
    """Return for each rank its tie's first place, size, total gain, and the gain before it."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(ordered)])
    sums = np.add.reduceat(gain[order].astype(np.float64), starts)
    tie = np.repeat(np.arange(len(starts)), sizes)
    return starts[tie], sizes[tie], sums[tie], (np.cumsum(sums) - sums)[tie]


def _expected_gain(scores: Floats, gain: NDArray[Any]) -> Floats:
    """Return the expected gain at each rank, the mean over its tie."""
    _, size, total, _ = _ties(scores, gain)
    return np.asarray(total / size)


def _jaccard(query: NDArray[np.int8], others: NDArray[np.int8]) -> Floats:
    known = (query >= 0) & (others >= 0)
    both = (known & (query == State.PRESENT) & (others == State.PRESENT)).sum(axis=1)
    either = (known & ((query == State.PRESENT) | (others == State.PRESENT))).sum(axis=1)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)
