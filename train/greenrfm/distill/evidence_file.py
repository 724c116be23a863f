"""labels.evidence.jsonl, read one study at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from greenrfm.errors import UserError

Row = dict[str, Any]
_NEEDED = frozenset({"study_id", "finding", "state", "start", "end", "labeler", "version"})


class EvidenceFile:
    """The rows of each study by its id. Only their places are kept in memory."""

    def __init__(self, path: Path) -> None:
        """Open the file and note where each study's rows begin; a missing file has no rows.

        Raises UserError for a file that cannot be read and for a line that is no row of evidence.
        """
        self._places: dict[str, list[int]] = {}
        self._stream: BinaryIO | None = None
        if path.exists():
            for place, row in _rows(path):
                self._places.setdefault(row["study_id"], []).append(place)
            self._stream = path.open("rb")

    def of(self, study_id: str) -> list[Row]:
        """Return the study's rows in the order of the file."""
        rows: list[Row] = []
        for place in self._places.get(study_id, ()):
            assert self._stream is not None
            self._stream.seek(place)
            rows.append(json.loads(self._stream.readline()))
        return rows

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        if self._stream is not None:
            self._stream.close()


def evidence_path(labels: Path) -> Path:
    """Return where the evidence of these labels lies: labels.csv → labels.evidence.jsonl."""
    return labels.with_suffix(".evidence.jsonl")


def read_evidence(path: Path) -> Iterator[Row]:
    """Yield the rows of the file; raises UserError as `EvidenceFile` does, and if there is no such file."""
    if not path.exists():
        raise UserError(f"evidence {path} does not exist; labels without evidence cannot be explained: distill again")
    return (row for _, row in _rows(path))


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    place = 0
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    row = json.loads(line)
                except ValueError:
                    row = None
                if not isinstance(row, dict) or not row.keys() >= _NEEDED:
                    raise UserError(f"evidence {path}, line {number} is no row of evidence; run greenrfm distill again")
                yield place, row
                place += len(line)
    except OSError as error:
        raise UserError(f"evidence {path} cannot be read ({type(error).__name__})") from error
