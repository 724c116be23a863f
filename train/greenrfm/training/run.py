"""A training run: cohort and labels in, a bundle out; every stage leaves a file and is not repeated."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm import __version__
from greenrfm.bundle import Bundle
from greenrfm.cohort import Cohort, Study, split_by_patient, write_cohort
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings import FindingSet, LabelTable, State
from greenrfm.progress import Progress
from greenrfm.training.finish import Split, finish_bundle
from greenrfm.training.fit import make_fabric
from greenrfm.training.recipe import Recipe
from greenrfm.training.reports import Reports
from greenrfm.training.stages import (
    TrainingSet,
    load_stage,
    save_stage,
    train_alignment,
    train_text,
    train_vision,
    untrained_dual,
)
from greenrfm.training.volumes import Crops, prepare, volume_key

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}
# A finding needs this many studies with it and without it to be learned, and these to be calibrated.
LEAST_TRAIN, LEAST_VALIDATION = 5, 2
PACKAGES = ("torch", "monai", "transformers", "lightning-fabric", "onnx", "numpy", "SimpleITK")


@dataclass(frozen=True)
class RunResult:
    """What a run made; `left_out` names the findings of the set with too few studies to learn."""

    bundle: Bundle
    cohort: Cohort
    left_out: tuple[str, ...]


def train(
    cohort: Cohort,
    labels: LabelTable,
    findings: FindingSet,
    recipe: Recipe,
    out: Path,
    *,
    seed: int,
    resume: bool,
    progress: Progress,
    intended_use: str = "research",
    workers: int | None = None,
) -> RunResult:
    """Train a cohort's model: prepare → stage 1 vision, stage 1 text → stage 2 → export, calibrate → `out`/bundle.

    Studies without a split get one by patient (70/15/15). The test part is never opened. With `resume` the
    stages that `out` holds are kept; the run must be the same (recipe, labels, split, seed).

    Raises
    ------
    UserError
        If `out` holds another run, a study has no image, report or labels, or nothing can be learned.
    """
    cohort = split_by_patient(cohort, FRACTIONS, seed) if any(not s.split for s in cohort) else cohort
    parts = {name: cohort.by_split(name).studies for name in ("train", "validation")}
    for name, studies in parts.items():
        if len(studies) < 2:
            raise UserError(f"cohort {cohort.path} has {len(studies)} {name} studies; training needs more")
    kept, left_out = learnable(labels.select(findings.keys), parts)
    findings = findings.subset(kept)
    states = {name: labels.select(kept).rows(s.study_id for s in studies) for name, studies in parts.items()}
    _begin(out, _facts(recipe, seed, kept, parts, states), resume)
    write_cohort(cohort, out / "cohort.csv")
    workers = workers or max(1, (os.cpu_count() or 2))
    files = prepare([*parts["train"], *parts["validation"]], recipe.preprocessing, out / "prepared", workers, progress)
    count = len(parts["train"])
    data = training_set(parts["train"], files[:count], states["train"], recipe)

    fabric = make_fabric()
    stages = {name: out / f"{name}.pt" for name in ("stage1_vision", "stage1_text", "stage2")}
    if not stages["stage1_vision"].is_file():
        save_stage(train_vision(fabric, recipe, data, seed, progress), stages["stage1_vision"])
    if not stages["stage1_text"].is_file():
        save_stage(train_text(fabric, recipe, data, seed, progress), stages["stage1_text"])
    if not stages["stage2"].is_file():
        aligned = train_alignment(fabric, recipe, data, stages["stage1_vision"], stages["stage1_text"], seed, progress)
        save_stage(aligned, stages["stage2"])
    model = load_stage(untrained_dual(recipe, len(kept)), stages["stage2"])
    validation = Split(
        Crops(files[count:], recipe.preprocessing.crop),
        states["validation"],
        tuple(study.patient_id for study in parts["validation"]),
    )
    provenance = {
        "recipe": _without_paths(recipe),
        "seed": seed,
        "studies": {name: len(studies) for name, studies in parts.items()},
        "findings_left_out": list(left_out),
        "software": {
            "greenrfm": __version__,
            **{name: version(name) for name in PACKAGES},
            "python": platform.python_version(),
        },
    }
    bundle = finish_bundle(model, recipe, findings, validation, out, provenance, intended_use, progress)
    return RunResult(bundle, cohort, left_out)


def training_set(
    studies: Sequence[Study], files: Sequence[Path], states: NDArray[np.int8], recipe: Recipe
) -> TrainingSet:
    """Return what the stages learn from; raise UserError for a study without a report."""
    for study in studies:
        if not study.report:
            raise UserError(f"study {study.study_id} has no report; alignment needs one for every training study")
    return TrainingSet(
        tuple(study.study_id for study in studies),
        Crops(files, recipe.preprocessing.crop),
        Reports(recipe, [study.report for study in studies]),
        states,
    )


def learnable(labels: LabelTable, parts: dict[str, tuple[Study, ...]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the findings with enough studies present and not present, and those left out."""
    enough = np.ones(len(labels.keys), bool)
    for name, least in (("train", LEAST_TRAIN), ("validation", LEAST_VALIDATION)):
        states = labels.rows(study.study_id for study in parts[name])
        present = (states == State.PRESENT).sum(axis=0)
        absent = (states == State.ABSENT).sum(axis=0)
        enough &= (present >= least) & (absent >= least)
    kept = tuple(key for key, keep in zip(labels.keys, enough, strict=True) if keep)
    if not kept:
        raise UserError(
            f"no finding is stated present and stated absent in {LEAST_TRAIN} training studies and "
            f"{LEAST_VALIDATION} validation studies each; label more studies"
        )
    return kept, tuple(key for key in labels.keys if key not in kept)


def _facts(
    recipe: Recipe,
    seed: int,
    keys: Sequence[str],
    parts: dict[str, tuple[Study, ...]],
    states: dict[str, NDArray[np.int8]],
) -> dict[str, Any]:
    """Return what makes two runs the same."""
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"preprocessing"}),
        "preprocessing": recipe.preprocessing.to_dict(),
        "seed": seed,
        "findings": list(keys),
        "studies": {name: [study.study_id for study in studies] for name, studies in parts.items()},
        "labels": {name: values.tolist() for name, values in states.items()},
        "volumes": {
            name: [volume_key(study, recipe.preprocessing) for study in studies] for name, studies in parts.items()
        },
        # Hashes only: a run folder is shown around, reports are not.
        "reports": {
            name: [hashlib.sha256(study.report.encode()).hexdigest() for study in studies]
            for name, studies in parts.items()
        },
    }


def _without_paths(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe for the manifest, the text encoder's folder by its name only."""
    content: dict[str, Any] = recipe.model_dump(mode="json", exclude={"preprocessing"})
    content["network"]["text_encoder"] = Path(recipe.network.text_encoder).name
    return content


def _begin(out: Path, facts: dict[str, Any], resume: bool) -> None:
    """Make the run folder, or check that it holds this very run."""
    record = out / "run.json"
    text = json.dumps(facts, indent=1) + "\n"
    if not record.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out} is not empty and holds no run; name another folder")
        write_text(record, text)
    elif not resume:
        raise UserError(f"{out} already holds a run; go on with --resume or name another folder")
    elif record.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{out} was begun with another recipe, seed, split or labels ({record}); name another folder to start anew"
        )
