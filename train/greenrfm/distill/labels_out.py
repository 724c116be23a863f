"""The journal as labels.csv, labels.evidence.jsonl and labels.failed.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from greenrfm.distill.evidence import NOTHING
from greenrfm.distill.evidence_file import evidence_path
from greenrfm.distill.journal import Journal
from greenrfm.distill.journal_lines import Entry, Header
from greenrfm.distill.labels_files import failures_path
from greenrfm.distill.overrides import Overrides, override_study, report_digest
from greenrfm.files import replacing
from greenrfm.findings import FindingSet, State


@dataclass
class Outputs:
    """What was written: the files, `counts` of studies by finding and state, and how the studies fared.

    `overridden` counts the findings a person decided, `stale` those decided on another wording of the
    report, which are not applied.
    """

    labels: Path
    evidence: Path
    failures: Path
    counts: dict[str, dict[str, int]]
    labelled: int = 0
    failed: int = 0
    unfinished: int = 0
    overridden: int = 0
    stale: int = 0


def write_outputs(
    journal: Journal, finding_set: FindingSet, studies: Iterable[tuple[str, str]], overrides: Overrides
) -> Outputs:
    """Write the three files beside each other from the journal, in the order of `studies`, each in one step.

    labels.csv has a row per labelled study and none for a failed or unfinished one: an empty cell means
    that the report was read and does not mention the finding. labels.evidence.jsonl has a line per finding
    that a report mentions or a person decided. labels.failed.csv says why the failed ones did, and is
    removed if none did. Studies are (study_id, report); memory does not grow with their number.
    """
    assert journal.header is not None
    labels, keys = journal.out, finding_set.keys
    evidence, failures = evidence_path(labels), failures_path(labels)
    counts = {key: {state.name.lower(): 0 for state in State} for key in keys}
    outputs = Outputs(labels, evidence, failures, counts)
    with ExitStack() as stack:
        tables, beside, failed = (_writing(stack, path) for path in (labels, evidence, failures))
        table, failure_table = (csv.writer(stream, lineterminator="\n") for stream in (tables, failed))
        table.writerow(["study_id", *keys])
        failure_table.writerow(["study_id", "reason"])
        for study, report in studies:
            entry = journal.read(study, report_digest(report))
            is_read = entry is not None and not entry.failed
            states = {key: entry.findings.get(key, NOTHING).state for key in keys} if entry and is_read else None
            rows = evidence_rows(entry, report, journal.header) if entry else {}
            decided = overrides.of(study, report)
            outputs.overridden += len(decided)
            outputs.stale += len(overrides.stale(study, report))
            final = override_study(study, keys, states, rows, decided)
            if final is not None:
                outputs.labelled += 1
                table.writerow([study, *(state.cell for state in final[0].values())])
                for key, state in final[0].items():
                    counts[key][state.name.lower()] += 1
                beside.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in final[1])
            elif entry is not None:
                outputs.failed += 1
                failure_table.writerow([study, entry.failed])
            else:
                outputs.unfinished += 1
    if not outputs.failed:
        failures.unlink()
    return outputs


def evidence_rows(entry: Entry, report: str, header: Header) -> dict[str, dict[str, Any]]:
    """Return the study's rows of labels.evidence.jsonl by finding, as the labeler gave them."""
    rows: dict[str, dict[str, Any]] = {}
    for key, evidence in entry.findings.items():
        rows[key] = {
            "study_id": entry.study_id,
            "finding": key,
            "state": evidence.state.name.lower(),
            "start": evidence.start,
            "end": evidence.end,
            "sentence": report[evidence.start : evidence.end],
            "labeler": header.labeler,
            "model": header.model,
            "version": header.version,
            "rule": evidence.rule,
            "date": entry.date,
        }
        if evidence.votes:
            rows[key]["votes"] = {name: state.name.lower() for name, state in evidence.votes}
    return rows


def _writing(stack: ExitStack, path: Path) -> TextIO:
    temporary = stack.enter_context(replacing(path))
    return stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
