"""The probability from which a finding is called present, chosen on validation by a named rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings import State

Floats = NDArray[np.float64]
FALLBACK = 0.5


@dataclass(frozen=True)
class Thresholds:
    """A finding is called present at calibrated probability >= `values` (C,); `notes` says where 0.5 stands in."""

    keys: tuple[str, ...]
    values: Floats
    rule: str
    notes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the entry `thresholds` of a bundle's manifest."""
        return {"rule": self.rule, "values": self.values.tolist()}

    def by_key(self) -> dict[str, float]:
        """Return the threshold of each finding."""
        return dict(zip(self.keys, self.values.tolist(), strict=True))


def choose_thresholds(
    probabilities: Floats, states: NDArray[np.int8], keys: Sequence[str], rule: str = "youden"
) -> Thresholds:
    """Return a threshold per finding from calibrated validation probabilities (N, C) and their states (N, C).

    "youden" maximises sensitivity + specificity - 1 (Youden 1950). All thresholds between two neighbouring
    probabilities make the same calls, so the middle is taken; of several equally good gaps the middle one.
    UNCERTAIN and NOT_MENTIONED entries are not used. Where a class is missing, or no threshold is better than
    chance, the threshold is 0.5 and `notes` says so.

    Raises UserError for an unknown rule, and ValueError for shapes that disagree or values outside 0…1.
    """
    if rule != "youden":
        raise UserError(f"there is no threshold rule '{rule}'; use 'youden'")
    probabilities, states = np.asarray(probabilities, dtype=np.float64), np.asarray(states)
    if probabilities.ndim != 2 or probabilities.shape != states.shape or probabilities.shape[1] != len(keys):
        raise ValueError(f"probabilities {probabilities.shape}, states {states.shape}, {len(keys)} findings")
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("a probability is outside 0…1 or not a number")
    values, notes = np.full(len(keys), FALLBACK), {}
    for column, key in enumerate(keys):
        present, absent = states[:, column] == State.PRESENT, states[:, column] == State.ABSENT
        missing = [name for name, rows in (("present", present), ("absent", absent)) if not rows.any()]
        if missing:
            notes[key] = f"no validation study has it {' or '.join(missing)}; {FALLBACK} is used"
            continue
        best = _youden(probabilities[present, column], probabilities[absent, column])
        if best is None:
            notes[key] = f"no threshold is better than chance in validation; {FALLBACK} is used"
        else:
            values[column] = best
    return Thresholds(tuple(keys), values, rule, notes)


def _youden(present: Floats, absent: Floats) -> float | None:
    """Return the middle of the best gap between the probabilities of present and absent studies, or None."""
    levels = np.unique(np.concatenate([present, absent]))
    # How many of each class are called when the threshold lies just below a level; integers keep ties exact.
    hits = len(present) - np.searchsorted(np.sort(present), levels[1:])
    alarms = len(absent) - np.searchsorted(np.sort(absent), levels[1:])
    index = hits * len(absent) - alarms * len(present)
    if not len(index) or index.max() <= 0:
        return None
    best = np.flatnonzero(index == index.max())
    gap = best[(len(best) - 1) // 2]
    low, high = float(levels[gap]), float(levels[gap + 1])
    middle = (low + high) / 2
    # Between two neighbouring floats the middle rounds to one of them; the upper one makes the right calls.
    return middle if low < middle else high
