"""The three stages: vision on labels, text on labels, then both aligned (METHOD.md, "Training")."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from greenrfm.bundle.tokens import split_texts
from greenrfm.errors import UserError
from greenrfm.files import replacing
from greenrfm.networks import (
    LATENT,
    DualEncoder,
    Supervised,
    TextEncoder,
    VisionEncoder,
    text_encoder_folder,
)
from greenrfm.progress import Progress
from greenrfm.training.fit import fit
from greenrfm.training.losses import contrastive, masked_bce, targets_and_weights
from greenrfm.training.recipe import Augmentation, Recipe, Stage
from greenrfm.training.reports import Reports
from greenrfm.training.volumes import Crops

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrainingSet:
    """What the stages learn from: row i of everything belongs to study i; `states` is int8 (studies, findings)."""

    studies: tuple[str, ...]
    crops: Crops
    reports: Reports
    states: NDArray[np.int8]


def train_vision(fabric: Fabric, recipe: Recipe, data: TrainingSet, seed: int, progress: Progress) -> Supervised:
    """Stage 1, vision: the 3D ResNet with its own head, BCE on the labels."""
    seed_all(seed)
    model = Supervised(vision_encoder(recipe), data.states.shape[1])
    plan = recipe.stage1_vision
    states = torch.from_numpy(data.states)
    rng = np.random.default_rng(seed + 1)
    wrapped, optimizer = fabric.setup(_channels_last(model), _adamw(_stage1_parts(model, plan), plan))

    def loss_of(batch: Sequence[int]) -> Tensor:
        targets, weights = targets_and_weights(states[batch].to(fabric.device), recipe.labels.not_mentioned_weight)
        volumes = fabric.to_device(_volumes(data.crops, batch, recipe.augmentation, rng, recipe.augmentation.mirror))
        return masked_bce(wrapped(volumes).float(), targets, weights)

    fit(fabric, wrapped, optimizer, loss_of, data.studies, plan, seed + 2, "stage 1 vision", progress)
    return model


def train_text(fabric: Fabric, recipe: Recipe, data: TrainingSet, seed: int, progress: Progress) -> Supervised:
    """Stage 1, text: the BERT with its own head, BCE on the labels."""
    seed_all(seed)
    model = Supervised(text_encoder(recipe), data.states.shape[1])
    plan = recipe.stage1_text
    states = torch.from_numpy(data.states)
    wrapped, optimizer = fabric.setup(model, _adamw(_stage1_parts(model, plan), plan))
    assert isinstance(model.encoder, TextEncoder)
    data.reports.remember(model.encoder, fabric, progress)

    def loss_of(batch: Sequence[int]) -> Tensor:
        targets, weights = targets_and_weights(states[batch].to(fabric.device), recipe.labels.not_mentioned_weight)
        # The head is linear, so the mean of the chunks' logits is the logit of their mean latent.
        return masked_bce(data.reports.pooled(wrapped, batch, fabric), targets, weights)

    fit(fabric, wrapped, optimizer, loss_of, data.studies, plan, seed + 2, "stage 1 text", progress)
    return model


def train_alignment(
    fabric: Fabric, recipe: Recipe, data: TrainingSet, vision: Path, text: Path, seed: int, progress: Progress
) -> DualEncoder:
    """Stage 2: contrastive on raw dot products + (BCE of both latents through the shared classifier) / 2.

    `vision` and `text` are the files of stage 1; both are required and must fit exactly (fault 1 of the
    public code: its stage 2 never loads them).
    """
    seed_all(seed)
    findings = data.states.shape[1]
    stage1_vision = load_stage(Supervised(vision_encoder(recipe), findings), vision)
    stage1_text = load_stage(Supervised(text_encoder(recipe, pretrained=False), findings), text)
    assert isinstance(stage1_vision.encoder, VisionEncoder)
    assert isinstance(stage1_text.encoder, TextEncoder)
    model = DualEncoder(stage1_vision.encoder, stage1_text.encoder, findings)
    plan = recipe.stage2
    slow = plan.encoder_rate or plan.rate
    heads = nn.ModuleList([model.vision_projection, model.text_projection, model.classifier])
    if plan.freeze_text:
        model.text.requires_grad_(False)
    optimizer = _adamw([(model.vision, slow), (model.text, slow), (heads, plan.rate)], plan)
    states = torch.from_numpy(data.states)
    rng = np.random.default_rng(seed + 1)
    wrapped, optimizer = fabric.setup(_channels_last(model), optimizer)
    data.reports.remember(model.text, fabric, progress)
    wrapped.mark_forward_method("encode_volumes")
    wrapped.mark_forward_method("encode_texts")
    encoded = _encode_once(model.text, data.reports, fabric, progress) if plan.freeze_text else None

    def loss_of(batch: Sequence[int]) -> Tensor:
        targets, weights = targets_and_weights(states[batch].to(fabric.device), recipe.labels.not_mentioned_weight)
        volumes = fabric.to_device(_volumes(data.crops, batch, recipe.augmentation, rng))
        seen = wrapped.encode_volumes(volumes).float()
        read = (
            data.reports.pooled(wrapped.encode_texts, batch, fabric)
            if encoded is None
            else model.text_projection(encoded[batch])
        )
        bce = sum(masked_bce(model.classifier(latent), targets, weights) for latent in (seen, read))
        return contrastive(seen, read) + bce / 2

    fit(fabric, wrapped, optimizer, loss_of, data.studies, plan, seed + 2, "stage 2 align", progress)
    return model


def _encode_once(text: TextEncoder, reports: Reports, fabric: Fabric, progress: Progress) -> Tensor:
    """Return the frozen encoder's [CLS] of every report (N, channels), without dropout."""
    text.eval()
    rows = []
    with torch.no_grad(), fabric.autocast():
        for start in range(0, len(reports), 16):
            batch = range(start, min(start + 16, len(reports)))
            rows.append(reports.pooled(text, batch, fabric).float())
            progress("encode reports", batch.stop, len(reports))
    return torch.cat(rows)


def vision_encoder(recipe: Recipe) -> VisionEncoder:
    """Return the recipe's vision encoder, freshly initialised."""
    return VisionEncoder(recipe.network.width, recipe.network.stem)


def text_encoder(recipe: Recipe, pretrained: bool = True) -> TextEncoder:
    """Return the recipe's text encoder, its lower layers frozen if the recipe says so."""
    encoder = TextEncoder(text_encoder_folder(recipe.network.text_encoder), pretrained)
    encoder.freeze(recipe.network.text_layers_frozen)
    return encoder


def untrained_dual(recipe: Recipe, findings: int) -> DualEncoder:
    """Return the recipe's aligned model before its weights are loaded."""
    return DualEncoder(vision_encoder(recipe), text_encoder(recipe, pretrained=False), findings)


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
    with replacing(path) as temporary:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, temporary)


def load_stage(model: Model, path: Path) -> Model:
    """Fill the model with a stage's weights, strictly; raise UserError if the file is missing or does not fit."""
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; run the stage that writes it first") from error
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, … for a damaged file
        raise UserError(f"{path} does not fit this recipe or is damaged; remove it to train it again") from error
    return model


def seed_all(seed: int) -> None:
    """Seed every source of randomness that a stage uses."""
    random.seed(seed)
    torch.manual_seed(seed)


def _volumes(
    crops: Crops, batch: Sequence[int], augmentation: Augmentation, rng: np.random.Generator, mirror: bool = False
) -> Tensor:
    volumes = torch.from_numpy(crops.random(batch, rng))
    if mirror:
        for row in np.flatnonzero(rng.random(len(batch)) < 0.5):
            volumes[row] = volumes[row].flip(2)  # axis W of (1, H, W, D)
    each = (len(batch), 1, 1, 1, 1)
    gain = 1 + augmentation.gain * rng.standard_normal(each).astype(np.float32)
    offset = augmentation.offset * rng.standard_normal(each).astype(np.float32)
    volumes = volumes * torch.from_numpy(gain) + torch.from_numpy(offset)
    return volumes.contiguous(memory_format=torch.channels_last_3d)


def _channels_last(model: Model) -> Model:
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def _stage1_parts(model: Supervised, plan: Stage) -> list[tuple[nn.Module, float]]:
    return [(model.encoder, plan.encoder_rate or plan.rate), (model.head, plan.rate)]


def _adamw(parts: Sequence[tuple[nn.Module, float]], plan: Stage) -> torch.optim.AdamW:
    groups = [
        {"params": [parameter for parameter in module.parameters() if parameter.requires_grad], "lr": rate}
        for module, rate in parts
    ]
    return torch.optim.AdamW(groups, weight_decay=plan.weight_decay)
