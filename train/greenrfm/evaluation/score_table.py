"""scores.csv, a line per study, or calls.csv, a line per study and finding: probabilities and calls."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings import State
from greenrfm.findings.sets import KEY, nearest

CALLS = {"present": State.PRESENT, "absent": State.ABSENT, "indeterminate": State.UNCERTAIN}
# Columns that say whom a row belongs to; `accession` does where no `report_id` does.
_ABOUT = ("patient_id", "report_id", "accession")


@dataclass(frozen=True)
class ScoreTable:
    """Probabilities float64 (studies, findings) in [0, 1], with what else the file has; a row is one volume.

    `patient_ids` and `report_ids` are empty if the file has none, `calls` is None; it is int8 (studies, findings) of
    PRESENT, ABSENT and UNCERTAIN (indeterminate).
    """

    study_ids: tuple[str, ...]
    keys: tuple[str, ...]
    probabilities: NDArray[np.float64]
    patient_ids: tuple[str, ...] = ()
    report_ids: tuple[str, ...] = ()
    calls: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        """Check that the shape fits the names."""
        shape = (len(self.study_ids), len(self.keys))
        if self.probabilities.shape != shape:
            raise ValueError(f"probabilities {self.probabilities.shape} for {len(self.study_ids)} × {len(self.keys)}")
        if self.calls is not None and self.calls.shape != shape:
            raise ValueError(f"calls {self.calls.shape} for {len(self.study_ids)} × {len(self.keys)}")
        for name, ids in (("patient", self.patient_ids), ("report", self.report_ids)):
            if len(ids) not in (0, len(self.study_ids)):
                raise ValueError(f"{len(ids)} {name} ids for {len(self.study_ids)} studies")

    def rows(self, chosen: Sequence[int]) -> ScoreTable:
        """Return the table of these rows."""
        take = list(chosen)
        return replace(
            self,
            study_ids=tuple(self.study_ids[row] for row in take),
            probabilities=self.probabilities[take],
            patient_ids=tuple(self.patient_ids[row] for row in take if self.patient_ids),
            report_ids=tuple(self.report_ids[row] for row in take if self.report_ids),
            calls=None if self.calls is None else self.calls[take],
        )

    def write(self, path: Path) -> None:
        """Write scores.csv without calls in one step, with every digit, so that anyone recomputes the same numbers."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        about = {"patient_id": self.patient_ids, "report_id": self.report_ids}
        about = {name: ids for name, ids in about.items() if ids}
        writer.writerow(["study_id", *about, *self.keys])
        for row, study in enumerate(self.study_ids):
            values = (repr(float(value)) for value in self.probabilities[row])
            writer.writerow([study, *(ids[row] for ids in about.values()), *values])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: Path, keys: Sequence[str] | None = None) -> ScoreTable:
        """Read scores.csv or calls.csv, told apart by their header.

        scores.csv has `study_id`, a column per finding key, and optionally `patient_id` and `report_id` or
        `accession`: the same for volumes that share a report, empty where a study has none. calls.csv has `study_id`,
        `finding`, `probability`, `call` (present, absent or indeterminate) and any of those three; other columns are
        not used. With `keys`, a finding outside them is an error. Raises UserError for a missing or empty file,
        unknown or repeated columns, repeated or empty ids, and cells that are no number from 0 to 1 or no call.
        """
        header, lines = _lines(path)
        if header[1:2] == ["finding"]:
            return _long(header, lines, keys, path)
        columns = _finding_columns(header, keys, path)
        names = tuple(header[column] for column in columns)
        studies: dict[str, None] = {}
        about: dict[str, list[str]] = {name: [] for name in _ABOUT if name in header}
        values: list[list[float]] = []
        for number, line in lines:
            study = line[0]
            if not study.strip():
                raise UserError(f"scores {path}, line {number}: study_id is empty; name the study")
            if study in studies:
                raise UserError(f"scores {path} has study {study} twice (line {number}); keep one row")
            studies[study] = None
            for name, cells in about.items():
                cells.append(line[header.index(name)].strip())
            if "patient_id" in about and not about["patient_id"][-1]:
                raise UserError(f"scores {path}, line {number}: patient_id is empty; fill or remove the column")
            values.append([_probability(line[column], path, number, header[column]) for column in columns])
        return cls(
            tuple(studies),
            names,
            np.array(values, dtype=np.float64),
            tuple(about.get("patient_id", ())),
            tuple(about.get("report_id", about.get("accession", ()))),
        )


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the other lines that are not empty, each with its number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"scores {path} cannot be read as a CSV in UTF-8 ({type(error).__name__})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if not header or header[0] != "study_id":
        raise UserError(f"scores {path} must begin with a line 'study_id,<finding>,…'")
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if line]
    for number, line in rows:
        if len(line) != len(header):
            raise UserError(f"scores {path}, line {number}: {len(line)} cells, the header has {len(header)}")
    if not rows:
        raise UserError(f"scores {path} has no study; write one line per study below the header")
    return header, rows


def _long(
    header: Sequence[str], lines: Sequence[tuple[int, list[str]]], keys: Sequence[str] | None, path: Path
) -> ScoreTable:
    """Return calls.csv as a table: every study must have every finding once."""
    for name in ("probability", "call"):
        if name not in header:
            raise UserError(f"calls {path} has no column '{name}'; take the calls.csv that greenrfm read writes")
    column = {name: header.index(name) for name in header}
    findings: dict[str, None] = {}
    about: dict[str, dict[str, str]] = {}
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for number, line in lines:
        study, key = line[0], line[column["finding"]]
        if not study.strip():
            raise UserError(f"scores {path}, line {number}: study_id is empty; name the study")
        if keys is not None and key not in keys:
            raise UserError(f"scores {path}, line {number}: unknown finding '{key}'{nearest(key, tuple(keys))}")
        if (study, key) in found:
            raise UserError(f"scores {path} has study {study} twice for '{key}' (line {number}); keep one row")
        own = {name: line[column[name]].strip() for name in _ABOUT if name in column}
        if about.setdefault(study, own) != own or own.get("patient_id") == "":
            raise UserError(f"scores {path}, line {number}: study {study} must have one patient and one report")
        findings[key] = None
        probability = _probability(line[column["probability"]], path, number, "probability")
        found[study, key] = probability, _call(line[column["call"]], path, number)
    missing = [(study, key) for study in about for key in findings if (study, key) not in found]
    if missing:
        raise UserError(f"calls {path} has no line for study {missing[0][0]} and '{missing[0][1]}'; add it")
    table = np.array([[found[study, key] for key in findings] for study in about])

    def ids(name: str) -> tuple[str, ...]:
        return tuple(own[name] for own in about.values()) if name in column else ()

    return ScoreTable(
        tuple(about),
        tuple(findings),
        table[..., 0],
        ids("patient_id"),
        ids("report_id") or ids("accession"),
        table[..., 1].astype(np.int8),
    )


def _finding_columns(header: Sequence[str], keys: Sequence[str] | None, path: Path) -> list[int]:
    """Return the columns that hold a finding; raise UserError for one that is unknown or there twice."""
    for name in header:
        if header.count(name) > 1:
            raise UserError(f"scores {path} has the column '{name}' twice; remove one")
    columns = [column for column, name in enumerate(header) if column and name not in _ABOUT]
    for name in (header[column] for column in columns):
        if keys is not None and name not in keys:
            raise UserError(f"scores {path} has an unknown column '{name}'{nearest(name, tuple(keys))}")
        if not KEY.fullmatch(name):
            raise UserError(f"scores {path}: column '{name}' is no finding key (lower case, digits, underscores)")
    if not columns:
        raise UserError(f"scores {path} has no column with a finding; add one per finding key")
    return columns


def _probability(cell: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise UserError(f"scores {path}, line {line}, column '{column}': not a number from 0 to 1; write a probability")
    return value


def _call(cell: str, path: Path, line: int) -> int:
    try:
        return int(CALLS[cell.strip()])
    except KeyError:
        raise UserError(f"scores {path}, line {line}, column 'call': a call is one of {', '.join(CALLS)}") from None
