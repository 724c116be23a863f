"""Recall@k and MAP@k beside their chance level, in the honest definition.

A query is never its own candidate where both are images, everything that belongs to the query is a hit, and ties are
worth their expected value (`ties`). What public scripts compute instead is in `public_scripts`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from greenrfm.evaluation.intervals import BOOTSTRAPS, Floats, bootstrap, describe
from greenrfm.evaluation.ranking import Bools
from greenrfm.evaluation.ties import average_precision, average_precisions, checked, hit_probability, weighted_mean

# GreenRFM, public retrieval script.
KS = (1, 5, 10, 50, 100)


def retrieval_measures(
    similarity: Floats,
    relevant: Bools,
    candidates: Bools | None = None,
    ks: Sequence[int] = KS,
    *,
    patient_ids: Sequence[str] | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return recall@k, MAP@k and their chance levels.

    Parameters
    ----------
    similarity : (Q queries, G candidates), higher is more similar.
    relevant : (Q, G), what counts as found.
    candidates : (Q, G), what may be found; all if not given. Mark as none the query itself and, better, all of its
        patient, or the measures count finding oneself.
    patient_ids : patient of each query, for resampling; without it every query is its own patient. Candidates are
        never resampled: the interval is for new queries to this collection.

    Returns
    -------
    `{"queries", "candidates", "without_match", "median_rank", "recall_at_1", "chance_recall_at_1", "map_at_1",
    "chance_map_at_1", …, "intervals"}`. `recall_at_k` is the share of queries with a relevant candidate among the first
    k, its chance hypergeometric; `map_at_k` the mean of `average_precision` at k. Queries without any relevant
    candidate cannot be found; they are left out and counted in `without_match`.

    Raises ValueError for shapes that disagree, values that are no numbers, or no query with a match.
    """
    similarity = checked(similarity, *relevant.shape)
    depth = np.array(ks)
    kept: list[int] = []
    ranks: list[float] = []
    rows: list[Floats] = []
    for row in range(len(similarity)):
        allowed = slice(None) if candidates is None else candidates[row]
        scores, right = similarity[row, allowed], relevant[row, allowed]
        precision, by_chance = average_precisions(scores, right, ks), average_precisions(0 * scores, right, ks)
        if precision is None or by_chance is None:
            continue
        best = scores[right].max()
        ahead, tied = int((scores > best).sum()), scores == best
        hit = hit_probability(int(tied.sum()), int((tied & right).sum()), depth - ahead)
        chance = hit_probability(len(right), int(right.sum()), depth)
        kept.append(row)
        rows.append(np.concatenate([hit, precision, chance, by_chance]))
        # Expected place of the first of m matches among t tied candidates: (t + 1) / (m + 1).
        ranks.append(ahead + (tied.sum() + 1) / ((tied & right).sum() + 1))
    if not kept:
        raise ValueError("no query has a match among the candidates")
    units = [str(patient_ids[row] if patient_ids is not None else row) for row in kept]
    values = np.array(rows)
    own, chances = values[:, : 2 * len(ks)], values[:, 2 * len(ks) :].mean(axis=0)
    point, again = bootstrap(lambda weights: {"all": weighted_mean(weights, own)}, units, bootstraps, seed)
    names = [f"{kind}_at_{k}" for kind in ("recall", "map") for k in ks]
    return {
        "queries": len(kept),
        "candidates": relevant.shape[1],
        "without_match": len(similarity) - len(kept),
        "median_rank": float(np.median(ranks)),
        **describe(
            {name: float(point["all"][column]) for column, name in enumerate(names)},
            {name: again["all"][:, column] for column, name in enumerate(names)},
        ),
        **{f"chance_{name}": float(chances[column]) for column, name in enumerate(names)},
    }


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
    """Return `retrieval_measures` where a candidate of the query's group is a match.

    Groups are what belongs together, e.g. the report's id on both sides: several volumes may share one report, and any
    of them is a match. Without `patient_ids` queries of one group stay together when resampling.
    """
    code = {group: number for number, group in enumerate(dict.fromkeys((*query_groups, *candidate_groups)))}
    of_query = np.array([code[group] for group in query_groups], dtype=np.intp)
    of_candidate = np.array([code[group] for group in candidate_groups], dtype=np.intp)
    return retrieval_measures(
        checked(similarity, len(of_query), len(of_candidate)),
        of_query[:, None] == of_candidate[None, :],
        ks=ks,
        patient_ids=patient_ids if patient_ids is not None else [str(group) for group in of_query],
        bootstraps=bootstraps,
        seed=seed,
    )


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

    Arguments as of `retrieval_measures`; without `k` the whole ranking counts.
    Returns `{"queries", "without_match", "map", "chance_map", "intervals"}`. Raises ValueError for shapes that
    disagree, values that are no numbers, or if no query has anything relevant.
    """
    depth = relevant.shape[1] if k is None else k
    all_of = retrieval_measures(
        similarity, relevant, candidates, (depth,), patient_ids=patient_ids, bootstraps=bootstraps, seed=seed
    )
    return {
        "queries": all_of["queries"],
        "without_match": all_of["without_match"],
        "map": all_of[f"map_at_{depth}"],
        "chance_map": all_of[f"chance_map_at_{depth}"],
        "intervals": {"map": all_of["intervals"][f"map_at_{depth}"]},
    }


__all__ = ["KS", "average_precision", "mean_average_precision", "recall_at_k", "retrieval_measures"]
