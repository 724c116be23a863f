"""labels.csv and what lies beside it, read together, one study at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from greenrfm.cohort import Cohort
from greenrfm.distill.evidence_file import EvidenceFile, Row, evidence_path
from greenrfm.distill.overrides import overrides_path
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings import FindingSet, LabelTable, State


class Labels:
    """labels.csv, its evidence, failures and overrides, study by study; a context manager.

    Raises UserError for files that cannot be read or do not fit each other.
    """

    def __init__(self, path: Path, cohort: Cohort, finding_set: FindingSet) -> None:
        """Read what lies beside labels.csv; `finding_set` must be the one it was made with."""
        self.path, self.finding_set, self.cohort = path, finding_set, cohort
        self.table = LabelTable.read(path, finding_set.keys)
        known = {study.study_id for study in cohort}
        for study in self.table.study_ids:
            if study not in known:
                raise UserError(f"labels {path} have study {study}, cohort {cohort.path} has not; name its own cohort")
        self.failures = read_failures(failures_path(path))
        self.evidence = EvidenceFile(evidence_path(path))
        self._row_of = {study: row for row, study in enumerate(self.table.study_ids)}

    def __enter__(self) -> Self:
        """Return the labels."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the evidence."""
        self.evidence.close()

    def failure(self, study_id: str) -> str:
        """Return why the labeler has no label for this study, or nothing if it has not come to it yet."""
        if study_id not in self.failures and study_id in self._row_of:
            return "a person labelled it by hand; greenrfm distill tries it again"
        return self.failures.get(study_id, "")

    def said(self, study_id: str) -> tuple[dict[str, State] | None, dict[str, Row]]:
        """Return the labeler's own states and rows, overrides undone; None if it has not labelled the study."""
        if study_id not in self._row_of:
            return None, {}
        values = self.table.states[self._row_of[study_id]]
        states = {key: State(int(value)) for key, value in zip(self.finding_set.keys, values, strict=True)}
        rows: dict[str, Row] = {}
        explained: set[str] = set()
        for row in self.evidence.of(study_id):
            key, override = row["finding"], row.pop("override", None)
            # Killed between the two files, an override may stand in the evidence alone: that is no fault.
            if key not in states or (override is None and row["state"] != states[key].name.lower()):
                raise self._do_not_fit(study_id)
            explained.add(key)
            if override is not None:
                if override["was"] is None:
                    return None, {}
                row["state"] = override["was"]
                states[key] = State[override["was"].upper()]
            if row["labeler"]:
                rows[key] = row
        # A cell that someone filled in by hand is not the labeler's word.
        if any(state is not State.NOT_MENTIONED and key not in explained for key, state in states.items()):
            raise self._do_not_fit(study_id)
        return states, rows

    def _do_not_fit(self, study_id: str) -> UserError:
        return UserError(
            f"labels {self.path} and their evidence do not fit (study {study_id}); "
            "run greenrfm distill again, and change labels by review"
        )


def check_outputs(labels: Path, cohort: Path, *others: Path) -> None:
    """Raise UserError if labels.csv, a file written beside it or one of `others` is the cohort itself.

    Two paths may be one file by a link, or by letters that the disk does not tell apart.
    """
    beside = (evidence_path, failures_path, overrides_path)
    journal = (labels.with_suffix(suffix) for suffix in (".journal.jsonl", ".journal.lock"))
    for path in (labels, *(place(labels) for place in beside), *journal, *others):
        if path.exists() and cohort.exists() and path.samefile(cohort):
            raise UserError(f"{path} is the cohort itself and would be overwritten; name another file to write")


def failures_path(labels: Path) -> Path:
    """Return where the studies that could not be labelled are listed: labels.csv → labels.failed.csv."""
    return labels.with_suffix(".failed.csv")


def write_failures(path: Path, reasons: Mapping[str, str]) -> None:
    """Write the reason by study in one step; without any, there is no such file."""
    if not reasons:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("study_id", "reason"), *reasons.items()])
    write_text(path, text.getvalue())


def read_failures(path: Path) -> dict[str, str]:
    """Return the reason by study, none if there is no such file; raises UserError if it is no such table."""
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"failures {path} cannot be read as a CSV in UTF-8 ({type(error).__name__})") from error
    if not lines or lines[0][:2] != ["study_id", "reason"] or any(len(line) < 2 for line in lines):
        raise UserError(f"failures {path} must begin with a line 'study_id,reason'; run greenrfm distill again")
    return {line[0]: line[1] or "no reason given" for line in lines[1:]}
