"""The evaluation of scores.csv against labels.csv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.cohort import Cohort
from greenrfm.errors import UserError
from greenrfm.evaluation.calibration import pooled_calibration
from greenrfm.evaluation.classification import STATED, evaluate_classification
from greenrfm.evaluation.intervals import BOOTSTRAPS
from greenrfm.evaluation.operating import Operating
from greenrfm.evaluation.reconstructions import Unit, volumes_from
from greenrfm.evaluation.score_table import ScoreTable
from greenrfm.findings import LabelTable
from greenrfm.progress import Progress, silent

FALLBACK = 0.5


@dataclass(frozen=True)
class Pairs:
    """Scores beside what is right, row by row.

    `states` (N, F) belong to the rows and columns of `scores`, `patients` to its rows (None if not known); `facts`
    says what was counted.
    """

    scores: ScoreTable
    states: NDArray[np.int8]
    patients: tuple[str, ...] | None
    facts: Mapping[str, Any]


def match(scores_path: Path, labels_path: Path, unit: Unit = "volume", cohort: Cohort | None = None) -> Pairs:
    """Return the scores with their labels.

    Parameters
    ----------
    unit : "volume" takes every row; "report" the first row of each report, so that reconstructions of one scan
        count once.
    cohort : says which patient and report a volume belongs to, where scores.csv does not.

    Raises UserError if a file is at fault, if a scored finding has no label column or a scored study no label row, or
    if reports are wanted and not known.
    """
    labels = LabelTable.read(labels_path)
    scores = ScoreTable.read(scores_path, labels.keys)
    unlabelled = set(scores.study_ids).difference(labels.study_ids)
    if unlabelled:
        raise UserError(
            f"scores {scores_path} has {len(unlabelled)} studies without a row in {labels_path}, "
            f"first {min(unlabelled)}; label them or remove them"
        )
    volumes = volumes_from(scores.study_ids, scores.patient_ids, scores.report_ids, cohort)
    rows = list(range(len(scores.study_ids))) if unit == "volume" else volumes.first_of_each_report()
    patients = None if volumes.patients is None else tuple(volumes.patients[row] for row in rows)
    facts = {
        "unit": unit,
        "volumes": len(scores.study_ids),
        "reports": None if volumes.reports is None else len(set(volumes.reports)),
        "not_scored": [key for key in labels.keys if key not in scores.keys],
        "labels_without_scores": len(set(labels.study_ids).difference(scores.study_ids)),
    }
    scores = scores.rows(rows)
    return Pairs(scores, labels.select(scores.keys).rows(scores.study_ids), patients, facts)


def evaluate_pairs(
    pairs: Pairs,
    *,
    thresholds: float | Mapping[str, float] | Operating | None = None,
    specificity: float = STATED,
    sensitivity: float = STATED,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return how well scores agree with labels: `{"n", "macro": {"auroc", …}, "findings": {…}, …}`.

    `thresholds` are given, never chosen from these labels; without them the file's own calls are judged, and without
    those a finding counts as present from probability 0.5. `thresholds_from` says which.

    The shape is that of `evaluate_classification`, with `pooled` (`pooled_calibration`), `unit`, `volumes` (rows of the
    file), `reports` (None if not known), `not_scored` (labelled findings without a score column) and
    `labels_without_scores` (how many labelled studies have no row). Raises UserError if a threshold is missing.
    """
    scores, operating = pairs.scores, _operating(thresholds, pairs.scores)
    result = evaluate_classification(
        scores.probabilities,
        pairs.states,
        scores.keys,
        patient_ids=pairs.patients,
        thresholds=FALLBACK if operating is None else operating.present,
        absent_below=None if operating is None else operating.absent,
        calls=scores.calls if operating is None else None,
        specificity=specificity,
        sensitivity=sensitivity,
        bootstraps=bootstraps,
        seed=seed,
        progress=progress,
    )
    own = f"probability {FALLBACK}" if scores.calls is None else "the calls in the scores file"
    return {
        **result,
        "pooled": pooled_calibration(
            scores.probabilities, pairs.states, pairs.patients, bootstraps=bootstraps, seed=seed, progress=progress
        ),
        "thresholds_from": own if operating is None else operating.source,
        **pairs.facts,
    }


def evaluate_scores(
    scores_path: Path,
    labels_path: Path,
    *,
    thresholds: float | Mapping[str, float] | Operating | None = None,
    unit: Unit = "volume",
    cohort: Cohort | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return `evaluate_pairs` of `match`: how well scores.csv agrees with labels.csv."""
    pairs = match(scores_path, labels_path, unit, cohort)
    return evaluate_pairs(pairs, thresholds=thresholds, bootstraps=bootstraps, seed=seed)


def _operating(thresholds: float | Mapping[str, float] | Operating | None, scores: ScoreTable) -> Operating | None:
    """Return the thresholds of the scored findings, None if the file's own calls or 0.5 decide."""
    if thresholds is None:
        return None
    if isinstance(thresholds, Operating):
        return thresholds.of(scores.keys)
    if isinstance(thresholds, Mapping):
        return Operating(thresholds, None, "given").of(scores.keys)
    return Operating(dict.fromkeys(scores.keys, float(thresholds)), None, f"probability {thresholds:g}")
