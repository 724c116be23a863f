"""One thing the contract check found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, order=True)
class Problem:
    """A place that would not do in Slicer what it says.

    Parameters
    ----------
    file
        The file that has to change.
    line
        Its line, from 1; 0 where a line has no meaning.
    sentence
        What is wrong and, where it is known, what to write instead.
    """

    file: Path
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.sentence}"
