"""Calibration and thresholds from the validation part of a cohort, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from greenrfm.adapt.calibration import Calibration, Floats, fit_calibration
from greenrfm.adapt.thresholds import Thresholds, choose_thresholds
from greenrfm.errors import UserError

SPLIT = "validation"


def calibrate(
    logits: Floats, states: NDArray[np.int8], splits: Sequence[str], keys: Sequence[str]
) -> tuple[Calibration, Thresholds]:
    """Fit calibration, then thresholds on the calibrated probabilities, using only studies whose split is validation.

    `logits` and `states` are (N, C), `splits` the N splits of the cohort; rows of other splits are dropped before
    anything is computed. Raises UserError if no study is in validation, and what the two steps raise.
    """
    rows = np.flatnonzero([split == SPLIT for split in splits])
    if not len(rows):
        raise UserError(f"no study of the cohort has split '{SPLIT}'; calibration needs some, see split_by_patient")
    logits, states = np.asarray(logits)[rows], np.asarray(states)[rows]
    calibration = fit_calibration(logits, states, keys)
    return calibration, choose_thresholds(calibration.apply(logits), states, keys)
