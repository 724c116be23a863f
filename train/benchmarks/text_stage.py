"""How well the text stage learns to read real chest CT reports: macro-AUROC on reports it has not seen.

    python train/benchmarks/text_stage.py ../shared/data/reports_CT-CLIP_train/train.csv

The CSV has columns `AccessionNo`, `report_text` and one of 0/1 per finding, headed by the finding's name; beside it
lies `map_NAME_classifier.csv`, from whose names in CT-RATE patients are known (the labelled reports of CT-CLIP,
CC BY-NC-SA 4.0; not part of this project). One report of each patient and of each wording is kept. A shuffle with
seed 0 makes three parts: training, the validation part that rates, epochs and layers were chosen on, and held out,
which `--development` leaves alone. Beside the stage, on the same parts, stand word counts with logistic regression
and the latents of the same text encoder untrained.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from greenrfm.commands.demo.clock import machine
from greenrfm.findings import load_finding_set
from greenrfm.networks import text_encoder_folder
from greenrfm.training.batches import TrainingSet
from greenrfm.training.encoders import text_encoder
from greenrfm.training.metrics import Metrics
from greenrfm.training.precision import hardware_precision, make_fabric
from greenrfm.training.recipe import Recipe, load_recipe
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.stages import train_text
from greenrfm.training.validation import logits_of, macro_auc
from greenrfm.training.volumes import Crops

SPLIT_SEED, VALIDATION, HELD_OUT = 0, 100, 160
KEYS = load_finding_set("chest-ct-18").keys
States = NDArray[np.int8]
Logits = NDArray[np.floating]


@dataclass(frozen=True)
class Labelled:
    """Reports and their states (N, 18)."""

    texts: list[str]
    states: States

    def __getitem__(self, rows: slice) -> Labelled:
        """Return a part."""
        return Labelled(self.texts[rows], self.states[rows])

    def training_set(self, recipe: Recipe) -> TrainingSet:
        """Return what the stage learns from; there are no volumes."""
        numbers = tuple(map(str, range(len(self.texts))))
        return TrainingSet(numbers, Crops([], recipe.preprocessing.crop), Reports(recipe, self.texts), self.states)


def main() -> None:
    """Print the baselines, a line per seed, and what each finding reaches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--development", action="store_true", help="measure each epoch on the validation part only")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-2, help="of the head")
    parser.add_argument("--encoder-rate", type=float, default=7e-4)
    parser.add_argument("--frozen", type=int, default=5, help="transformer layers that stay as they are")
    parser.add_argument("--pooling", choices=("cls", "mean"), default="mean", help="of the last layer's tokens")
    parser.add_argument("--tokens", type=int, default=512, help="of a chunk; longer reports are pooled chunks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-baselines", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    reports = read(arguments.csv)
    held_out, rest = reports[-HELD_OUT:], reports[:-HELD_OUT]
    # The final training takes the validation part in: nothing is chosen on it any more.
    train, asked = (rest[:-VALIDATION], rest[-VALIDATION:]) if arguments.development else (rest, held_out)
    with tempfile.TemporaryDirectory() as scratch:
        measure(recipe_of(arguments, without_attention_dropout(Path(scratch))), train, asked, arguments)


def measure(recipe: Recipe, train: Labelled, asked: Labelled, arguments: argparse.Namespace) -> None:
    """Train on one part, ask the other, print the table."""
    here = machine()
    print(
        f"{here['processor']}, {arguments.threads} thread, torch {here['torch']}, {hardware_precision()}; split seed "
        f"{SPLIT_SEED}: {len(train.texts)} reports to train on, {len(asked.texts)} "
        f"{'for validation' if arguments.development else 'held out'}, {len(KEYS)} findings",
        flush=True,
    )
    learning, unseen = train.training_set(recipe), asked.training_set(recipe)
    words = None
    if not arguments.no_baselines:
        words = word_counts(train, asked.texts)
        print(f"word counts, logistic regression   {described(words, asked.states)}", flush=True)
        still = untrained(recipe, learning, unseen)
        print(f"untrained encoder, logistic regression   {described(still, asked.states)}", flush=True)
    found = [stage(recipe, learning, unseen, seed, arguments.development) for seed in arguments.seeds]
    areas = [macro_auc(logits, asked.states) or 0.0 for logits in found]
    spread = statistics.stdev(areas) if len(areas) > 1 else float("nan")
    print(f"mean of {len(areas)} seeds {statistics.mean(areas):.3f}, standard deviation {spread:.3f}")
    print(f"asked {len(areas)} times, once per seed\n\nfinding: mean of the seeds, word counts (positives)")
    for column, key in enumerate(KEYS):
        truth = asked.states[:, [column]]
        area = statistics.mean(macro_auc(logits[:, [column]], truth) or float("nan") for logits in found)
        counted = "" if words is None else f"{macro_auc(words[:, [column]], truth) or float('nan'):.3f} "
        print(f"  {key:38s}{area:.3f} {counted}({truth.sum()})")


def read(path: Path) -> Labelled:
    """Return the reports, shuffled, one of each known patient and of each wording."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    with (path.parent / f"map_{path.stem}_classifier.csv").open(encoding="utf-8-sig", newline="") as stream:
        names = {line["AccessionNo"]: line["NameinCTRATE"] for line in csv.DictReader(stream)}
    random.Random(SPLIT_SEED).shuffle(lines)
    seen: set[str] = set()
    kept = []
    for line in lines:
        # "train_17051_a" is scan a of a patient; others are not in CT-RATE.
        name = names[line["AccessionNo"]]
        patient = name.rpartition("_")[0] if name.startswith(("train_", "valid_")) else f"of {line['AccessionNo']}"
        marks = {patient, line["report_text"]}
        if not marks & seen:
            kept.append(line)
        seen |= marks
    headed = {name.lower().replace(" ", "_"): name for name in lines[0]}
    states = np.array([[line[headed[key]] == "1" for key in KEYS] for line in kept], np.int8)
    return Labelled([line["report_text"] for line in kept], states)


def without_attention_dropout(folder: Path) -> str:
    """Copy MiniLM into the folder, without dropout of attention, and return its name.

    Torch has no fast attention with dropout on a CPU: with it a step takes up to twice as long.
    """
    copy = shutil.copytree(text_encoder_folder("minilm"), folder / "minilm")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["attention_probs_dropout_prob"] = 0.0
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(copy)


def recipe_of(arguments: argparse.Namespace, encoder: str) -> Recipe:
    """Return `lite` with this text encoder and the text stage of the command line."""
    recipe = load_recipe("lite")
    plan = recipe.text_plan.model_copy(
        update={
            "epochs": arguments.epochs,
            "batch": arguments.batch,
            # Two at a time are padded less.
            "micro_batch": min(arguments.batch, 2),
            "rate": arguments.rate,
            "encoder_rate": arguments.encoder_rate,
            "weight_decay": 1e-2,
            "warmup": 0.1,
            "clip": 1.0,
            # Every epoch is measured on the whole of the validation part.
            "patience": arguments.epochs if arguments.development else None,
        }
    )
    network = recipe.network.model_copy(
        update={
            "text_encoder": encoder,
            "text_pooling": arguments.pooling,
            "text_layers_frozen": arguments.frozen,
            "max_tokens": arguments.tokens,
        }
    )
    return recipe.model_copy(update={"stage1_text": plan, "network": network})


def stage(recipe: Recipe, learning: TrainingSet, unseen: TrainingSet, seed: int, development: bool) -> Logits:
    """Train the stage, print what it reaches, and return its logits (N, C) of the unseen reports.

    In development each epoch is measured and the best one's weights are those asked at the end; otherwise the
    unseen reports are asked once, after the last epoch.
    """
    fabric = make_fabric()
    begun, cpu = time.monotonic(), time.process_time()
    session = Session(progress=watch, metrics=Epochs())
    model = train_text(fabric, recipe, learning, seed, session, unseen if development else None)
    minutes, cpu_minutes = (time.monotonic() - begun) / 60, (time.process_time() - cpu) / 60
    model.eval()
    unseen.reports.remember(model.encoder, fabric, watch)
    with torch.no_grad(), fabric.autocast():
        logits = logits_of(lambda rows: unseen.reports.pooled(model, rows, fabric), range(len(unseen.studies)), 2)
    print(
        f"text stage, seed {seed}   {described(logits, unseen.states)}, {cpu_minutes:.1f} CPU min, "
        f"{minutes:.1f} min on the clock",
        flush=True,
    )
    return logits


class Epochs(Metrics):
    """Prints each epoch."""

    def write(self, kind: str, stage: str, step: int, epoch: int, facts: object) -> None:  # type: ignore[override]
        """Print the facts of an epoch."""
        if kind == "epoch":
            print(f"  epoch {epoch}: {facts}", flush=True)


def watch(stage: str, done: int, total: int, metrics: object = None) -> None:
    """Say nothing: epochs are printed."""


def word_counts(train: Labelled, asked: Sequence[str]) -> Logits:
    """Return logits (N, C) of logistic regressions on tf-idf of words and pairs of words."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    return regressions(vectors.fit_transform(train.texts), train.states, vectors.transform(asked), strength=10.0)


def untrained(recipe: Recipe, train: TrainingSet, asked: TrainingSet) -> Logits:
    """Return logits (N, C) of logistic regressions on the untrained encoder's latents."""
    fabric, encoder = make_fabric(), text_encoder(recipe).eval()
    latents = []
    for part in (train, asked):
        part.reports.remember(encoder, fabric, watch)
        with torch.no_grad(), fabric.autocast():
            every = range(len(part.studies))
            latents.append(logits_of(lambda rows, part=part: part.reports.pooled(encoder, rows, fabric), every, 2))
    scaler = StandardScaler().fit(latents[0])
    return regressions(scaler.transform(latents[0]), train.states, scaler.transform(latents[1]), strength=0.01)


def regressions(train: object, states: States, asked: object, strength: float) -> Logits:
    """Return each finding's logits by a logistic regression of its own."""
    fits = (LogisticRegression(C=strength, max_iter=2000).fit(train, column) for column in states.T)
    return np.stack([fit.decision_function(asked) for fit in fits], axis=1)


def described(logits: Logits, states: States) -> str:
    """Return the macro-AUROC with the 95 % interval of 500 bootstraps over reports."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(states), len(states)) for _ in range(500)]
    areas = [macro_auc(logits[rows], states[rows]) or 0.0 for rows in drawn]
    low, high = np.percentile(areas, [2.5, 97.5])
    return f"macro-AUROC {macro_auc(logits, states):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
