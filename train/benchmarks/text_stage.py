"""How well the text stage learns to read real chest CT reports: macro-AUROC on reports it has not seen.

    python train/benchmarks/text_stage.py ../shared/data/reports_CT-CLIP_train/train.csv

The CSV has a column `report_text` and one of 0/1 per finding, headed by the finding's name (the labelled reports of
CT-CLIP, CC BY-NC-SA 4.0; not part of this project). A shuffle with seed 0 makes three parts: training, the
validation part that rates, epochs and layers are chosen on, and held out, which `--development` leaves alone.
Beside the stage stand word counts with logistic regression, and the same text encoder frozen.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from greenrfm.findings import load_finding_set
from greenrfm.training.batches import TrainingSet
from greenrfm.training.encoders import text_encoder
from greenrfm.training.fit import make_fabric
from greenrfm.training.metrics import Metrics
from greenrfm.training.recipe import Recipe, load_recipe
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.stages import train_text
from greenrfm.training.validation import logits_of, macro_auc
from greenrfm.training.volumes import Crops

VALIDATION, HELD_OUT = 100, 200
States = NDArray[np.int8]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--development", action="store_true", help="measure on the validation part only")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-2, help="of the head")
    parser.add_argument("--encoder-rate", type=float, default=3e-4)
    parser.add_argument("--frozen", type=int, default=3, help="transformer layers that stay as they are")
    parser.add_argument("--tokens", type=int, default=128, help="of a chunk; longer reports are pooled chunks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-baselines", action="store_true")
    arguments = parser.parse_args()
    reports, states = read(arguments.csv)
    order = list(range(len(reports)))
    random.Random(0).shuffle(order)
    held_out, rest = order[-HELD_OUT:], order[:-HELD_OUT]
    # The final training takes the validation part in: nothing is chosen on it any more.
    train, asked = (rest[:-VALIDATION], rest[-VALIDATION:]) if arguments.development else (rest, held_out)
    recipe = recipe_of(arguments)
    print(f"{len(train)} reports to train on, {len(asked)} asked, {states.shape[1]} findings", flush=True)

    def part(rows: Sequence[int]) -> TrainingSet:
        texts = [reports[row] for row in rows]
        return TrainingSet(
            tuple(map(str, rows)), Crops([], recipe.preprocessing.crop), Reports(recipe, texts), states[rows]
        )

    if not arguments.no_baselines:
        words = word_counts([reports[row] for row in train], states[train], [reports[row] for row in asked])
        print(f"word counts, logistic regression   {described(words, states[asked])}", flush=True)
        still = frozen(recipe, part(train), part(asked))
        print(f"frozen encoder, logistic regression   {described(still, states[asked])}", flush=True)
    learning, unseen = part(train), part(asked)
    fabric = make_fabric()
    begun, cpu = time.monotonic(), time.process_time()
    # The held-out part is asked once, at the end.
    watched = unseen if arguments.development else None
    model = train_text(
        fabric, recipe, learning, arguments.seed, watch, Session(progress=watch, metrics=Loud()), watched
    )
    minutes, cpu_minutes = (time.monotonic() - begun) / 60, (time.process_time() - cpu) / 60
    model.eval()
    unseen.reports.remember(model.encoder, fabric, watch)
    with torch.no_grad(), fabric.autocast():
        logits = logits_of(lambda rows: unseen.reports.pooled(model, rows, fabric), len(asked), 8)
    print(f"text stage   {described(logits, states[asked])}")
    print(f"{minutes:.1f} minutes of wall clock, {cpu_minutes:.1f} of CPU; {torch.get_num_threads()} threads")
    for column, key in enumerate(load_finding_set("chest-ct-18").keys):
        area = macro_auc(logits[:, [column]], states[asked][:, [column]])
        print(f"  {key:38s}{area or float('nan'):.3f} ({states[asked][:, column].sum()})")


class Loud(Metrics):
    """Prints each epoch."""

    def write(self, kind: str, stage: str, step: int, epoch: int, facts: object) -> None:  # type: ignore[override]
        """Print the facts of an epoch."""
        if kind == "epoch":
            print(f"  epoch {epoch}: {facts}", flush=True)


def watch(stage: str, done: int, total: int, metrics: object = None) -> None:
    """Say nothing: epochs are printed."""


def read(path: Path) -> tuple[list[str], States]:
    """Return the reports and their states (N, 18)."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    names = {name.lower().replace(" ", "_"): name for name in lines[0]}
    keys = load_finding_set("chest-ct-18").keys
    return [line["report_text"] for line in lines], np.array(
        [[line[names[key]] == "1" for key in keys] for line in lines], np.int8
    )


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return `lite` with the text stage of the command line."""
    recipe = load_recipe("lite")
    stage = recipe.text_plan.model_copy(
        update={
            "epochs": arguments.epochs,
            "batch": arguments.batch,
            "rate": arguments.rate,
            "encoder_rate": arguments.encoder_rate,
            "weight_decay": 1e-2,
            "warmup": 0.1,
            "clip": 1.0,
        }
    )
    network = recipe.network.model_copy(update={"text_layers_frozen": arguments.frozen, "max_tokens": arguments.tokens})
    return recipe.model_copy(update={"stage1_text": stage, "network": network})


def word_counts(texts: Sequence[str], states: States, asked: Sequence[str]) -> NDArray[np.float64]:
    """Return logits (N, C) of logistic regressions on tf-idf of words and pairs of words."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    train, test = vectors.fit_transform(texts), vectors.transform(asked)
    return regressions(train, states, test, strength=10.0)


def frozen(recipe: Recipe, train: TrainingSet, asked: TrainingSet) -> NDArray[np.float64]:
    """Return logits (N, C) of logistic regressions on the untrained encoder's latents."""
    fabric, encoder = make_fabric(), text_encoder(recipe).eval()
    with torch.no_grad(), fabric.autocast():
        latents = [
            logits_of(lambda rows, part=part: part.reports.pooled(encoder, rows, fabric), len(part.studies), 8)
            for part in (train, asked)
        ]
    scaler = StandardScaler().fit(latents[0])
    return regressions(scaler.transform(latents[0]), train.states, scaler.transform(latents[1]), strength=0.01)


def regressions(train: object, states: States, asked: object, strength: float) -> NDArray[np.float64]:
    """Return each finding's logits by a logistic regression of its own."""
    fits = (LogisticRegression(C=strength, max_iter=2000).fit(train, column) for column in states.T)
    return np.stack([fit.decision_function(asked) for fit in fits], axis=1)


def described(logits: NDArray[np.floating], states: States) -> str:
    """Return the macro-AUROC with the 95 % interval of 500 bootstraps over reports."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(states), len(states)) for _ in range(500)]
    areas = [macro_auc(logits[rows], states[rows]) or 0.0 for rows in drawn]
    low, high = np.percentile(areas, [2.5, 97.5])
    return f"macro-AUROC {macro_auc(logits, states):.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
