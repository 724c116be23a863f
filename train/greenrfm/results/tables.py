"""The tables of a worklist: for people, and for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from greenrfm.files import write_text
from greenrfm.results.result import Result

# What makes a spreadsheet take a cell for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def guarded(cell: str) -> str:
    """Return a cell that a spreadsheet shows as text: an apostrophe stands before what would be a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV with every cell as it is, in one step."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_scores(results: Sequence[Result], keys: Sequence[str], path: Path, *, patients: bool = True) -> None:
    """Write scores.csv: a probability per study and finding, as `greenrfm evaluate scores` takes it.

    Ids stand as they are, because programs join this table to labels.csv by them. Withheld studies have no row.
    """
    scored = [result for result in results if result.scores]
    named = patients and bool(scored) and all(result.patient_id for result in scored)
    write_table(
        path,
        ["study_id", *(["patient_id"] if named else []), *keys],
        [
            [
                result.study_id,
                *([result.patient_id] if named else []),
                *(repr(score.probability) for score in result.scores),
            ]
            for result in scored
        ],
    )


def write_calls(results: Sequence[Result], path: Path) -> None:
    """Write calls.csv: a line per study and finding with probability, call and both thresholds; ids as they are."""
    write_table(
        path,
        ["study_id", "finding", "probability", "call", "present_from", "absent_below"],
        [
            [
                result.study_id,
                score.key,
                repr(score.probability),
                score.call,
                repr(score.present_from),
                repr(score.absent_below),
            ]
            for result in results
            for score in result.scores
        ],
    )
