"""Where earlier readings come from: an older output folder, or the case library."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from greenrfm.bundle import Bundle
from greenrfm.reading import FindingScore, calibrated_field
from greenrfm.results.folder import read_results
from greenrfm.results.result import Result, Score

LIBRARY = "library.json"


def earlier_results(places: Sequence[Path], bundle: Bundle, patients: Collection[str]) -> list[Result]:
    """Return earlier results of these patients; raise UserError for a place that is neither a library nor an output."""
    found: list[Result] = []
    for place in places:
        if (place / LIBRARY).is_file():
            found += _from_library(place, bundle, patients)
        else:
            found += (result for result in read_results(place) if result.patient_id in patients)
    return found


def _fits(modality: str, bundle: Bundle) -> bool:
    # The scores of an MR that a CT bundle was made to read would mean nothing beside the current ones.
    return not modality or modality == bundle.findings.modality


def _from_library(folder: Path, bundle: Bundle, patients: Collection[str]) -> list[Result]:
    """Return the library's studies of these patients, scored anew from their latents, which are this bundle's.

    Reads every case: about as long as opening each file of the library once.
    """
    from greenrfm.library import CaseLibrary

    with CaseLibrary.open(folder, bundle.hash) as library:
        cases = [
            (case, latent)
            for case, latent in library.items()
            if case.patient_id in patients and _fits(case.modality, bundle)
        ]
    calibration, thresholds = bundle.manifest.calibration, bundle.manifest.thresholds
    results = []
    for case, latent in cases:
        logits = bundle.weight @ latent + bundle.bias
        scores = []
        for finding, logit, probability, present, absent in zip(
            bundle.findings.findings,
            logits,
            np.atleast_1d(calibration.probability(logits)),
            thresholds.present,
            thresholds.absent,
            strict=True,
        ):
            one = FindingScore(finding.key, finding.name, float(logit), float(probability), present, absent)
            scores.append(Score(one.key, one.name, one.probability, one.call, present, absent))
        results.append(
            Result(
                key="",
                study_id=case.study_id,
                patient_id=case.patient_id,
                study_date=case.study_date,
                series_uid=case.series_uid,
                source=str(folder),
                read_at="",
                software="",
                scores=tuple(scores),
                reading={"bundle": bundle.hash, "warnings": [], "notice": "", "findings": []},
                options={"field": calibrated_field(bundle)},
            )
        )
    return results
