"""What a training set's labels are to the losses: targets, weights, and what a rare finding weighs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from greenrfm.training.losses import masked_bce, positive_weights, targets_and_weights
from greenrfm.training.recipe import Labels


class Supervision:
    """Targets and weights of every training study (studies, C), by the recipe's label policies, on one device."""

    def __init__(self, states: NDArray[np.int8], labels: Labels, device: torch.device) -> None:
        targets, weights = targets_and_weights(
            torch.from_numpy(states),
            labels.not_mentioned.weight,
            labels.uncertain.weight,
            not_mentioned_target=labels.not_mentioned.target,
            uncertain_target=labels.uncertain.target,
        )
        self.targets, self.weights = targets.to(device), weights.to(device)
        rare = labels.pos_weight
        self._positive = None if rare is None else positive_weights(self.targets, self.weights, rare)

    def of(self, batch: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return targets and weights (N, C) of these studies."""
        rows = list(batch)
        return self.targets[rows], self.weights[rows]

    def bce(self, logits: Tensor, batch: Sequence[int]) -> Tensor:
        """Return the masked BCE of these studies' logits (N, C)."""
        return masked_bce(logits, *self.of(batch), self._positive)
