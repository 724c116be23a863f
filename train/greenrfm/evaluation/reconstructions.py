"""Which volumes belong together: reconstructions share a scan and its report, scans share a patient.

CT-RATE's validation part has 3,039 volumes and 1,564 scans: who does not say which were counted cannot be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from greenrfm.cohort import Cohort, Study
from greenrfm.errors import UserError

# What one entry of a measure is: every volume, or the first volume of every report.
Unit = Literal["volume", "report"]


@dataclass(frozen=True)
class Volumes:
    """The patient and the report of each volume; `reports` is None where it is not known."""

    patients: tuple[str, ...] | None
    reports: tuple[str, ...] | None

    def first_of_each_report(self) -> list[int]:
        """Return the row of the first volume of each report; raise UserError if reports are not known."""
        if self.reports is None:
            raise UserError(
                "nothing says which volumes share a report; give --cohort, or scores with a column report_id"
            )
        seen: dict[str, int] = {}
        for row, report in enumerate(self.reports):
            seen.setdefault(report, row)
        return list(seen.values())


def volumes_of(studies: Sequence[Study]) -> Volumes:
    """Return what a cohort says: two volumes of a patient share a report if accession, or date and text, are the same.

    A study without accession and report has a report of its own.
    """
    return Volumes(tuple(study.patient_id for study in studies), tuple(map(_report, studies)))


def volumes_from(
    study_ids: Sequence[str], patients: Sequence[str], reports: Sequence[str], cohort: Cohort | None
) -> Volumes:
    """Return what a cohort says of these studies, and without one what the scores themselves say.

    An empty cell in `reports` is a report of its own. Raises UserError if the cohort lacks a study.
    """
    if cohort is None:
        patient_of = [f"{patient}/" for patient in patients] or [""] * len(study_ids)
        named = [
            f"{patient}{report}" if report else f"study {study}"
            for study, patient, report in zip(study_ids, patient_of, reports, strict=False)
        ]
        return Volumes(tuple(patients) or None, tuple(named) if reports else None)
    known = {study.study_id: study for study in cohort}
    for study in study_ids:
        if study not in known:
            raise UserError(f"cohort {cohort.path} has no study {study}, which has scores; add it or remove its scores")
    return volumes_of([known[study] for study in study_ids])


def _report(study: Study) -> str:
    accession = study.extra.get("accession", "")
    if accession:
        return f"{study.patient_id}/{accession}"
    text = " ".join(study.report.split())
    if not text:
        return f"study {study.study_id}"
    # The date, because two normal scans of one patient may have the same words.
    return f"{study.patient_id}/{study.extra.get('study_date', '')}/{text}"
