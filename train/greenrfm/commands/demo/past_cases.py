"""The case library of the demo: the training studies as the department's past, searched by a held-out patient."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from greenrfm.bundle import LATENT_SIZE, Bundle
from greenrfm.cohort import Study
from greenrfm.commands.cases import case_of, reported_states
from greenrfm.commands.demo.heldout import HeldOut
from greenrfm.findings import LabelTable, State
from greenrfm.library import Case, CaseLibrary, Hit
from greenrfm.progress import Progress
from greenrfm.reading import Reader
from greenrfm.volumes import read_volume

NEAREST = 3
STAGE = "fill the case library"


@dataclass(frozen=True)
class Compared:
    """A found case and the findings its report shares with the query's, and those only one of them has."""

    hit: Hit
    shared: tuple[str, ...]
    only_query: tuple[str, ...]
    only_case: tuple[str, ...]


@dataclass(frozen=True)
class Query:
    """A held-out study, by its row, with what its report says is present and its most similar past cases."""

    row: int
    present: tuple[str, ...]
    cases: tuple[Compared, ...]


def fill_library(
    folder: Path, bundle: Bundle, studies: Sequence[Study], labels: LabelTable, progress: Progress
) -> CaseLibrary:
    """Return the open library of these studies, read with `bundle`; cases that it already has are kept.

    One that a killed demo left from an earlier export of the bundle is made anew: its latents are others.
    """
    library = _kept(folder, bundle.hash) or CaseLibrary.create(
        folder, bundle_hash=bundle.hash, dimension=LATENT_SIZE, keys=labels.keys
    )
    missing = [study for study in studies if study.study_id not in library]
    done = len(studies) - len(missing)
    progress(STAGE, done, len(studies))
    reader = Reader(bundle)
    states = reported_states(labels, (study.study_id for study in missing), labels.keys)

    def cases() -> Iterator[tuple[Case, np.ndarray]]:
        for number, study in enumerate(missing, start=done + 1):
            volume = read_volume(study.images["image"])
            case = case_of(study, volume, states[study.study_id], bundle.preprocessing)
            yield case, reader.read(volume).latent
            progress(STAGE, number, len(studies))

    try:
        library.add_many(cases())
    except BaseException:
        library.close()
        raise
    return library


def first_query(library: CaseLibrary, held_out: HeldOut, labels: LabelTable) -> Query | None:
    """Return the first held-out study by id whose report has a finding, with its nearest past cases."""
    states = labels.rows(study.study_id for study in held_out.studies)
    for row in range(len(held_out.studies)):
        present = _names(states[row], labels)
        if present:
            hits = library.search(
                held_out.readings[row].latent, NEAREST, exclude_patient=held_out.studies[row].patient_id
            )
            return Query(row, present, tuple(_compared(hit, present, labels) for hit in hits))
    return None


def _compared(hit: Hit, present: tuple[str, ...], labels: LabelTable) -> Compared:
    there = tuple(key for key in labels.keys if hit.case.states.get(key) is State.PRESENT)
    return Compared(
        hit,
        tuple(key for key in present if key in there),
        tuple(key for key in present if key not in there),
        tuple(key for key in there if key not in present),
    )


def _names(row: np.ndarray, labels: LabelTable) -> tuple[str, ...]:
    return tuple(key for key, value in zip(labels.keys, row, strict=True) if value == State.PRESENT)


def _kept(folder: Path, bundle_hash: str) -> CaseLibrary | None:
    """Return the open library in `folder` if it is of this bundle; remove what else a killed demo left there."""
    if (folder / "library.json").is_file():
        library = CaseLibrary.open(folder)
        if library.info()["bundle_hash"] == bundle_hash:
            return library
        library.close()
    shutil.rmtree(folder, ignore_errors=True)
    return None
