"""A cohort's reports to labels.csv and labels.evidence.jsonl."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from greenrfm.distill.evidence import Labeler, Unlabelled
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings import LabelTable, State


def label_reports(
    labeler: Labeler,
    reports: Sequence[tuple[str, str]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LabelTable, list[dict[str, Any]]]:
    """Label reports and keep what each label rests on.

    Parameters
    ----------
    labeler
        Gives the states and the finding set.
    reports
        (study_id, report) of each study; an empty report mentions nothing.
    progress
        Called with (done, total) after every report.

    Returns
    -------
    The labels, one row per study in the given order, and one dictionary per finding mentioned:
    study_id, finding, state (present, absent, uncertain), start and end of the sentence in the
    report, the sentence, labeler, model, version, rule, date (ISO, UTC).

    Raises UserError naming the study whose report cannot be labelled; `distill_reports` goes on without it.

    """
    keys = labeler.finding_set.keys
    states = np.full((len(reports), len(keys)), State.NOT_MENTIONED, np.int8)
    date = datetime.now(UTC).date().isoformat()
    rows: list[dict[str, Any]] = []
    for number, (study, report) in enumerate(reports):
        try:
            findings = labeler.label(report).findings
        except Unlabelled as error:
            raise UserError(f"the report of study {study} cannot be labelled: {error}") from error
        for column, (key, evidence) in enumerate(findings.items()):
            states[number, column] = evidence.state
            if evidence.state is State.NOT_MENTIONED:
                continue
            rows.append(
                {
                    "study_id": study,
                    "finding": key,
                    "state": evidence.state.name.lower(),
                    "start": evidence.start,
                    "end": evidence.end,
                    "sentence": report[evidence.start : evidence.end],
                    "labeler": labeler.name,
                    "model": labeler.model,
                    "version": labeler.version,
                    "rule": evidence.rule,
                    "date": date,
                }
            )
        if progress is not None:
            progress(number + 1, len(reports))
    return LabelTable(tuple(study for study, _ in reports), keys, states), rows


def write_evidence(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write labels.evidence.jsonl, one JSON object per line, in one step.

    The file quotes report sentences: it is the department's own and stays beside its labels.
    """
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
