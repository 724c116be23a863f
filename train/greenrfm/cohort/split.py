"""Splitting a cohort so that no patient is on both sides."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

from greenrfm.cohort.table import SPLITS, Cohort
from greenrfm.errors import UserError


def split_by_patient(cohort: Cohort, fractions: Mapping[str, float], seed: int) -> Cohort:
    """Return the cohort with a split for every study, all studies of a patient in the same.

    Parameters
    ----------
    cohort
        Studies that already have a split keep it, and their patient's other studies join them.
    fractions
        Of the patients that have no split yet, by split name; they add up to 1.
    seed
        The same seed and patients give the same splits, whatever the order of the rows.

    Raises
    ------
    UserError
        If the fractions do not add up to 1, name an unknown split, or ask for more splits than there
        are patients to fill them.
    """
    for name, fraction in fractions.items():
        if name not in SPLITS or not 0 <= fraction <= 1:
            raise UserError(f"split fraction {name}={fraction} must be a number from 0 to 1 for {', '.join(SPLITS)}")
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise UserError(f"split fractions add up to {sum(fractions.values()):g}; they must add up to 1")
    of_patient = {study.patient_id: study.split for study in cohort if study.split}
    free = sorted({study.patient_id for study in cohort} - set(of_patient))
    random.Random(seed).shuffle(free)
    taken = 0
    for name, count in _counts(fractions, len(free), cohort).items():
        of_patient.update(dict.fromkeys(free[taken : taken + count], name))
        taken += count
    return Cohort(cohort.path, tuple(replace(study, split=of_patient[study.patient_id]) for study in cohort))


def _counts(fractions: Mapping[str, float], patients: int, cohort: Cohort) -> dict[str, int]:
    """Return the patients per split: the fractions by largest remainder, but none that is asked for empty."""
    wanted = {name: fraction for name, fraction in fractions.items() if fraction > 0}
    if patients == 0:
        return {}
    if patients < len(wanted):
        raise UserError(
            f"cohort {cohort.path} has {patients} patients to split {len(wanted)} ways; "
            "give more patients or fewer splits"
        )
    counts = {name: int(fraction * patients + 1e-9) for name, fraction in wanted.items()}
    by_remainder = sorted(wanted, key=lambda name: counts[name] - wanted[name] * patients)
    for name in by_remainder[: patients - sum(counts.values())]:
        counts[name] += 1
    for name in counts:
        if counts[name] == 0:
            counts[max(counts, key=lambda other: counts[other])] -= 1
            counts[name] = 1
    return counts
