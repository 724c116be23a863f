"""The second control: the same training with the labels dealt out to the wrong studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from greenrfm.cohort import Study
from greenrfm.commands.demo.clock import renamed
from greenrfm.networks import Supervised
from greenrfm.progress import Progress
from greenrfm.training.batches import TrainingSet
from greenrfm.training.encoders import load_stage, save_stage, vision_encoder
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import Recipe
from greenrfm.training.session import Session
from greenrfm.training.stages import train_vision
from greenrfm.training.volumes import Crops, prepare

STAGE = "control: shuffled labels"


def shortened(recipe: Recipe) -> Recipe:
    """Return the recipe with a tenth of the vision epochs: the control must not cost what the model does."""
    stage = recipe.stage1_vision
    return recipe.model_copy(update={"stage1_vision": stage.model_copy(update={"epochs": max(1, stage.epochs // 10)})})


def shuffled_control(
    data: TrainingSet,
    test: Sequence[Study],
    recipe: Recipe,
    folder: Path,
    *,
    seed: int,
    workers: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """Return probabilities (test studies, findings) of stage 1 vision trained on permuted labels.

    Everything is as in the run (volumes, rates, seed) for a tenth of its epochs, only row i of the states
    belongs to another study, so what this reaches above one half is what the procedure itself lets through. Its own
    head scores the whole padded field, as the reader does. Its weights stay in `folder`.
    """
    told = renamed(progress, STAGE)
    order = np.random.default_rng(seed).permutation(len(data.studies))
    weights = folder / "stage1_vision.pt"
    if not weights.is_file():
        wrong = replace(data, states=data.states[order])
        recipe = shortened(recipe)
        save_stage(train_vision(make_fabric(), recipe, wrong, seed, Session(progress=told)), weights)
    model = load_stage(Supervised(vision_encoder(recipe), data.states.shape[1]), weights).eval()
    files = prepare(test, recipe.preprocessing, folder / "prepared", workers, told)
    fields = Crops(files, recipe.preprocessing.crop)
    rows = []
    with torch.no_grad():
        for index in range(len(test)):
            rows.append(torch.sigmoid(model(torch.from_numpy(fields.fields([index]))).double())[0].numpy())
            progress(STAGE, index + 1, len(test))
    return np.stack(rows)
