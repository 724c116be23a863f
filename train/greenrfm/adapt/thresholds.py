"""The probabilities between which a finding is neither called present nor absent, chosen on validation by one rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings import State

Floats = NDArray[np.float64]
# A miss costs more than an alarm that somebody looks at.
SENSITIVITY, SPECIFICITY = 0.95, 0.90


@dataclass(frozen=True)
class Thresholds:
    """Present at calibrated probability >= `present` (C,), absent below `absent` (C,), between them indeterminate.

    `rule` is the sentence for the manifest; `notes` says of a finding why its cut-offs are weak.
    """

    keys: tuple[str, ...]
    present: Floats
    absent: Floats
    rule: str
    notes: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the entry `thresholds` of a bundle's manifest."""
        return {"rule": self.rule, "present": self.present.tolist(), "absent": self.absent.tolist()}

    def by_key(self) -> dict[str, float]:
        """Return from where each finding is called present."""
        return dict(zip(self.keys, self.present.tolist(), strict=True))

    def absent_by_key(self) -> dict[str, float]:
        """Return below which probability each finding is called absent."""
        return dict(zip(self.keys, self.absent.tolist(), strict=True))


def choose_thresholds(
    probabilities: Floats,
    states: NDArray[np.int8],
    keys: Sequence[str],
    sensitivity: float = SENSITIVITY,
    specificity: float = SPECIFICITY,
) -> Thresholds:
    """Return two cut-offs per finding from calibrated validation probabilities (N, C) and their states (N, C).

    The lower is the highest that still leaves the share `sensitivity` of the present studies at or above it, the
    upper the lowest that still leaves the share `specificity` of the absent ones below it. Where the model is so
    good that they would cross, their middle keeps both promises and is the only cut-off. All cut-offs between two
    neighbouring probabilities make the same calls, so the middle of such a gap is taken. UNCERTAIN and NOT_MENTIONED
    entries are not used. Where a class is missing nothing can be promised, and every call is indeterminate.

    Raises UserError for shares outside 0…1, and ValueError for shapes that disagree or values outside 0…1.
    """
    if not (0 < sensitivity <= 1 and 0 < specificity <= 1):
        raise UserError("the sensitivity and specificity of a threshold rule must be above 0 and at most 1")
    probabilities, states = np.asarray(probabilities, dtype=np.float64), np.asarray(states)
    if probabilities.ndim != 2 or probabilities.shape != states.shape or probabilities.shape[1] != len(keys):
        raise ValueError(f"probabilities {probabilities.shape}, states {states.shape}, {len(keys)} findings")
    if not np.all((probabilities >= 0) & (probabilities <= 1)):
        raise ValueError("a probability is outside 0…1 or not a number")
    upper, lower, notes = np.ones(len(keys)), np.zeros(len(keys)), {}
    for column, key in enumerate(keys):
        present = probabilities[states[:, column] == State.PRESENT, column]
        absent = probabilities[states[:, column] == State.ABSENT, column]
        missing = [name for name, values in (("present", present), ("absent", absent)) if not len(values)]
        if missing:
            notes[key] = f"no validation study has it {' or '.join(missing)}; every call is indeterminate"
            continue
        lower[column] = _lower(present, absent, sensitivity)
        upper[column] = _upper(present, absent, specificity)
        if lower[column] > upper[column]:
            lower[column] = upper[column] = (lower[column] + upper[column]) / 2
        weak = [
            f"{len(values)} studies {name} (below {least})"
            for name, values, share in (("present", present, sensitivity), ("absent", absent, specificity))
            if len(values) < (least := _least(share))
        ]
        if weak:
            notes[key] = f"validation has only {' and '.join(weak)}; the cut-offs rest on single studies"
    return Thresholds(tuple(keys), upper, lower, _sentence(sensitivity, specificity), notes)


def _sentence(sensitivity: float, specificity: float) -> str:
    return (
        f"On validation, absent below the highest cut-off with sensitivity of at least {sensitivity:g}, present from "
        f"the lowest cut-off with specificity of at least {specificity:g}, one cut-off in the middle where these two "
        "would cross, and indeterminate between them."
    )


def _least(share: float) -> int:
    """Return how many studies it takes before one of them may be on the wrong side."""
    return 1 if share >= 1 else int(np.ceil(1 / (1 - share) - 1e-9))


def _lower(present: Floats, absent: Floats, sensitivity: float) -> float:
    """Return the cut-off below which at most the share 1 - sensitivity of `present` lies."""
    allowed = int(np.floor((1 - sensitivity) * len(present) + 1e-9))
    lowest_kept = float(np.sort(present)[allowed])
    below = np.concatenate([present, absent])
    below = below[below < lowest_kept]
    return _between(float(below.max()) if len(below) else 0.0, lowest_kept)


def _upper(present: Floats, absent: Floats, specificity: float) -> float:
    """Return the cut-off from which on at most the share 1 - specificity of `absent` lies."""
    allowed = int(np.floor((1 - specificity) * len(absent) + 1e-9))
    highest_left_out = float(np.sort(absent)[::-1][allowed]) if allowed < len(absent) else 0.0
    above = np.concatenate([present, absent])
    above = above[above > highest_left_out]
    return _between(highest_left_out, float(above.min()) if len(above) else 1.0)


def _between(low: float, high: float) -> float:
    """Return the middle; between two neighbouring floats it rounds to one of them, and the upper makes right calls."""
    middle = (low + high) / 2
    return middle if low < middle else high
