"""scores.csv: a probability per study and finding; and its evaluation against labels.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.evaluation.classification import evaluate_classification
from greenrfm.evaluation.intervals import BOOTSTRAPS
from greenrfm.files import write_text
from greenrfm.findings import LabelTable
from greenrfm.findings.sets import KEY, nearest


@dataclass(frozen=True)
class ScoreTable:
    """Probabilities float64 (studies, findings) in [0, 1]; `patient_ids` is empty if the file has none."""

    study_ids: tuple[str, ...]
    keys: tuple[str, ...]
    probabilities: NDArray[np.float64]
    patient_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the shape fits the names."""
        if self.probabilities.shape != (len(self.study_ids), len(self.keys)):
            raise ValueError(f"probabilities {self.probabilities.shape} for {len(self.study_ids)} × {len(self.keys)}")
        if len(self.patient_ids) not in (0, len(self.study_ids)):
            raise ValueError(f"{len(self.patient_ids)} patient ids for {len(self.study_ids)} studies")

    def write(self, path: Path) -> None:
        """Write scores.csv in one step, with every digit, so that anyone recomputes the same numbers."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["study_id", *(["patient_id"] if self.patient_ids else []), *self.keys])
        for row, study in enumerate(self.study_ids):
            names = [study, self.patient_ids[row]] if self.patient_ids else [study]
            writer.writerow([*names, *(repr(float(value)) for value in self.probabilities[row])])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: Path, keys: Sequence[str] | None = None) -> ScoreTable:
        """Read scores.csv: `study_id`, optionally `patient_id`, and a column per finding key.

        With `keys`, a column outside them is an error. Raises UserError for a missing or empty file,
        unknown or repeated columns, repeated or empty ids, and cells that are no number from 0 to 1.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                lines = list(csv.reader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"scores {path} cannot be read as a CSV in UTF-8 ({type(error).__name__})") from error
        header = [name.strip() for name in lines[0]] if lines else []
        if not header or header[0] != "study_id":
            raise UserError(f"scores {path} must begin with a line 'study_id,<finding>,…'")
        columns = _finding_columns(header, keys, path)
        patient_column = header.index("patient_id") if "patient_id" in header else None
        studies: dict[str, None] = {}
        patients: list[str] = []
        values: list[list[float]] = []
        for number, line in enumerate(lines[1:], start=2):
            if not line:
                continue
            if len(line) != len(header):
                raise UserError(f"scores {path}, line {number}: {len(line)} cells, the header has {len(header)}")
            study = line[0]
            if not study.strip():
                raise UserError(f"scores {path}, line {number}: study_id is empty; name the study")
            if study in studies:
                raise UserError(f"scores {path} has study {study} twice (line {number}); keep one row")
            studies[study] = None
            if patient_column is not None:
                patients.append(line[patient_column].strip())
                if not patients[-1]:
                    raise UserError(f"scores {path}, line {number}: patient_id is empty; fill or remove the column")
            values.append([_probability(line[column], path, number, header[column]) for column in columns])
        if not studies:
            raise UserError(f"scores {path} has no study; write one line per study below the header")
        names = tuple(header[column] for column in columns)
        return cls(tuple(studies), names, np.array(values, dtype=np.float64), tuple(patients))


def evaluate_scores(
    scores_path: Path,
    labels_path: Path,
    *,
    thresholds: float | Mapping[str, float] = 0.5,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how well scores.csv agrees with labels.csv: `{"n", "macro": {"auroc", …}, "findings": {…}, …}`.

    The shape is that of `evaluate_classification`, with `not_scored` (labelled findings without a score
    column) and `labels_without_scores` (how many labelled studies have no row). Thresholds are given,
    never chosen from these labels. Raises UserError if a file is at fault, if a scored finding has no
    label column or a scored study no label row, or if a threshold is missing.
    """
    labels = LabelTable.read(labels_path)
    scores = ScoreTable.read(scores_path, labels.keys)
    unlabelled = set(scores.study_ids).difference(labels.study_ids)
    if unlabelled:
        raise UserError(
            f"scores {scores_path} has {len(unlabelled)} studies without a row in {labels_path}, "
            f"first {min(unlabelled)}; label them or remove them"
        )
    if isinstance(thresholds, Mapping):
        missing = [key for key in scores.keys if key not in thresholds]
        if missing:
            raise UserError(f"there is no threshold for '{missing[0]}'{nearest(missing[0], tuple(thresholds))}")
    result = evaluate_classification(
        scores.probabilities,
        labels.select(scores.keys).rows(scores.study_ids),
        scores.keys,
        patient_ids=scores.patient_ids or None,
        thresholds=thresholds,
        bootstraps=bootstraps,
        seed=seed,
    )
    result["not_scored"] = [key for key in labels.keys if key not in scores.keys]
    result["labels_without_scores"] = len(set(labels.study_ids).difference(scores.study_ids))
    return result


def _finding_columns(header: Sequence[str], keys: Sequence[str] | None, path: Path) -> list[int]:
    """Return the columns that hold a finding; raise UserError for one that is unknown or there twice."""
    for name in header:
        if header.count(name) > 1:
            raise UserError(f"scores {path} has the column '{name}' twice; remove one")
    columns = [column for column, name in enumerate(header) if column and name != "patient_id"]
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
