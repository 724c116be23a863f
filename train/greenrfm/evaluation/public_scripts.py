"""Retrieval as public scripts compute it, for comparing with published numbers and for nothing else.

Read in CT-CLIP, scripts/volume_to_volume.py and scripts/report_to_volume.py (commit 9172791). What differs from the
honest definition in `retrieval`:

* "MAP@K" is no average precision: it is the mean label Jaccard of a volume with its K most similar ones. The query
  counts itself, volumes without any finding are no candidates but are queries (which then score 0), the patient's
  other volumes and reconstructions count, and similarity is the cosine.
* Its list of results is never emptied between one K and the next, so what it writes for a K is the mean over all Ks
  up to that one: `as_written_at_k`.
* Recall@K of report -> volume has a query per volume, and of the volumes that share the report only the one in the same
  row is a hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.intervals import BOOTSTRAPS, Floats, bootstrap, describe
from greenrfm.evaluation.similar import label_overlap
from greenrfm.findings import State


def label_overlap_with_itself(
    images: Floats,
    states: NDArray[np.int8],
    ks: Sequence[int],
    patient_ids: Sequence[str],
    *,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Return CT-CLIP's "MAP@K" of latents (N, L) with states (N, F), where everything but PRESENT is 0.

    Returns `{"queries", "candidates", "overlap_at_1", "chance_overlap_at_1", "as_written_at_1", …, "intervals"}`;
    chance is drawing k candidates at random. None if no volume has a finding. Equal similarities rank by row, as there.
    """
    binary = (states == State.PRESENT).astype(np.int8)
    columns = np.flatnonzero(binary.any(axis=1))
    if not len(columns):
        return None
    images = np.asarray(images, dtype=np.float64)
    unit = images / np.maximum(np.linalg.norm(images, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    overlap = label_overlap(binary)[:, columns]
    order = np.argsort(-(unit @ unit[columns].T), axis=1, kind="stable")
    ranked = np.take_along_axis(overlap, order, axis=1)
    mean = np.cumsum(ranked, axis=1) / np.arange(1, len(columns) + 1)
    values = np.stack([mean[:, min(k, len(columns)) - 1] for k in ks], axis=1)
    found, chance = _with_intervals("overlap", values, ks, patient_ids, bootstraps, seed), float(overlap.mean())
    written = np.cumsum(values.mean(axis=0)) / np.arange(1, len(ks) + 1)
    return {
        "queries": len(images),
        "candidates": len(columns),
        **found,
        **{f"chance_overlap_at_{k}": chance for k in ks},
        **{f"as_written_at_{k}": float(value) for k, value in zip(ks, written, strict=True)},
    }


def recall_of_own_row(
    similarity: Floats,
    ks: Sequence[int],
    patient_ids: Sequence[str],
    *,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return CT-CLIP's recall@K of a square similarity (N texts, N volumes): only the volume in the text's own row.

    Returns `{"queries", "candidates", "recall_at_1", "chance_recall_at_1", …, "intervals"}`; chance is k / N. Equal
    similarities rank by row, as there.
    """
    similarity = np.asarray(similarity)
    count = len(similarity)
    own = np.diag(similarity)[:, None]
    earlier = np.arange(count)[None, :] < np.arange(count)[:, None]
    rank = (similarity > own).sum(axis=1) + ((similarity == own) & earlier).sum(axis=1)
    values = (rank[:, None] < np.array(ks)).astype(np.float64)
    return {
        "queries": count,
        "candidates": count,
        **_with_intervals("recall", values, ks, patient_ids, bootstraps, seed),
        **{f"chance_recall_at_{k}": min(1.0, k / count) for k in ks},
    }


def _with_intervals(
    name: str, values: Floats, ks: Sequence[int], patient_ids: Sequence[str], bootstraps: int, seed: int
) -> dict[str, Any]:
    def measure(weights: Floats) -> dict[str, Floats]:
        return {"all": weights @ values / weights.sum(axis=1, keepdims=True)}

    point, again = bootstrap(measure, patient_ids, bootstraps, seed)
    return describe(
        {f"{name}_at_{k}": float(point["all"][column]) for column, k in enumerate(ks)},
        {f"{name}_at_{k}": again["all"][:, column] for column, k in enumerate(ks)},
    )
