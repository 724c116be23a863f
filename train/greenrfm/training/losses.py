"""The losses of GreenRFM, shaped like their formulas (METHOD.md, "Training"; paper: arXiv 2603.06467, MUST)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from greenrfm.findings import State

# CLIP's first temperature: cosines lie in -1…1, too narrow for a softmax over a batch.
COSINE_TEMPERATURE = 0.07


def targets_and_weights(
    states: Tensor,
    not_mentioned: float,
    uncertain: float = 0.0,
    *,
    not_mentioned_target: float = 0.0,
    uncertain_target: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Return BCE targets and weights (N, C) of finding states (N, C).

    What the report leaves open (`uncertain`) or passes over (`not_mentioned`) has a weight of its own, 0 to 1, and
    a target: masked is weight 0, a soft target p is weight 1 and target p, a negative of weight w has target 0.
    The public code lets -1 into the loss, which makes it unbounded below (METHOD.md, fault 2).
    """
    present, absent, unsure, silent = (
        (states == state).float() for state in (State.PRESENT, State.ABSENT, State.UNCERTAIN, State.NOT_MENTIONED)
    )
    targets = present + uncertain_target * unsure + not_mentioned_target * silent
    return targets, present + absent + uncertain * unsure + not_mentioned * silent


def positive_weights(targets: Tensor, weights: Tensor, most: float) -> Tensor:
    """Return for each finding how much a present entry weighs in `masked_bce` (C): absent over present.

    Counts are those of the training studies (N, C) as the loss weighs them. Ratios are kept in 1/`most`…`most`,
    so that a finding seen once does not rule the gradient; one never present or never absent gets that bound.
    """
    present = (weights * targets).sum(dim=0)
    absent = (weights * (1 - targets)).sum(dim=0)
    return (absent / present.clamp(min=1e-6)).clamp(1 / most, most)


def masked_bce(logits: Tensor, targets: Tensor, weights: Tensor, positive: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy of logits (N, C), averaged over the entries that count.

    Σ w·(p·t·softplus(-z) + (1-t)·softplus(z)) / Σ w, with p = `positive` (C) or 1. 0 if no entry counts.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=positive)
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def contrastive(vision: Tensor, text: Tensor, likeness: Tensor | None = None, l2_norm: bool = False) -> Tensor:
    """Return the symmetric cross-entropy of raw dot products (N, 768)·(768, N): temperature 1, no L2 norm.

    Row i of both belongs to study i. Task-aligning: norms carry evidence, so they are not divided out.

    Parameters
    ----------
    likeness
        Targets (N, N) of `soft_targets` instead of the study itself.
    l2_norm
        For the ablation only: cosines over CLIP's temperature of 0.07.
    """
    if l2_norm:
        vision, text = functional.normalize(vision) / COSINE_TEMPERATURE, functional.normalize(text)
    products = vision @ text.T
    own = torch.arange(len(products), device=products.device) if likeness is None else likeness
    return (functional.cross_entropy(products, own) + functional.cross_entropy(products.T, own)) / 2


def soft_targets(targets: Tensor, weights: Tensor, share: float) -> Tensor:
    """Return contrastive targets (N, N), rows sum to 1: (1 - share) to the study itself, share to those like it.

    Two normal reports say the same, and calling them each other's negatives teaches noise. Likeness is the
    Jaccard index of the findings (N, C) that both studies state, Σ min(t, t′) / Σ max(t, t′), 1 if neither has any.
    """
    both = torch.minimum(weights[:, None], weights[None])
    shared = (both * torch.minimum(targets[:, None], targets[None])).sum(dim=2)
    either = (both * torch.maximum(targets[:, None], targets[None])).sum(dim=2)
    likeness = torch.where(either > 0, shared / either.clamp(min=1e-6), torch.ones_like(either))
    # Studies with no stated finding in common are not alike: nothing is known.
    likeness = likeness * (both.sum(dim=2) > 0)
    likeness.fill_diagonal_(1)
    own = torch.eye(len(targets), device=targets.device, dtype=targets.dtype)
    return (1 - share) * own + share * likeness / likeness.sum(dim=1, keepdim=True)


def latent_norm(latents: Tensor) -> float:
    """Return the mean length of latents (N, 768): raw dot products grow with it until the softmax saturates."""
    return float(latents.detach().norm(dim=1).mean())
