"""A generated cohort of knee MR on disk: three planes and several sequences a study, some of them missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from greenrfm.cohort import Cohort, Study, image_column
from greenrfm.files import write_text
from greenrfm.phantoms.cohort import begin, planned, read_truth, write_all, write_tables
from greenrfm.phantoms.knee_anatomy import SEQUENCES
from greenrfm.phantoms.knee_study import KneeStudy, draw_knee_study
from greenrfm.progress import Progress
from greenrfm.volumes import PLANES, Volume, write_volume

FINDING_SET = "knee-mr-14"
VERSION = 1
COLUMNS = tuple(image_column(sequence, plane) for plane in PLANES for sequence in SEQUENCES)


def write_knee_cohort(out: Path, studies: int, *, seed: int, matrix: int, workers: int, progress: Progress) -> Cohort:
    """Write `studies` generated knee MRs below `out` and return their cohort, split by patient.

    `out`/volumes has a folder per study with <sequence>_<plane>.nii.gz: thick slices, a little oblique, stored in
    various orientations, each with a scale of its own; what a study lacks is empty in cohort.csv. `out`/truth has a
    folder per study with a mask per present finding, on a grid of 1 mm in the patient, and truth.json. labels.csv is
    what the reports said, truth.csv what was drawn; `normal` is 1 where nothing was. A killed run goes on.

    Raises UserError if `out` holds something else or a cohort with another seed or matrix.
    """
    begin(out, {"version": VERSION, "body": "knee", "seed": seed, "matrix": matrix})
    plan = planned(studies, seed)
    write_all(out, plan, partial(_write_one, str(out), matrix), workers, progress)
    truths = [read_truth(out, study_id) for study_id, *_ in plan]
    cohort = Cohort(
        out / "cohort.csv",
        tuple(
            Study(
                study_id,
                f"P{patient:05d}",
                {column: _file(out, study_id, column) for column in COLUMNS if column in truth["images"]},
                truth["report"],
                modality="MR",
                extra={"sex": truth["sex"], "age": str(truth["age"])},
            )
            for (study_id, patient, _, _), truth in zip(plan, truths, strict=True)
        ),
    )
    return write_tables(out, cohort, truths, FINDING_SET, seed)


def _file(out: Path, study_id: str, column: str) -> Path:
    return out / "volumes" / study_id / f"{column.removeprefix('image_')}.nii.gz"


def _write_one(out: str, matrix: int, study_id: str, patient_seed: int, number: int) -> None:
    study = draw_knee_study(patient_seed, number, matrix)
    folder = Path(out) / "truth" / study_id
    for name, mask in study.masks.items():
        write_volume(Volume(mask.astype(np.int16), study.affine), folder / f"{name}.nii.gz")
    for (sequence, plane), volume in study.volumes.items():
        write_volume(volume, _file(Path(out), study_id, image_column(sequence, plane)))
    # Written last: it says that the study is complete.
    write_text(folder / "truth.json", _truth(study))


def _truth(study: KneeStudy) -> str:
    return json.dumps(
        {
            "present": sorted(study.masks) or ["normal"],
            "instances": [asdict(instance) for instance in study.instances],
            "said": {key: state.name for key, state in study.said.items()},
            "omitted": list(study.omitted),
            "report": study.report,
            "images": [image_column(*key) for key in study.volumes],
            "sex": study.patient.sex,
            "age": study.patient.age,
            "side": study.patient.side,
        },
        indent=1,
    )
