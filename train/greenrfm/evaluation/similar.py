"""Do similar images share findings: image -> image retrieval judged by labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.intervals import (
    BOOTSTRAPS,
    Floats,
    Measures,
    bootstrap,
    describe,
    describe_findings,
    describe_macro,
)
from greenrfm.evaluation.ties import average_precision, checked, expected_gain, weighted_mean
from greenrfm.findings import State


def label_overlap(states: NDArray[np.int8]) -> Floats:
    """Return the Jaccard overlap (N, N) of the present findings of each two studies, from states (N, F).

    It counts the findings that are known (present or absent) in both; it is 1 if none of them is present in either.
    """
    present, known = (states == State.PRESENT).astype(np.float64), (states >= 0).astype(np.float64)
    both = present @ present.T
    either = present @ known.T + known @ present.T - both
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


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
    similarity = checked(similarity, len(states), len(states))
    if states.shape != (len(patient_ids), len(keys)):
        raise ValueError(f"states {states.shape} for {len(patient_ids)} studies and {len(keys)} findings")
    patients = np.asarray(patient_ids, dtype=str)
    other = patients[:, None] != patients[None, :]
    names = ["map", "chance_map", *(f"{kind}precision_at_{k}" for k in ks for kind in ("", "chance_"))]
    values = np.full((len(names), len(states), len(keys)), np.nan)
    overlap = label_overlap(states)
    shared = np.full((2 * len(ks), len(states)), np.nan)
    present, known = states == State.PRESENT, states >= 0
    for row in range(len(states)):
        for column in np.flatnonzero(present[row]).tolist():
            allowed = other[row] & known[:, column]
            scores, right = similarity[row, allowed], present[allowed, column]
            if not right.any():
                continue
            mean_gain = np.cumsum(expected_gain(scores, right)) / np.arange(1, len(right) + 1)
            values[:2, row, column] = average_precision(scores, right), average_precision(0 * scores, right)
            values[2::2, row, column] = [mean_gain[min(k, len(right)) - 1] for k in ks]
            values[3::2, row, column] = right.mean()
        if other[row].any():
            gain = overlap[row, other[row]]
            mean_gain = np.cumsum(expected_gain(similarity[row, other[row]], gain)) / np.arange(1, len(gain) + 1)
            shared[0::2, row] = [mean_gain[min(k, len(gain)) - 1] for k in ks]
            shared[1::2, row] = gain.mean()

    def measure(weights: Floats) -> Measures:
        return {name: weighted_mean(weights, values[index]) for index, name in enumerate(names)}

    point, replicates = bootstrap(measure, patient_ids, bootstraps, seed)
    findings = describe_findings(keys, point, replicates)
    for column, key in enumerate(keys):
        findings[key]["queries"] = int((~np.isnan(values[0, :, column])).sum())
    labels, labels_again = bootstrap(lambda w: {"all": weighted_mean(w, shared.T)}, patient_ids, bootstraps, seed)
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
