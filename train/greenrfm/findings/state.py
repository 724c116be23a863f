"""The four states a report can give a finding."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """What a report says of one finding.

    The public code merges UNCERTAIN and NOT_MENTIONED into -1; they are kept apart here and merged
    only where a loss or a file format needs it.
    """

    PRESENT = 1
    ABSENT = 0
    UNCERTAIN = -1
    NOT_MENTIONED = -2

    @property
    def cell(self) -> str:
        """Return the state as it stands in labels.csv: `1`, `0`, `-1` or empty."""
        return "" if self is State.NOT_MENTIONED else str(int(self))

    @classmethod
    def from_cell(cls, cell: str) -> State:
        """Read a labels.csv cell; raise ValueError for anything but `1`, `0`, `-1` or empty."""
        text = cell.strip()
        if not text:
            return cls.NOT_MENTIONED
        # "1.0" is what pandas writes for a column that also has empty cells.
        value = float(text)
        if value not in (1.0, 0.0, -1.0):
            raise ValueError(cell)
        return cls(int(value))
