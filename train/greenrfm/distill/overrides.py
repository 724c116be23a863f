"""What a person decided against (or with) the labeler, kept beside the labels so that it survives every new run."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings import FindingSet, State
from greenrfm.findings.sets import nearest

COLUMNS = ("study_id", "finding", "state", "reviewer", "date", "report")
_STATES = {state.name.lower(): state for state in State}


@dataclass(frozen=True)
class Override:
    """A person's word on one finding of one report; `date` is ISO 8601 in UTC, to the second."""

    state: State
    reviewer: str
    date: str


@dataclass(frozen=True)
class Decision:
    """A line of overrides.csv: whom an override concerns and the digest of the report that was read for it."""

    study_id: str
    finding: str
    override: Override
    report: str


class Overrides:
    """All decisions ever made on one table of labels.

    Of the decisions on one finding of one report the newest holds (of the same second, the later line);
    the others stay as history. A decision holds only for the very report it was made on.
    """

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        """Keep each decision once, in the order given."""
        self.decisions = tuple(dict.fromkeys(decisions))
        self._of_study: dict[str, list[Decision]] = {}
        # Stable: of one second, the later line comes last and wins.
        for decision in sorted(self.decisions, key=lambda each: datetime.fromisoformat(each.override.date)):
            self._of_study.setdefault(decision.study_id, []).append(decision)

    def __len__(self) -> int:
        """Return how many decisions there are, history included."""
        return len(self.decisions)

    @property
    def study_ids(self) -> tuple[str, ...]:
        """Return the studies on which something was decided."""
        return tuple(self._of_study)

    def of(self, study_id: str, report: str) -> dict[str, Override]:
        """Return what holds for this study, by finding key; decisions on another wording of the report do not."""
        decisions = self._of_study.get(study_id, ())
        if not decisions:
            return {}
        digest = report_digest(report)
        return {each.finding: each.override for each in decisions if each.report == digest}

    def stale(self, study_id: str, report: str) -> dict[str, Override]:
        """Return the newest decision on each finding for which all were made on another wording of the report."""
        held = self.of(study_id, report)
        decisions = self._of_study.get(study_id, ())
        return {each.finding: each.override for each in decisions if each.finding not in held}

    def write(self, path: Path) -> None:
        """Write overrides.csv in one step."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for each in self.decisions:
            override = each.override
            state = override.state.name.lower()
            writer.writerow([each.study_id, each.finding, state, override.reviewer, override.date, each.report])
        write_text(path, text.getvalue())


def report_digest(report: str) -> str:
    """Return 16 hexadecimal digits of the report's SHA-256: enough to see that it changed, nothing to read."""
    return hashlib.sha256(report.encode()).hexdigest()[:16]


def overrides_path(labels: Path) -> Path:
    """Return where the decisions on these labels are kept: labels.csv → labels.overrides.csv."""
    return labels.with_suffix(".overrides.csv")


def load(labels: Path, finding_set: FindingSet) -> Overrides:
    """Return the decisions kept beside `labels`, none if there is no such file; raises what `read` raises."""
    path = overrides_path(labels)
    return read(path, finding_set) if path.exists() else Overrides()


def read(path: Path, finding_set: FindingSet) -> Overrides:
    """Read overrides.csv as the review page saves it (UTF-8, commas).

    Raises UserError for a file that cannot be read, other columns, findings that the set lacks, states
    and dates that are none, and a decision without a reviewer.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, line) for line in reader if line]
    except FileNotFoundError as error:
        raise UserError(f"overrides {path} do not exist; save them from the review page") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"overrides {path} cannot be read as a CSV in UTF-8 ({type(error).__name__})") from error
    if not lines or tuple(lines[0][1]) != COLUMNS:
        raise UserError(f"overrides {path} must begin with a line '{','.join(COLUMNS)}'; save them from the page again")
    return Overrides(_decision(line, finding_set, f"overrides {path}, line {number}") for number, line in lines[1:])


def override_study(
    study_id: str,
    keys: Sequence[str],
    states: Mapping[str, State] | None,
    rows: Mapping[str, Mapping[str, Any]],
    overrides: Mapping[str, Override],
) -> tuple[dict[str, State], list[dict[str, Any]]] | None:
    """Return one study's states and its rows of labels.evidence.jsonl with a person's overrides applied.

    Parameters
    ----------
    study_id, keys
        The study and all findings of the set.
    states
        What the labeler said; None if it could not label the report.
    rows
        The labeler's own rows by finding, without `override`, for the findings it mentions.
    overrides
        What `Overrides.of` returns.

    Returns
    -------
    None if there is no label: the labeler failed and a person has not decided every finding (what
    nobody looked at must not pass for "not mentioned"). In an overridden row `state` is the person's
    and `override` holds state, by, date and `was`, the labeler's state (None if it had failed); the
    sentence and rule stay the labeler's. Where it had none, the row names no labeler and quotes nothing.

    """
    if states is None and any(key not in overrides for key in keys):
        return None
    final: dict[str, State] = {}
    evidence: list[dict[str, Any]] = []
    for key in keys:
        override = overrides.get(key)
        was = None if states is None else states[key]
        if override is None:
            assert was is not None
            final[key] = was
            if key in rows:
                evidence.append(dict(rows[key]))
            continue
        final[key] = override.state
        row = dict(rows[key]) if key in rows else _row_of_nobody(study_id, key)
        word = override.state.name.lower()
        row |= {"state": word, "date": row["date"] or override.date[:10]}
        row["override"] = {
            "state": word,
            "by": override.reviewer,
            "date": override.date,
            "was": None if was is None else was.name.lower(),
        }
        evidence.append(row)
    return final, evidence


def _row_of_nobody(study_id: str, finding: str) -> dict[str, Any]:
    row: dict[str, Any] = {"study_id": study_id, "finding": finding, "state": "", "start": 0, "end": 0}
    return row | dict.fromkeys(("sentence", "labeler", "model", "version", "rule", "date"), "")


def _decision(line: list[str], finding_set: FindingSet, place: str) -> Decision:
    if len(line) != len(COLUMNS):
        raise UserError(f"{place}: {len(line)} cells, the header has {len(COLUMNS)}")
    study_id, finding, state, reviewer, date, report = (cell.strip() for cell in line)
    if finding not in finding_set.keys:
        known = f"finding set {finding_set.name}"
        raise UserError(f"{place}: '{finding}' is no finding of {known}{nearest(finding, finding_set.keys)}")
    if state not in _STATES:
        raise UserError(f"{place}: a state is one of {', '.join(_STATES)}")
    if not study_id or not reviewer or not report:
        raise UserError(f"{place}: study_id, reviewer and report must be filled; save them from the page again")
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise UserError(f"{place}: the date must be ISO 8601 with its zone, such as 2025-01-31T12:00:00Z")
    return Decision(study_id, finding, Override(_STATES[state], reviewer, date), report)
