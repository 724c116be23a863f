"""A stage 2 small enough for a test: few studies, a narrow ResNet, a two-layer BERT, nothing random in the crops."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig, BertModel

from greenrfm.networks import Supervised, text_encoder_folder
from greenrfm.training.batches import TrainingSet
from greenrfm.training.encoders import save_stage, text_encoder, vision_encoder
from greenrfm.training.recipe import Recipe, load_recipe, parse_recipe
from greenrfm.training.reports import Reports

FINDINGS = 3
SIDE = 16


class SameCrops:
    """The same volume of a study each time."""

    def __init__(self, studies: int) -> None:
        self._volumes = np.random.default_rng(0).standard_normal((studies, 1, SIDE, SIDE, SIDE)).astype(np.float32)

    def random(self, indices: Sequence[int], rng: np.random.Generator) -> NDArray[np.float32]:
        return self._volumes[list(indices)]


def small_bert(folder: Path) -> Path:
    """Write a BERT of two layers and width 32 with MiniLM's tokenizer."""
    torch.manual_seed(3)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    shutil.copy(text_encoder_folder("minilm") / "tokenizer.json", folder)
    return folder


def small_recipe(bert: Path, **stage2: object) -> Recipe:
    content = load_recipe("lite").model_dump(mode="json", exclude={"preprocessing"})
    content["preprocessing"] = "chest-ct"
    content["network"] |= {"width": 4, "stem": [4, 4, 4], "text_encoder": str(bert), "max_tokens": 16}
    content["augmentation"] = {"offset": 0.0, "gain": 0.0}
    content["stage2"] |= {"epochs": 1, "batch": 8, **stage2}
    return parse_recipe(content, "small")


def small_set(recipe: Recipe, studies: int = 8) -> TrainingSet:
    """Return a training set; every third report is longer than one chunk."""
    states = np.random.default_rng(1).integers(-2, 2, (studies, FINDINGS)).astype(np.int8)
    texts = [f"Effusion number {index}. " * (6 if index % 3 == 0 else 1) for index in range(studies)]
    names = tuple(f"s{index}" for index in range(studies))
    return TrainingSet(names, SameCrops(studies), Reports(recipe, texts), states)  # type: ignore[arg-type]


def small_stage1(recipe: Recipe, folder: Path) -> tuple[Path, Path]:
    """Write the files that stage 1 would leave, of fresh networks."""
    torch.manual_seed(4)
    files = folder / "stage1_vision.pt", folder / "stage1_text.pt"
    save_stage(Supervised(vision_encoder(recipe), FINDINGS), files[0])
    save_stage(Supervised(text_encoder(recipe), FINDINGS), files[1])
    return files
