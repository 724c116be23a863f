"""The loop: batches in, loss down, on a CPU or a GPU through Lightning Fabric."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.progress import Progress
from greenrfm.training.recipe import Stage

Loss = Callable[[Sequence[int]], Tensor]


def make_fabric() -> Fabric:
    """Return Fabric on the GPU where there is one, else on the CPU; bfloat16 where the hardware computes in it."""
    gpu = torch.cuda.is_available()
    # A CPU without these instructions emulates bfloat16, slower than float32.
    bf16 = torch.cuda.is_bf16_supported() if gpu else bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    precision = "bf16-mixed" if bf16 else "32-true"
    # Fabric announces its precision on stderr, between the lines of our progress.
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    return Fabric(accelerator="gpu" if gpu else "cpu", devices=1, precision=precision)  # type: ignore[arg-type]


def fit(
    fabric: Fabric,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    studies: Sequence[str],
    plan: Stage,
    seed: int,
    name: str,
    progress: Progress,
) -> list[float]:
    """Train for `plan.epochs` over `studies` and return the mean loss of each epoch.

    `loss_of` gets the indices of a batch and returns its loss. Rates follow a linear warm-up and a cosine
    to `plan.final_rate` of each group. Raises UserError naming the batch's studies if the loss is not finite.
    """
    rng = np.random.default_rng(seed)
    steps = max(1, len(studies) // plan.batch)
    total = steps * plan.epochs
    peaks = [group["lr"] for group in optimizer.param_groups]
    means = []
    started = time.monotonic()
    for epoch in range(plan.epochs):
        model.train()
        losses = 0.0
        for number, batch in enumerate(batches(len(studies), plan.batch, rng)):
            step = epoch * steps + number
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = rate_at(step, total, peak, plan)
            loss = loss_of(batch)
            if not torch.isfinite(loss):
                named = ", ".join(studies[index] for index in batch)
                raise UserError(f"{name}: the loss is not a number at step {step}; check the studies {named}")
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            if plan.clip is not None:
                fabric.clip_gradients(model, optimizer, max_norm=plan.clip, error_if_nonfinite=False)
            optimizer.step()
            losses += float(loss.detach())
            per_second = (step + 1) * plan.batch / (time.monotonic() - started)
            progress(
                name, step + 1, total, {"loss": losses / (number + 1), "epoch": epoch + 1, "studies/s": per_second}
            )
        means.append(losses / steps)
    return means


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Yield shuffled batches of equal size; the few left over take their turn in another epoch."""
    order = rng.permutation(count).tolist()
    size = min(size, count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


def rate_at(step: int, total: int, peak: float, plan: Stage) -> float:
    """Return the learning rate of a step: linear over the warm-up, then a cosine down to `final_rate`."""
    warm = plan.warmup * total
    if step < warm:
        return peak * (step + 1) / warm
    along = (step - warm) / max(1.0, total - warm)
    low = min(plan.final_rate, peak)
    return low + (peak - low) * (1 + math.cos(math.pi * along)) / 2
