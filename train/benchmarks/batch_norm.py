"""What batch normalisation makes of micro-batches: AUC of stage 1 vision, a batch of 16 in parts of 16 … 1.

    python train/benchmarks/batch_norm.py

The task is generated and small: volumes of noise with shading and a gain of their own, in which a bright ball, a dark
ball, a bright floor, coarser noise or a bright shell is present or not. The last map is 3 × 3 × 2, as large as that of
the recipe `tiny`. Gradients of the parts add up to those of the batch, so all that differs is what batch normalisation
sees. Two AUCs on held-out volumes: as a reader computes (by the running statistics), and normalised as in training
(each part by its own). Where only the first is bad, the running statistics are not those that the weights learned
with; where both are, training itself suffered.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom

from greenrfm.networks import Supervised
from greenrfm.training.batches import TrainingSet
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import Recipe, load_recipe, parse_recipe
from greenrfm.training.replay import even_slices, statistics_kept
from greenrfm.training.reports import Reports
from greenrfm.training.session import Session
from greenrfm.training.stages import train_vision
from greenrfm.training.validation import macro_auc

CROP, BATCH = (34, 46, 30), 16
TRAIN, HELD_OUT = 480, 240


class InMemory:
    """Crops that are whole volumes (N, 1, H, W, D) held in memory."""

    def __init__(self, volumes: NDArray[np.float32]) -> None:
        self.volumes = volumes

    def random(self, indices: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
        """Return the volumes of these studies."""
        return self.volumes[list(indices)]


def draw(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Return volumes (count, 1, H, W, D) and what they show (count, 5)."""
    rng = np.random.default_rng(seed)
    states = (rng.random((count, 5)) < 0.35).astype(np.int8)
    volumes = np.empty((count, 1, *CROP), np.float32)
    grid = np.stack(np.meshgrid(*map(np.arange, CROP), indexing="ij"))
    for volume, (bright, dark, floor, coarse, shell) in zip(volumes, states, strict=True):
        noise = rng.standard_normal(CROP)
        if coarse:
            noise = 0.8 * noise + 3.0 * gaussian_filter(noise, 1.5)
        shading = zoom(rng.standard_normal((3, 4, 3)), np.array(CROP) / (3, 4, 3), order=1)
        image = 0.5 * noise + 0.4 * shading
        for present, inner, outer, height in ((bright, 0, 4, 0.7), (dark, 0, 4, -0.7), (shell, 6, 8, 0.5)):
            if present:
                centre = [rng.integers(8, side - 8) for side in CROP]
                distance = np.sqrt(((grid - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0))
                image[(distance >= inner) & (distance < outer)] += height
        if floor:
            image[-3:] += 0.4
        volume[0] = rng.normal(1.0, 0.15) * image + rng.normal(0.0, 0.15)
    return volumes, states


def recipe_of(micro: int, epochs: int) -> Recipe:
    """Return `tiny` at half its width with stem 2, for these volumes."""
    content = load_recipe("tiny").model_dump(mode="json", exclude={"preprocessing"})
    content["preprocessing"] = {
        "spacing": [6.0, 6.0, 9.0], "size": CROP, "crop": CROP,
        "intensity": "window", "window": [-1000.0, 2000.0], "scale": 1000.0,
    }  # fmt: skip
    content["network"] |= {"width": 8, "stem": [2, 2, 2]}
    content["stage1_vision"] |= {"epochs": epochs, "batch": BATCH, "micro_batch": micro}
    return parse_recipe(content, "batch_norm")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--micro", type=int, nargs="*", default=[16, 4, 2, 1])
    arguments = parser.parse_args()
    volumes, states = draw(TRAIN, 0)
    held_out, truth = draw(HELD_OUT, 1)
    reports = Reports(recipe_of(BATCH, 1), [""] * TRAIN)
    data = TrainingSet(tuple(map(str, range(TRAIN))), InMemory(volumes), reports, states)  # type: ignore[arg-type]
    print(f"{TRAIN} volumes, {HELD_OUT} held out, {arguments.epochs} epochs: macro-AUC of {arguments.seeds} seeds")
    print(f"{'micro-batch':>11s}{'as read':>22s}{'as trained':>22s}{'CPU s a run':>13s}")
    for micro in arguments.micro:
        read, trained, seconds = [], [], []
        for seed in range(arguments.seeds):
            start = time.process_time()
            recipe = recipe_of(micro, arguments.epochs)
            model = train_vision(make_fabric("32-true"), recipe, data, seed, Session())
            seconds.append(time.process_time() - start)
            read.append(auc(model.eval(), held_out, truth, BATCH))
            with statistics_kept(model.train()):
                trained.append(auc(model, held_out, truth, micro))
        print(f"{micro:11d}{spread(read):>22s}{spread(trained):>22s}{statistics.mean(seconds):13.0f}", flush=True)


def auc(model: Supervised, volumes: NDArray[np.float32], truth: NDArray[np.int8], most: int) -> float:
    """Return the macro-AUC, `most` volumes normalised together if the model is in training."""
    with torch.no_grad():
        rows = [model(torch.from_numpy(volumes[part])).numpy() for part in even_slices(len(volumes), most)]
    area = macro_auc(np.concatenate(rows), truth)
    assert area is not None
    return area


def spread(values: list[float]) -> str:
    """Return the mean, and the lowest and highest value."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
