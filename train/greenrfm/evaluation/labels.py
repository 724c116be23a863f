"""How well a labeler's states agree with gold ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.evaluation.intervals import (
    BOOTSTRAPS,
    Floats,
    Measures,
    bootstrap,
    describe_findings,
    describe_macro,
    ratio,
)
from greenrfm.findings import LabelTable, State

Policy = Literal["absent", "present", "exclude"]
MEASURES = ("precision", "recall", "f1", "kappa")
_EXCLUDED = int(State.NOT_MENTIONED)
_MEANS = {"absent": int(State.ABSENT), "present": int(State.PRESENT), "exclude": _EXCLUDED}


def compare_labels(
    gold: LabelTable,
    predicted: LabelTable,
    *,
    not_mentioned: Policy = "absent",
    uncertain: Policy = "exclude",
    unlabelled: Literal["refuse", "exclude"] = "refuse",
    patient_ids: Mapping[str, str] | None = None,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return precision, recall, F1 and Cohen's kappa per finding and macro, with counts and intervals.

    Parameters
    ----------
    gold, predicted : every finding of `gold` must be in `predicted`, and every study unless `unlabelled`
        is "exclude"; more may be.
    not_mentioned, uncertain : what the state means in both tables: "absent", "present", or "exclude"
        (an entry that is so in either table is not scored). Leaving out what a labeler calls uncertain
        flatters it, so `coverage`, the scored share of the entries that gold decides, stands beside it.
    unlabelled : what becomes of studies without a row in `predicted`, because labelling them failed:
        "refuse", or "exclude" them, so that `coverage` and `excluded_predicted` tell them.
    patient_ids : patient of each study, for resampling; without it every study is its own patient.

    Returns
    -------
    `{"n", "patients", "resampled", "policy", "macro": {measure, "intervals", "findings": {measure: how many
    findings}, "coverage"}, "findings": {key: {measure or None, "intervals", "tp", "fp", "fn", "tn",
    "excluded_gold", "excluded_predicted", "coverage"}}, "unlabelled": how many studies, "not_compared"}`.
    A measure is None where it is 0/0, and its macro mean runs over the findings where it is defined; F1
    is so unless a finding is present in neither table.

    Raises UserError for an unknown policy for studies or findings that `predicted` lacks, and for a
    study without a patient in `patient_ids`.
    """
    for policy in (not_mentioned, uncertain):
        if policy not in _MEANS:
            raise UserError(f"there is no policy '{policy}'; choose absent, present or exclude")
    keys, studies = gold.keys, gold.study_ids
    if not studies:
        raise UserError("the gold labels have no study; there is nothing to compare")
    truth = _decide(gold.states, not_mentioned, uncertain)
    missing = np.zeros(len(studies), dtype=bool)
    if unlabelled == "exclude":
        known = set(predicted.study_ids)
        missing = np.array([study not in known for study in studies])
    call = np.full(truth.shape, _EXCLUDED, np.int8)
    labelled = [study for study, is_missing in zip(studies, missing, strict=True) if not is_missing]
    call[~missing] = _decide(predicted.select(keys).rows(labelled), not_mentioned, uncertain)
    decided, scored = truth >= 0, (truth >= 0) & (call >= 0)
    cells = {
        "tp": scored & (truth == State.PRESENT) & (call == State.PRESENT),
        "fp": scored & (truth == State.ABSENT) & (call == State.PRESENT),
        "fn": scored & (truth == State.PRESENT) & (call == State.ABSENT),
        "tn": scored & (truth == State.ABSENT) & (call == State.ABSENT),
    }

    def measure(weights: Floats) -> Measures:
        return agreement(*(weights @ cells[name] for name in ("tp", "fp", "fn", "tn")))

    unknown = [study for study in studies if patient_ids is not None and study not in patient_ids]
    if unknown:
        raise UserError(f"the patient of study {unknown[0]} is not known; use the cohort that these labels belong to")
    patients = [patient_ids[study] if patient_ids is not None else study for study in studies]
    point, replicates = bootstrap(measure, patients, bootstraps, seed)
    findings = describe_findings(keys, point, replicates)
    for column, key in enumerate(keys):
        findings[key].update({name: int(cell[:, column].sum()) for name, cell in cells.items()})
        findings[key]["excluded_gold"] = int((~decided[:, column]).sum())
        findings[key]["excluded_predicted"] = int((decided & ~scored)[:, column].sum())
        findings[key]["coverage"] = _share(scored[:, column], decided[:, column])
    macro = describe_macro(point, replicates, np.ones(len(keys), dtype=bool))
    macro["findings"] = {name: int((~np.isnan(point[name])).sum()) for name in MEASURES}
    macro["coverage"] = _share(scored, decided)
    return {
        "n": len(studies),
        "patients": len(set(patients)),
        "resampled": "patients" if patient_ids is not None else "studies (no patient ids were given)",
        "bootstraps": bootstraps,
        "seed": seed,
        "policy": {"not_mentioned": not_mentioned, "uncertain": uncertain},
        "macro": macro,
        "findings": findings,
        "unlabelled": int(missing.sum()),
        "not_compared": [key for key in predicted.keys if key not in keys],
    }


def agreement(true_positive: Floats, false_positive: Floats, false_negative: Floats, true_negative: Floats) -> Measures:
    """Return precision, recall, F1 and Cohen's kappa (Cohen 1960) from counts of any one shape; NaN for 0/0."""
    called, held = true_positive + false_positive, true_positive + false_negative
    quiet, free = false_negative + true_negative, false_positive + true_negative
    return {
        "precision": ratio(true_positive, called),
        "recall": ratio(true_positive, held),
        "f1": ratio(2 * true_positive, called + held),
        "kappa": ratio(
            2 * (true_positive * true_negative - false_positive * false_negative), called * free + held * quiet
        ),
    }


def _decide(states: NDArray[np.int8], not_mentioned: Policy, uncertain: Policy) -> NDArray[np.int8]:
    """Return 1, 0, or a negative number where the entry is excluded."""
    decided = np.where(states == State.NOT_MENTIONED, _MEANS[not_mentioned], states)
    return np.where(states == State.UNCERTAIN, _MEANS[uncertain], decided).astype(np.int8)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float | None:
    return float(part.sum() / whole.sum()) if whole.any() else None
