"""audit.jsonl: a line for every reading, only ever added to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class AuditLog:
    """Adds lines to the file at `path`; a context manager, to be opened under the lock of its folder.

    A line that a killed process left half written is ended, not removed: what stands in an audit stays in it, and
    `read_audit` passes over it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, made if missing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a line reaches the file in one write.
        self._stream = path.open("ab", buffering=0)
        if _is_cut(path):
            self._stream.write(b"\n")

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one record; when it returns, neither a kill nor a power cut loses it."""
        line = memoryview(json.dumps(dict(record), allow_nan=False).encode("ascii") + b"\n")
        # A disk that is nearly full takes a part and says nothing; the next write says that it is full.
        while line:
            line = line[self._stream.write(line) :]
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        self._stream.close()

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def read_audit(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole records of an audit file, in their order."""
    with path.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and line.endswith(b"\n"):
                yield record


def _is_cut(path: Path) -> bool:
    with path.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"
