"""Contrastive batches larger than memory: every latent first, then each chunk again with its gradient.

The loss of stage 2 couples all studies of a batch, so its gradient is not a sum over micro-batches. But given
all latents, the gradient of the weights is: dL/dw = Σ_chunks (dL/dlatents of the chunk) · (dlatents of the chunk/dw)
(Gao et al., "Scaling deep contrastive learning batch size under memory limited setup", 2021: GradCache).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

Chunk = TypeVar("Chunk")
Sync = Callable[[bool], AbstractContextManager[Any]]


def replayed(
    encode: Callable[[Chunk], tuple[Tensor, ...]],
    chunks: Sequence[Chunk],
    model: nn.Module,
    sync: Sync = lambda last: nullcontext(),
) -> tuple[Tensor, ...]:
    """Return `encode` of all chunks, joined along the first axis, in the memory of one chunk.

    Going forward nothing is kept but the outputs. Going backward each chunk is encoded again, with the random
    states it had, and takes its rows of the outputs' gradient: twice the forward work. Gradients are those of
    encoding the chunks at once, each with its own batch statistics; running statistics and random states advance
    as if each chunk were encoded once. The work in between must draw no random numbers of torch's.

    Parameters
    ----------
    encode
        Gives tensors (rows of the chunk, …) of a chunk, any number of them; must depend on nothing but the chunk,
        the weights and torch's random states, and enter autocast itself (as a Fabric module does).
    chunks
        What `encode` takes, in the order of the rows.
    model
        The module that holds all batch normalisations of `encode`, on the device where it draws random numbers.
    sync
        Gives the context of a chunk's second pass; `sync(True)` is for the last chunk, the one after which
        several processes add up their gradients.
    """
    always = torch.zeros((), requires_grad=True)  # without it autograd would see nothing to go back to
    joined: tuple[Tensor, ...] = _Replay.apply(always, encode, chunks, model, sync)  # type: ignore[no-untyped-call]
    return joined


def even_slices(count: int, most: int | None) -> list[slice]:
    """Return the fewest slices of `count` rows with at most `most` each, as equal as can be; None is one slice.

    Equal, because batch normalisation would make much of a last chunk of one or two volumes.
    """
    number = 1 if most is None else -(-count // most)
    bounds = [count * step // number for step in range(number + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Leave running statistics as they are while normalising by the batch's own, as in training."""
    # A batch normalisation in training that tracks nothing computes the very same, and updates nothing.
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        always: Tensor,
        encode: Callable[[Chunk], tuple[Tensor, ...]],
        chunks: Sequence[Chunk],
        model: nn.Module,
        sync: Sync,
    ) -> tuple[Tensor, ...]:
        ctx.device = next(model.parameters()).device
        ctx.encode, ctx.chunks, ctx.sync = encode, chunks, sync
        ctx.states, pieces = [], []
        with statistics_kept(model):
            for chunk in chunks:
                ctx.states.append(_random_states(ctx.device))
                pieces.append(encode(chunk))
        ctx.rows = [len(piece[0]) for piece in pieces]
        return tuple(torch.cat(column) for column in zip(*pieces, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        after = _random_states(ctx.device)
        parts = zip(*(gradient.split(ctx.rows) for gradient in gradients), strict=True)
        try:
            for number, (chunk, states, part) in enumerate(zip(ctx.chunks, ctx.states, parts, strict=True), 1):
                _set_random_states(ctx.device, states)
                with torch.enable_grad(), ctx.sync(number == len(ctx.chunks)):
                    pairs = zip(ctx.encode(chunk), part, strict=True)
                    outputs, gradients = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
                    torch.autograd.backward(outputs, gradients)
        finally:
            _set_random_states(ctx.device, after)
        return (None,) * 5


def _random_states(device: torch.device) -> tuple[Tensor, ...]:
    cpu = torch.get_rng_state()
    return (cpu,) if device.type == "cpu" else (cpu, torch.get_device_module(device).get_rng_state())


def _set_random_states(device: torch.device, states: tuple[Tensor, ...]) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1])
