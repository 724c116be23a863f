"""A training run: cohort and labels in, a bundle out; killed at any moment, it goes on where it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from greenrfm.bundle import Bundle
from greenrfm.cohort import Cohort, Study, split_by_patient
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet, LabelTable
from greenrfm.networks import DualEncoder, Supervised, VisionAlone
from greenrfm.progress import Progress
from greenrfm.training.align import train_alignment
from greenrfm.training.batches import TrainingSet
from greenrfm.training.checks import PARTS, check_labels, check_reports, learnable, parts_of
from greenrfm.training.distributed import first_alone, largest, one_of_several
from greenrfm.training.encoders import load_stage, save_stage, untrained_dual, untrained_vision
from greenrfm.training.finish import Split, finish_bundle
from greenrfm.training.metrics import Metrics
from greenrfm.training.page import page_now_and_then, write_page
from greenrfm.training.precision import make_fabric, precision_of
from greenrfm.training.recipe import Recipe
from greenrfm.training.reports import Reports
from greenrfm.training.run_folder import begin, check_folder, describe, facts, software
from greenrfm.training.session import Session
from greenrfm.training.stages import train_text, train_vision
from greenrfm.training.validation import dual_auc
from greenrfm.training.volumes import Crops, Prepared, StudyFiles, prepare_readable
from greenrfm.training.vram import CHOSEN, remembered

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}


@dataclass(frozen=True)
class RunResult:
    """What a run made; `left_out` names the findings of the set with too few studies to learn, `why` says it.

    `unreadable` are the studies that were skipped because of their image, and why.
    """

    bundle: Bundle
    cohort: Cohort
    left_out: tuple[str, ...]
    why: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)


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
    cache: Path | None = None,
    skip_unreadable: bool = False,
    checkpoint_minutes: float = 10.0,
    checkpoint_steps: int | None = None,
    cancel: Callable[[], bool] | None = None,
    vram: int | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> RunResult:
    """Train a cohort's model: prepare → stage 1 vision, stage 1 text → stage 2 → export, calibrate → `out`/bundle.

    A recipe without text goes from stage 1 vision to the export; no report is needed then, and none is read.
    Studies without a split get one by patient (70/15/15). The test part is never opened. With `resume` the
    stages that `out` holds are kept, and the one that was begun goes on from its newest checkpoint; the run must
    be the same (recipe, labels, split, seed).

    Parameters
    ----------
    cache
        Folder of prepared volumes, which runs may share; by default `out`/prepared.
    skip_unreadable
        Leave out studies without a readable image, each with a sentence to `say`; else the first ends the run.
    cancel
        Asked after every step; true saves and ends.
    vram
        Bytes that micro-batch and checkpointing are measured to fit; `say` is told what was chosen.

    Raises
    ------
    UserError
        If `out` holds another run, a study has no image, report or labels, the labels are of other studies, a
        split is empty, or nothing can be learned. `Cancelled`, also a UserError, once `cancel` returned true.
    """
    cohort = split_by_patient(cohort, FRACTIONS, seed) if any(not s.split for s in cohort) else cohort
    check_labels(labels, cohort)
    for sentence in recipe.network.inputs.unread(cohort):
        say(sentence)
    fabric = make_fabric()
    volumes, workers = cache or out / "prepared", workers or os.cpu_count() or 1

    def prepared(studies: Sequence[Study], skip: bool) -> Prepared:
        work = partial(prepare_readable, studies, recipe.preprocessing, volumes, workers, session.asking())
        return first_alone(fabric, partial(work, skip_unreadable=skip, inputs=recipe.network.inputs))

    session = Session(
        out,
        progress,
        Metrics(out),
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        cancel=cancel,
        epoch_ended=page_now_and_then(out, recipe.name),
    )
    unreadable: Mapping[str, str] = {}
    if skip_unreadable:
        check_folder(out, resume)
        unreadable = prepared([study for study in cohort if study.split in PARTS], True).unreadable
        for study_id, why in unreadable.items():
            say(f"skipped: study {study_id}: {why}")
        cohort = Cohort(cohort.path, tuple(study for study in cohort if study.study_id not in unreadable))
    parts = parts_of(cohort)
    learned = learnable(labels.select(findings.keys), parts)
    findings = findings.subset(learned.keys)
    states = {name: labels.select(learned.keys).rows(s.study_id for s in studies) for name, studies in parts.items()}
    for sentence in learned.left_out.values():
        say(sentence)
    if not recipe.is_vision_only:
        check_reports(parts["train"])
    with session.alone(fabric.is_global_zero), one_of_several(fabric):
        if fabric.is_global_zero:
            begin(out, facts(recipe, seed, learned.keys, parts, states), resume)
            describe(out, recipe, cohort, precision_of(fabric), fabric.world_size)
        if vram is not None or (out / CHOSEN).is_file():
            recipe, said = remembered(out, recipe, len(learned.keys), vram, fabric)
            say(said)
        files = prepared([*parts["train"], *parts["validation"]], False).files
        of = {name: [files[study.study_id] for study in studies] for name, studies in parts.items()}
        data = training_set(parts["train"], of["train"], states["train"], recipe)
        validation = validation_set(parts["validation"], of["validation"], states["validation"], recipe)
        model = train_stages(fabric, recipe, data, validation, out, seed, session)
        if fabric.is_global_zero:
            provenance = {
                "recipe": recipe.travelling(),
                "seed": seed,
                "studies": {name: len(studies) for name, studies in parts.items()},
                "studies_unreadable": len(unreadable),
                "findings_left_out": list(learned.left_out),
                "software": software(),
            }
            patients = tuple(study.patient_id for study in parts["validation"])
            measured = Split(validation.crops, states["validation"], patients)
            finish_bundle(
                model, recipe, findings, measured, data.crops, out, provenance, intended_use, session.asking()
            )
            write_page(out, recipe.name)
        fabric.barrier()
        return RunResult(Bundle.load(out / "bundle"), cohort, tuple(learned.left_out), learned.left_out, unreadable)


def train_stages(
    fabric: Fabric, recipe: Recipe, data: TrainingSet, validation: TrainingSet, out: Path, seed: int, session: Session
) -> DualEncoder | VisionAlone:
    """Train the stages that `out` does not hold yet, each into a file of its own, and return the model of the last."""
    files = {name: out / f"{name}.pt" for name in ("stage1_vision", "stage1_text", "stage2")}

    def stage(name: str, run: Callable[[], Supervised | DualEncoder]) -> None:
        if not files[name].is_file():
            try:
                trained = run()
            except torch.OutOfMemoryError:
                # Steps and validation say so themselves: this is the network alone.
                raise UserError(
                    f"{name}: the device is out of memory before the first step; take a smaller width or freeze layers "
                    "in another run folder, or go on with --resume on a larger device"
                ) from None
            if fabric.is_global_zero:
                save_stage(trained, files[name])
                rmtree(out / "checkpoints", ignore_errors=True)
                write_page(out, recipe.name)
        fabric.barrier()
        (wish,) = largest(fabric, session.wish())
        if wish:
            session.stop(wish, f"cancelled after {name}, which is kept", fabric.is_global_zero)

    stage("stage1_vision", lambda: train_vision(fabric, recipe, data, seed, session, validation))
    if recipe.is_vision_only:
        return VisionAlone(load_stage(untrained_vision(recipe, data.states.shape[1]), files["stage1_vision"]))
    stage("stage1_text", lambda: train_text(fabric, recipe, data, seed, session, validation))
    vision, text = files["stage1_vision"], files["stage1_text"]
    watch = dual_auc(fabric, validation.crops, validation.states, len(data.studies), recipe.alignment_plan)
    stage("stage2", lambda: train_alignment(fabric, recipe, data, vision, text, seed, session, watch))
    return load_stage(untrained_dual(recipe, data.states.shape[1]), files["stage2"])


def training_set(
    studies: Sequence[Study], files: Sequence[StudyFiles], states: NDArray[np.int8], recipe: Recipe
) -> TrainingSet:
    """Return what the stages learn from; raise UserError for a study without a report, if the recipe aligns text."""
    if not recipe.is_vision_only:
        check_reports(studies)
    return _set(studies, files, states, recipe)


def validation_set(
    studies: Sequence[Study], files: Sequence[StudyFiles], states: NDArray[np.int8], recipe: Recipe
) -> TrainingSet:
    """Return what the stages are watched on; a report may be missing, and then says nothing."""
    return _set(studies, files, states, recipe)


def _set(
    studies: Sequence[Study], files: Sequence[StudyFiles], states: NDArray[np.int8], recipe: Recipe
) -> TrainingSet:
    return TrainingSet(
        tuple(study.study_id for study in studies),
        Crops(files, recipe.preprocessing.crop, recipe.network.inputs),
        Reports(recipe, [study.report for study in studies]),
        states,
    )
