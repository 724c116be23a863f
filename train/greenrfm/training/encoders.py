"""The recipe's networks, fresh or as a stage left them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from greenrfm.bundle.tokens import split_texts
from greenrfm.errors import UserError
from greenrfm.networks import (
    LATENT,
    DualEncoder,
    PlaneEncoders,
    Supervised,
    TextEncoder,
    VisionEncoder,
    text_encoder_folder,
)
from greenrfm.training.checkpoints import write_tensors
from greenrfm.training.recipe import Recipe

Model = TypeVar("Model", bound=nn.Module)


def vision_encoder(recipe: Recipe) -> VisionEncoder | PlaneEncoders:
    """Return the recipe's vision encoder, freshly initialised; of several planes if it names them."""
    network = recipe.network
    if network.planes:
        return PlaneEncoders(network.planes, len(network.sequences), network.width, network.stem)
    return VisionEncoder(network.width, network.stem)


def text_encoder(recipe: Recipe, pretrained: bool = True) -> TextEncoder:
    """Return the recipe's text encoder, its lower layers frozen if the recipe says so."""
    encoder = TextEncoder(text_encoder_folder(recipe.text_encoder), pretrained, recipe.network.text_pooling)
    encoder.freeze(recipe.network.text_layers_frozen)
    return encoder


def untrained_dual(recipe: Recipe, findings: int) -> DualEncoder:
    """Return the recipe's aligned model before its weights are loaded."""
    return DualEncoder(vision_encoder(recipe), text_encoder(recipe, pretrained=False), findings)


def untrained_vision(recipe: Recipe, findings: int) -> Supervised:
    """Return the recipe's vision encoder with its head before its weights are loaded."""
    return Supervised(vision_encoder(recipe), findings)


def encode_reports(
    model: DualEncoder, tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> NDArray[np.float32]:
    """Return latents (N, 768) of texts, one at a time: for the few prompts of a finding set."""
    latents = np.zeros((len(texts), LATENT), np.float32)
    weights = np.zeros((len(texts), 1), np.float32)
    with torch.no_grad():
        for chunk in split_texts(tokenizer, texts, max_tokens):
            ids = torch.tensor([chunk.ids])
            latents[chunk.text] += chunk.weight * model.encode_texts(ids, torch.ones_like(ids))[0].numpy()
            weights[chunk.text] += chunk.weight
    return latents / weights


def save_stage(model: nn.Module, path: Path) -> None:
    """Write a stage's weights in one step."""
    write_tensors({name: value.cpu() for name, value in model.state_dict().items()}, path)


def load_stage(model: Model, path: Path) -> Model:
    """Fill the model with a stage's weights, strictly; raise UserError if the file is missing or does not fit."""
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; run the stage that writes it first") from error
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, … for a damaged file
        raise UserError(f"{path} does not fit this recipe or is damaged; remove it to train it again") from error
    return model
