"""labels.csv: a state per study and finding."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings.sets import nearest
from greenrfm.findings.state import State


@dataclass(frozen=True)
class LabelTable:
    """States of `keys` for `study_ids`; `states` is int8 of shape (studies, findings), see `State`."""

    study_ids: tuple[str, ...]
    keys: tuple[str, ...]
    states: NDArray[np.int8]

    def __post_init__(self) -> None:
        """Check that the shape fits the names."""
        if self.states.shape != (len(self.study_ids), len(self.keys)):
            raise ValueError(f"states {self.states.shape} for {len(self.study_ids)} × {len(self.keys)}")

    def rows(self, study_ids: Iterable[str]) -> NDArray[np.int8]:
        """Return the states of these studies, in their order; raise UserError for one without a row."""
        index = {study: row for row, study in enumerate(self.study_ids)}
        try:
            return self.states[[index[study] for study in study_ids]]
        except KeyError as error:
            raise UserError(f"the labels have no row for study {error.args[0]}; label it first") from error

    def select(self, keys: Sequence[str]) -> LabelTable:
        """Return the table with these columns; raise UserError if one is missing."""
        for key in keys:
            if key not in self.keys:
                raise UserError(f"the labels have no column '{key}'{nearest(key, self.keys)}")
        return LabelTable(self.study_ids, tuple(keys), self.states[:, [self.keys.index(key) for key in keys]])

    def write(self, path: Path) -> None:
        """Write labels.csv in one step."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["study_id", *self.keys])
        for study, row in zip(self.study_ids, self.states, strict=True):
            writer.writerow([study, *(State(int(value)).cell for value in row)])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: Path, keys: Sequence[str] | None = None) -> LabelTable:
        """Read labels.csv; with `keys`, every other column is an error and a missing one too.

        Raises UserError for a missing file, unknown columns, duplicate ids and cells that are no state.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                lines = list(csv.reader(stream))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"labels {path} cannot be read as a CSV in UTF-8 ({type(error).__name__})") from error
        if not lines or not lines[0] or lines[0][0] != "study_id":
            raise UserError(f"labels {path} must begin with a line 'study_id,<finding>,…'")
        header = [name.strip() for name in lines[0][1:]]
        for name in header:
            if keys is not None and name not in keys:
                raise UserError(f"labels {path} has an unknown column '{name}'{nearest(name, tuple(keys))}")
            if header.count(name) > 1:
                raise UserError(f"labels {path} has the column '{name}' twice; remove one")
        studies: list[str] = []
        states: list[list[int]] = []
        seen: set[str] = set()
        for number, line in enumerate(lines[1:], start=2):
            if not line:
                continue
            if len(line) != len(header) + 1:
                raise UserError(f"labels {path}, line {number}: {len(line)} cells, the header has {len(header) + 1}")
            if line[0] in seen:
                raise UserError(f"labels {path} has study {line[0]} twice (line {number}); keep one row")
            seen.add(line[0])
            studies.append(line[0])
            try:
                states.append([int(State.from_cell(cell)) for cell in line[1:]])
            except ValueError as error:
                raise UserError(f"labels {path}, line {number}: a state is 1, 0, -1 or empty") from error
        table = cls(tuple(studies), tuple(header), np.array(states, np.int8).reshape(len(studies), len(header)))
        return table if keys is None else table.select(keys)
