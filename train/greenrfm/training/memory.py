"""Training in less memory: activations computed twice, and a batch in halves after memory ran out once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from greenrfm.errors import UserError
from greenrfm.networks import PlaneEncoders, VisionEncoder


def checkpoint_activations(encoder: VisionEncoder | PlaneEncoders) -> None:
    """Make every residual block keep only its input and compute the rest again when gradients need it.

    Gradients are the same to the last bit on a CPU, and running statistics advance once, not twice.
    """
    for net in (part.net for part in encoder.by_plane.values()):
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            for block in layer:
                block.forward = partial(_twice, block, block.forward)


def _twice(block: nn.Module, forward: Any, volumes: torch.Tensor) -> torch.Tensor:
    if not torch.is_grad_enabled():
        result: torch.Tensor = forward(volumes)
        return result

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_put_aside(block)

    again: torch.Tensor = checkpoint(forward, volumes, use_reentrant=False, context_fn=contexts)
    return again


@contextmanager
def _statistics_put_aside(block: nn.Module) -> Iterator[None]:
    """Let the second computation advance copies of the running statistics: the first one advanced them."""
    # Not `replay.statistics_kept`: autograd compares what both computations save, and that saves less.
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [dict(norm.named_buffers(recurse=False)) for norm in norms]
    for norm, buffers in zip(norms, before, strict=True):
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in buffers.items():
                setattr(norm, name, value)


def halved(micro: int | None, batch: int, already: bool, stage: str, step: int) -> int:
    """Return the micro-batch after memory ran out: half as large, once, and say so on stderr.

    Raises UserError if it was halved before or is 1.
    """
    before = min(micro or batch, batch)
    if already or before < 2:
        raise UserError(
            f"{stage}: out of memory at step {step} with {before} studies at a time; go on with --resume and a "
            "smaller micro_batch or checkpointing: true in the recipe, or give --vram"
        )
    return fewer(before, f"{stage}: out of memory at step {step}")


def fewer(before: int, what: str) -> int:
    """Return half of so many studies at a time, say so on stderr and give cached memory back."""
    after = (before + 1) // 2
    print(f"{what} with {before} studies at a time; going on with {after}", file=sys.stderr, flush=True)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return after
