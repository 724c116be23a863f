"""What every stage trains with: the training set, augmented crops, the optimiser."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from greenrfm.findings import State
from greenrfm.training.precision import can_fuse
from greenrfm.training.recipe import Augmentation, Stage
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

    def with_reports(self) -> TrainingSet:
        """Return the same with nothing stated of studies whose report is empty."""
        given = np.array(self.reports.given)[:, None]
        return replace(self, states=np.where(given, self.states, np.int8(State.NOT_MENTIONED)))


def seed_all(seed: int) -> None:
    """Seed every source of randomness that a stage uses."""
    random.seed(seed)
    torch.manual_seed(seed)


def augmented(
    crops: Crops, batch: Sequence[int], augmentation: Augmentation, rng: np.random.Generator, mirror: bool = False
) -> Tensor:
    """Return random crops (N, channels, H, W, D) of these studies, channels last, their intensities varied.

    `mirror` flips half of them left to right. A channel that a study does not have stays zero.
    """
    volumes = torch.from_numpy(crops.random(batch, rng))
    if mirror:
        for row in np.flatnonzero(rng.random(len(batch)) < 0.5):
            volumes[row] = crops.mirrored(volumes[row])
    each = (*volumes.shape[:2], 1, 1, 1)
    gain = 1 + augmentation.gain * rng.standard_normal(each).astype(np.float32)
    offset = augmentation.offset * rng.standard_normal(each).astype(np.float32)
    taken = volumes.any(dim=2, keepdim=True).any(dim=3, keepdim=True).any(dim=4, keepdim=True)
    volumes = volumes * torch.from_numpy(gain) + torch.from_numpy(offset) * taken
    return volumes.contiguous(memory_format=torch.channels_last_3d)


def channels_last(model: Model) -> Model:
    """Store the 3D convolutions' weights channels last, as the volumes are, and return the model."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
    return model


def adamw(parts: Sequence[tuple[nn.Module, float]], plan: Stage) -> torch.optim.AdamW:
    """Return AdamW over the parts that learn, each with its own rate, fused where it can be."""
    groups = [
        {"params": [parameter for parameter in module.parameters() if parameter.requires_grad], "lr": rate}
        for module, rate in parts
    ]
    return torch.optim.AdamW(groups, weight_decay=plan.weight_decay, fused=can_fuse())
