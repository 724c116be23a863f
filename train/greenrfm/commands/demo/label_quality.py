"""How good the labels are that the model learned from: against the reports, and against the volumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from greenrfm.evaluation import compare_labels
from greenrfm.findings import LabelTable, State


@dataclass(frozen=True)
class LabelQuality:
    """Three comparisons, each a result of `compare_labels` over the findings that occur in the cohort.

    Parameters
    ----------
    labeler
        Distilled against what the reports say; what either calls uncertain is not scored.
    reports
        What the reports say against what the volumes show: the ceiling for any labeler, because reports
        leave things out and hedge.
    labels
        Distilled against what the volumes show: the quality of what the model learns from.
    false_alarms
        How often each finding that occurs in no study was called present.

    Not mentioned counts as absent in all three, uncertain as absent in the last two, so that no entry is
    left out there.
    """

    labeler: dict[str, Any]
    reports: dict[str, Any]
    labels: dict[str, Any]
    false_alarms: dict[str, int]


def label_quality(
    distilled: LabelTable, said: LabelTable, truth: LabelTable, patients: Mapping[str, str]
) -> LabelQuality:
    """Compare the distilled labels with what the reports `said` and with the `truth` of the volumes, on all studies."""
    occurs = (truth.states == State.PRESENT).any(axis=0)
    keys = [key for key, some in zip(truth.keys, occurs, strict=True) if some]
    calls = (distilled.select(truth.keys).states == State.PRESENT).sum(axis=0)
    return LabelQuality(
        labeler=compare_labels(said.select(keys), distilled, uncertain="exclude", patient_ids=patients),
        reports=compare_labels(truth.select(keys), said, uncertain="absent", patient_ids=patients),
        labels=compare_labels(truth.select(keys), distilled, uncertain="absent", patient_ids=patients),
        false_alarms={truth.keys[index]: int(calls[index]) for index in np.flatnonzero(~occurs)},
    )
