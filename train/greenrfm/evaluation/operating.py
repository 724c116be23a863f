"""Where the thresholds come from that judge scores: a bundle, a file or other studies; never the ones measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.evaluation.intervals import Floats
from greenrfm.evaluation.score_table import ScoreTable
from greenrfm.findings import LabelTable, State
from greenrfm.findings.sets import nearest

Limits = Mapping[str, float]


@dataclass(frozen=True)
class Operating:
    """Thresholds by finding key, and `source`: where they come from, in words.

    A finding is present from `present` up; with `absent`, it is absent below that and indeterminate between.
    """

    present: Limits
    absent: Limits | None
    source: str

    def of(self, keys: Sequence[str]) -> Operating:
        """Return those of these findings; raise UserError for one that has none."""
        for key in keys:
            if key not in self.present:
                raise UserError(f"there is no threshold for '{key}'{nearest(key, tuple(self.present))}")
        absent = None if self.absent is None else {key: self.absent[key] for key in keys}
        return Operating({key: self.present[key] for key in keys}, absent, self.source)


def stated_thresholds(path: Path) -> Operating:
    """Return the thresholds of a bundle (its folder), or of a CSV with the columns finding, present and maybe absent.

    Raises UserError if neither can be read.
    """
    if path.is_dir():
        from greenrfm.bundle import Bundle  # onnxruntime takes its time to import

        bundle = Bundle.load(path)
        own = bundle.manifest.thresholds
        present = dict(zip(bundle.findings.keys, own.present, strict=True))
        absent = dict(zip(bundle.findings.keys, own.absent, strict=True))
        return Operating(present, absent if absent != present else None, f"bundle {path}, rule {own.rule}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"thresholds {path} cannot be read ({type(error).__name__}); name a bundle's folder or a CSV in UTF-8"
        ) from error
    if not rows or not {"finding", "present"} <= rows[0].keys():
        raise UserError(f"thresholds {path} must begin with a line 'finding,present' and have a line per finding")
    three = "absent" in rows[0]
    limits: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            above = float(row["present"] or "")
            below = float(row["absent"] or "") if three else above
        except ValueError:
            above = below = np.nan
        key = row["finding"] or ""
        if not 0 <= below <= above <= 1 or key in limits:
            raise UserError(
                f"thresholds {path}, line {number}: every finding has one line with 0 <= absent <= present <= 1"
            )
        limits[key] = above, below
    return Operating(
        {key: above for key, (above, _) in limits.items()},
        {key: below for key, (_, below) in limits.items()} if three else None,
        f"file {path}",
    )


def thresholds_from_validation(
    scores_path: Path, labels_path: Path, specificity: float, apart_from: Path | None = None
) -> Operating:
    """Return, per finding, the lowest threshold with at least this specificity on validation studies.

    Raises UserError if a file is at fault, no labelled study lacks a finding, or a study or patient is also in the
    scores `apart_from`, which these thresholds shall judge.
    """
    labels = LabelTable.read(labels_path)
    scores = ScoreTable.read(scores_path, labels.keys)
    if apart_from is not None:
        judged = ScoreTable.read(apart_from)
        shared = set(scores.study_ids).intersection(judged.study_ids)
        if shared or set(scores.patient_ids).intersection(judged.patient_ids):
            what = f"study {min(shared)}" if shared else "a patient"
            raise UserError(
                f"validation scores {scores_path} and {apart_from} both have {what}; thresholds must come from others"
            )
    states = labels.select(scores.keys).rows(scores.study_ids)
    present = {}
    for column, key in enumerate(scores.keys):
        absent = scores.probabilities[states[:, column] == State.ABSENT, column]
        if not len(absent):
            raise UserError(f"labels {labels_path} call no scored study free of '{key}', so its specificity is unknown")
        present[key] = threshold_at_specificity(absent, specificity)
    return Operating(present, None, f"validation scores {scores_path}, specificity at least {specificity:g} there")


def threshold_at_specificity(absent: Floats | NDArray[np.float64], specificity: float) -> float:
    """Return the lowest threshold at which at least this share of the probabilities `absent` (N,) lies below it.

    It lies just above a probability that is there: present is called from the threshold up.
    """
    ordered = np.sort(np.asarray(absent, dtype=np.float64))
    below = int(np.ceil(specificity * len(ordered) - 1e-9))
    if below == 0:
        return 0.0
    return float(min(np.nextafter(ordered[below - 1], 2.0), 1.0))
