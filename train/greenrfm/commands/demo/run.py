"""The demo from the first voxel to the page: every stage leaves a file, and a killed demo goes on."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.cohort import Cohort, Study
from greenrfm.commands.demo.clock import Clock, machine, peak_rss_mb, renamed
from greenrfm.commands.demo.examples import draw_examples
from greenrfm.commands.demo.heldout import heat_map_hits, read_held_out
from greenrfm.commands.demo.histogram import histogram_control
from greenrfm.commands.demo.label_quality import label_quality
from greenrfm.commands.demo.page import Material, write_page
from greenrfm.commands.demo.past_cases import fill_library, first_query
from greenrfm.commands.demo.results import Results, summary
from greenrfm.commands.demo.shuffled import STAGE as SHUFFLED
from greenrfm.commands.demo.shuffled import shortened, shuffled_control
from greenrfm.distill import LexiconLabeler, label_reports, write_evidence
from greenrfm.errors import UserError
from greenrfm.evaluation import ScoreTable
from greenrfm.files import write_text
from greenrfm.findings import LabelTable, load_finding_set
from greenrfm.phantoms.cohort import FINDING_SET, write_chest_cohort
from greenrfm.phantoms.lesions import LESIONS
from greenrfm.progress import Progress
from greenrfm.training.recipe import Recipe, load_recipe
from greenrfm.training.run import train, training_set
from greenrfm.training.volumes import prepare

SPLITS = ("train", "validation", "test")
# Past cases that the library holds: enough to find similar ones, few enough to add in half a minute.
LIBRARY_CASES = 200


@dataclass(frozen=True)
class Files:
    """Where the demo puts things below its folder."""

    out: Path

    @property
    def cohort(self) -> Path:
        """Return the folder of the generated cohort."""
        return self.out / "cohort"

    @property
    def run(self) -> Path:
        """Return the folder of the training run, which holds the bundle."""
        return self.out / "run"

    @property
    def library(self) -> Path:
        """Return the folder of the case library."""
        return self.out / "library"

    @property
    def labels(self) -> Path:
        """Return the distilled labels of all studies."""
        return self.out / "labels.csv"

    @property
    def scores(self) -> Path:
        """Return the held-out studies' probabilities."""
        return self.out / "scores.csv"

    @property
    def truth(self) -> Path:
        """Return the held-out studies' true states."""
        return self.out / "truth.csv"

    @property
    def page(self) -> Path:
        """Return the page."""
        return self.out / "index.html"

    @property
    def summary(self) -> Path:
        """Return the numbers of the page for machines."""
        return self.out / "summary.json"


def run_demo(
    out: Path,
    *,
    seed: int,
    studies: int,
    progress: Progress,
    say: Callable[[str], None],
    recipe: str = "tiny",
    matrix: int = 112,
) -> None:
    """Generate a cohort, distil, train, read held-out patients, and write `out`/index.html and summary.json.

    Parameters
    ----------
    out
        A new or empty folder, or that of a demo with the same settings, which goes on where it was.
    seed
        Of the cohort, its split and the training.
    studies
        How many studies are generated; 18 % of the patients are held out.
    say
        Gets the lines that tell where everything is, at the end.
    recipe
        Name or file of the recipe.
    matrix
        Rows and columns of the generated volumes.

    Raises UserError if `out` holds anything else, and whatever the stages raise.
    """
    files = Files(Path(os.path.abspath(out)))
    plan = load_recipe(recipe)
    resumed = _begin(files.out, {"demo": 1, "seed": seed, "studies": studies, "recipe": recipe, "matrix": matrix})
    clock, workers = Clock(progress), os.cpu_count() or 1

    cohort = write_chest_cohort(files.cohort, studies, seed=seed, matrix=matrix, workers=workers, progress=clock)
    labels = _distil(cohort, files, clock)
    trained = train(
        cohort,
        labels,
        # The other findings of the set never occur in a phantom.
        load_finding_set(FINDING_SET).subset(tuple(LESIONS)),
        plan,
        files.run,
        seed=seed,
        resume=True,
        progress=clock,
        intended_use="demonstration",
        workers=workers,
    )
    bundle = trained.bundle
    parts = {name: trained.cohort.by_split(name).studies for name in SPLITS}
    test = sorted(parts["test"], key=lambda study: study.study_id)
    truth = LabelTable.read(files.cohort / "truth.csv")
    states = truth.select(bundle.findings.keys).rows(study.study_id for study in test)
    held_out = read_held_out(bundle, test, states, clock)
    ids = tuple(study.study_id for study in test)
    ScoreTable(ids, held_out.keys, held_out.probabilities, held_out.patients).write(files.scores)
    LabelTable(ids, held_out.keys, states).write(files.truth)

    learned = {name: labels.select(held_out.keys).rows(study.study_id for study in parts[name]) for name in SPLITS[:2]}
    histogram = histogram_control({**parts, "test": test}, learned, plan.labels.not_mentioned_weight, workers, clock)
    shuffled = _shuffled(files, parts["train"], learned["train"], test, plan, seed, workers, clock)
    results = Results(
        model=held_out.classification(),
        histogram=held_out.classification(histogram.probabilities),
        shuffled=held_out.classification(shuffled),
        calibration=held_out.calibration(),
        retrieval=held_out.retrieval(),
        similar=held_out.volume_to_volume(),
        heatmaps=heat_map_hits(held_out, files.cohort, clock),
        labels=label_quality(
            labels,
            LabelTable.read(files.cohort / "labels.csv"),
            truth,
            {study.study_id: study.patient_id for study in cohort},
        ),
    )
    past = parts["train"][:LIBRARY_CASES]
    with fill_library(files.library, bundle, past, labels, clock) as library:
        query = first_query(library, held_out, labels)
    examples = draw_examples(held_out, results.heatmaps, files.cohort, clock)
    clock("draw pictures", len(examples), len(examples))
    facts = {
        "seconds": clock.seconds,
        "peak_rss_mb": peak_rss_mb(),
        "resumed": resumed,
        "machine": machine(),
        "seed": seed,
        "recipe": plan.name,
        "studies": {name: len(part) for name, part in parts.items()},
        "patients": {name: len({study.patient_id for study in part}) for name, part in parts.items()},
        "findings_left_out": list(trained.left_out),
        "histogram_strength": histogram.strength,
        "vision_epochs": plan.stage1_vision.epochs,
        "shuffled_epochs": shortened(plan).stage1_vision.epochs,
    }
    paths = {
        "page": files.page,
        "bundle": bundle.folder,
        "library": files.library,
        "scores": files.scores,
        "truth": files.truth,
        "labels": files.labels,
        "cohort": files.cohort / "cohort.csv",
    }
    command = reading_command(bundle.folder)
    write_page(
        files.page,
        Material(
            results, held_out, {"HU histogram": histogram.probabilities, "shuffled labels": shuffled},
            query, examples, clock.costs, plan, facts, paths, command, library_size=len(past),
        ),
    )  # fmt: skip
    clock("write the page", 1, 1)
    write_text(files.summary, json.dumps(summary(results, facts, paths), indent=1, allow_nan=False) + "\n")
    say(f"The page:         {files.page}")
    say(f"The bundle:       {bundle.folder}")
    say(f"The case library: {files.library}")
    say(f"Read your own scan (a demonstration: the scores mean nothing):\n  {command}")


def reading_command(bundle: Path) -> str:
    """Return the command that reads a scan with this bundle, as this very installation is called."""
    started = Path(os.path.abspath(sys.argv[0]))
    beside = Path(os.path.abspath(sys.executable)).with_name("greenrfm")
    for script in (started, beside):
        if script.stem == "greenrfm" and script.is_file():
            program = [str(script)]
            break
    else:
        program = [os.path.abspath(sys.executable), "-m", "greenrfm"]
    return shlex.join([*program, "read", str(bundle), "your_scan.nii.gz"])


def _begin(out: Path, settings: dict[str, Any]) -> bool:
    """Make the demo's folder or check that it holds this very demo; return whether it goes on with one."""
    record = out / "demo.json"
    text = json.dumps(settings) + "\n"
    if record.is_file():
        if record.read_text(encoding="utf-8") != text:
            raise UserError(f"{out} holds a demo with other settings; name another folder with --out or remove it")
        return True
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no demo; name another folder with --out")
    write_text(record, text)
    return False


def _distil(cohort: Cohort, files: Files, clock: Clock) -> LabelTable:
    labeler = LexiconLabeler(load_finding_set(FINDING_SET))
    reports = [(study.study_id, study.report) for study in cohort]
    labels, evidence = label_reports(labeler, reports, lambda done, total: clock("distil reports", done, total))
    labels.write(files.labels)
    write_evidence(files.labels.with_suffix(".evidence.jsonl"), evidence)
    return labels


def _shuffled(
    files: Files,
    training: Sequence[Study],
    states: NDArray[np.int8],
    test: Sequence[Study],
    recipe: Recipe,
    seed: int,
    workers: int,
    clock: Clock,
) -> NDArray[np.float64]:
    """Return the shuffled-label control's probabilities of the test studies, from the run's own prepared volumes."""
    prepared = prepare(training, recipe.preprocessing, files.run / "prepared", workers, renamed(clock, SHUFFLED))
    data = training_set(training, prepared, states, recipe)
    return shuffled_control(data, test, recipe, files.out / "shuffled", seed=seed, workers=workers, progress=clock)
