"""What a cohort and its labels must have before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from greenrfm.cohort import Cohort, Study
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable, State

# A finding needs this many studies with it and without it to be learned, and these to be calibrated.
LEAST = {"train": 5, "validation": 2}
PARTS = tuple(LEAST)


@dataclass(frozen=True)
class Learnable:
    """The findings to learn, and for each that is left out a sentence that says why."""

    keys: tuple[str, ...]
    left_out: Mapping[str, str]


def parts_of(cohort: Cohort) -> dict[str, tuple[Study, ...]]:
    """Return the training and validation studies; raise UserError if a split has fewer than two."""
    parts = {name: cohort.by_split(name).studies for name in PARTS}
    for name, studies in parts.items():
        if len(studies) < 2:
            raise UserError(
                f"cohort {cohort.path} has {len(studies) or 'no'} {name} {'study' if studies else 'studies'}, training "
                f"needs more; put studies into split '{name}' or leave the column empty for all"
            )
    return parts


def check_labels(labels: LabelTable, cohort: Cohort) -> None:
    """Raise UserError if the labels are of studies that the cohort does not have."""
    known = {study.study_id for study in cohort}
    unknown = [study for study in labels.study_ids if study not in known]
    if unknown:
        raise UserError(
            f"the labels have {len(unknown)} studies that cohort {cohort.path} does not have, first {unknown[0]}; "
            "remove their rows or add the studies"
        )


def check_reports(studies: Sequence[Study]) -> None:
    """Raise UserError if a study to align has no report."""
    for study in studies:
        if not study.report:
            raise UserError(
                f"study {study.study_id} has no report; alignment needs one for every training study, or leave "
                "stage1_text and stage2 out of the recipe to train vision alone"
            )


def learnable(labels: LabelTable, parts: Mapping[str, Sequence[Study]]) -> Learnable:
    """Return the findings with enough studies present and absent in both parts, and why others are left out.

    Raises UserError if none is left.
    """
    left_out: dict[str, str] = {}
    for name, studies in parts.items():
        states = labels.rows(study.study_id for study in studies)
        for state, word in ((State.PRESENT, "present"), (State.ABSENT, "absent")):
            counts = (states == state).sum(axis=0).tolist()
            for key, count in zip(labels.keys, counts, strict=True):
                if count < LEAST[name] and key not in left_out:
                    left_out[key] = (
                        f"{key} is left out: stated {word} in {count or 'no'} {name} "
                        f"{'study' if count == 1 else 'studies'}, {LEAST[name]} are needed; label more"
                    )
    kept = tuple(key for key in labels.keys if key not in left_out)
    if not kept:
        raise UserError(
            f"no finding is stated present and stated absent in {LEAST['train']} training studies and "
            f"{LEAST['validation']} validation studies each; label more studies"
        )
    return Learnable(kept, {key: left_out[key] for key in labels.keys if key in left_out})
