"""Which studies are to blame for a batch whose loss or gradient is not a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

# `alone(batch, micro)` yields each study of the batch (this process's share) with what the model makes of it alone,
# from the input on: {"volume": …, "latent": …, "loss": …}. It draws the crops that the batch drew from the same
# random states, `micro` at a time, and its "loss", the last one, has a gradient.
Alone = Callable[[Sequence[int], int], Iterator[tuple[int, Mapping[str, Tensor]]]]


def to_blame(alone: Iterator[tuple[int, Mapping[str, Tensor]]], model: nn.Module, fabric: Fabric) -> dict[int, str]:
    """Return the studies that are not finite alone, and the first thing of theirs that is not: "volume", "gradient".

    Statistics are frozen and nothing is dropped, so that no study answers for another. Gradients that the model
    holds stay as they are. All processes must call it together, and all get the same answer.
    """
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    training = model.training
    model.eval()
    found = {}
    with torch.enable_grad():
        for study, values in alone:
            what = next((name for name, value in values.items() if not torch.isfinite(value).all()), None)
            loss = values["loss"]
            if what is None and loss.requires_grad:
                gradients = torch.autograd.grad(loss, learning, allow_unused=True)
                if not all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients):
                    what = "gradient"
            if what is not None:
                found[study] = what
    model.train(training)
    if fabric.world_size > 1:
        parts: list[Any] = [None] * fabric.world_size
        torch.distributed.all_gather_object(parts, found)
        found = {study: what for part in parts for study, what in part.items()}
    return found
