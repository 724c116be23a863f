"""A generated cohort on disk: cohort.csv, labels.csv, truth.csv, and per study the volume and its truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from greenrfm.cohort import Cohort, Study, split_by_patient, write_cohort
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings import LabelTable, State, load_finding_set
from greenrfm.phantoms.study import draw_study
from greenrfm.progress import Progress
from greenrfm.volumes import Volume, write_volume
from greenrfm.workers import make_pool

FINDING_SET = "chest-ct-18"
FRACTIONS = {"train": 0.7, "validation": 0.12, "test": 0.18}
# One patient in this many has a second study, which must stay in the same split.
EVERY = 8
SPECIFICATION = "phantoms.json"
VERSION = 1


def write_chest_cohort(out: Path, studies: int, *, seed: int, matrix: int, workers: int, progress: Progress) -> Cohort:
    """Write `studies` generated chest CTs below `out` and return their cohort, split by patient.

    `out`/volumes holds NIfTI files in various orientations, `out`/truth a folder per study with a mask
    per present finding, the body, and truth.json: what was present (with severity, side, size), what the
    report said of each finding, what it left out. labels.csv is what the reports said, truth.csv what the
    volumes show. Studies already written are kept, so a killed run goes on.

    Raises UserError if `out` holds something else or a cohort with another seed or matrix.
    """
    begin(out, {"version": VERSION, "body": "chest", "seed": seed, "matrix": matrix})
    plan = planned(studies, seed)
    write_all(out, plan, partial(_write_one, str(out), matrix), workers, progress)
    truths = [read_truth(out, study_id) for study_id, *_ in plan]
    cohort = Cohort(
        out / "cohort.csv",
        tuple(
            Study(study_id, f"P{patient:05d}", {"image": out / "volumes" / f"{study_id}.nii.gz"}, truth["report"],
                  modality="CT", extra={"sex": truth["sex"], "age": str(truth["age"])})
            for (study_id, patient, _, _), truth in zip(plan, truths, strict=True)
        ),
    )  # fmt: skip
    return write_tables(out, cohort, truths, FINDING_SET, seed)


def begin(out: Path, specification: Mapping[str, Any]) -> None:
    """Note what `out` is to hold; raise UserError if it holds something else or a cohort made otherwise."""
    text = json.dumps(specification)
    record = out / SPECIFICATION
    if record.is_file() and record.read_text(encoding="utf-8") != text:
        raise UserError(f"{out} holds a cohort made with other settings; name another folder or remove it")
    if not record.is_file() and out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and holds no generated cohort; name another folder")
    write_text(record, text)


def write_tables(out: Path, cohort: Cohort, truths: Sequence[Mapping[str, Any]], finding_set: str, seed: int) -> Cohort:
    """Split the cohort by patient and write cohort.csv, labels.csv (said) and truth.csv (shown); return it split."""
    cohort = split_by_patient(cohort, FRACTIONS, seed)
    keys = load_finding_set(finding_set).keys
    ids = tuple(study.study_id for study in cohort)
    said = [[int(State[truth["said"][key]]) for key in keys] for truth in truths]
    shown = [[int(key in truth["present"]) for key in keys] for truth in truths]
    LabelTable(ids, keys, np.array(said, np.int8)).write(out / "labels.csv")
    LabelTable(ids, keys, np.array(shown, np.int8)).write(out / "truth.csv")
    write_cohort(cohort, out / "cohort.csv")
    return cohort


def truth_masks(out: Path, study_id: str) -> dict[str, Path]:
    """Return the mask file of each finding present in a generated study; key "body" is the body."""
    folder = out / "truth" / study_id
    return {path.name.removesuffix(".nii.gz"): path for path in sorted(folder.glob("*.nii.gz"))}


def planned(studies: int, seed: int) -> list[tuple[str, int, int, int]]:
    """Return study id, patient number, patient seed and study number, the same for every longer plan's beginning."""
    plan: list[tuple[str, int, int, int]] = []
    patient = 0
    while len(plan) < studies:
        for number in range(2 if patient % EVERY == EVERY - 1 else 1):
            plan.append((f"S{patient:05d}-{number + 1}", patient, seed * 1_000_003 + patient, number))
        patient += 1
    return plan[:studies]


def write_all(
    out: Path,
    plan: Sequence[tuple[str, int, int, int]],
    write: Callable[[str, int, int], None],
    workers: int,
    progress: Progress,
) -> None:
    """Write what is missing, in `workers` processes: `write` takes study id, patient seed and study number."""
    missing = [item for item in plan if not (out / "truth" / item[0] / "truth.json").is_file()]
    done = len(plan) - len(missing)
    progress("generate studies", done, len(plan))
    with make_pool(workers) as pool:
        jobs = [pool.submit(write, item[0], item[2], item[3]) for item in missing]
        for job in as_completed(jobs):
            job.result()
            done += 1
            progress("generate studies", done, len(plan))


def _write_one(out: str, matrix: int, study_id: str, patient_seed: int, number: int) -> None:
    study = draw_study(patient_seed, number, matrix)
    folder = Path(out) / "truth" / study_id
    for name, mask in {**study.masks, "body": study.body}.items():
        write_volume(Volume(mask.astype(np.int16), study.volume.affine), folder / f"{name}.nii.gz")
    write_volume(study.volume, Path(out) / "volumes" / f"{study_id}.nii.gz")
    truth = {
        "present": sorted(study.masks),
        "instances": [asdict(instance) for instance in study.instances],
        "said": {key: state.name for key, state in study.said.items()},
        "omitted": list(study.omitted),
        "report": study.report,
        "sex": study.patient.sex,
        "age": study.patient.age,
        "scanner": asdict(study.scanner),
    }
    # Written last: it says that the study is complete.
    write_text(folder / "truth.json", json.dumps(truth, indent=1))


def read_truth(out: Path, study_id: str) -> dict[str, Any]:
    """Return what truth.json says of a written study."""
    truth: dict[str, Any] = json.loads((out / "truth" / study_id / "truth.json").read_text(encoding="utf-8"))
    return truth
