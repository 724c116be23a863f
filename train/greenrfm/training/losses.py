"""The losses of GreenRFM, shaped like their formulas (METHOD.md, "Training")."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from greenrfm.findings import State


def targets_and_weights(states: Tensor, not_mentioned: float) -> tuple[Tensor, Tensor]:
    """Return BCE targets and weights (N, C) of finding states (N, C).

    Uncertain entries have weight 0: the public code lets -1 into the loss, which makes it unbounded
    below. What a report does not mention is taken as absent with weight `not_mentioned` (0 masks it).
    """
    targets = (states == State.PRESENT).float()
    weights = ((states == State.PRESENT) | (states == State.ABSENT)).float()
    return targets, weights + not_mentioned * (states == State.NOT_MENTIONED).float()


def masked_bce(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the binary cross-entropy of logits (N, C), averaged over the entries that count."""
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def contrastive(vision: Tensor, text: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of raw dot products (N, 768)·(768, N): temperature 1, no L2 norm.

    Row i of both belongs to study i. Task-aligning: norms carry evidence, so they are not divided out.
    """
    products = vision @ text.T
    own = torch.arange(len(products), device=products.device)
    return (functional.cross_entropy(products, own) + functional.cross_entropy(products.T, own)) / 2
