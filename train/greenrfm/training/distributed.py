"""Several processes under `torchrun`: one model, the batch divided, the loss that of the whole batch.

Every process draws the same batches, encodes its share and gathers the outputs with their gradients. So each
computes the loss of the whole batch, contrastive and BCE alike, and a step is that of one process with all of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn
from torch.distributed import DistError

from greenrfm.errors import UserError
from greenrfm.networks import TextEncoder

Result = TypeVar("Result")
Model = TypeVar("Model", bound=nn.Module)

# The first process prepares volumes, calibrates and exports while the others wait for it.
PATIENCE = timedelta(days=2)


def processes(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Return processes a node and nodes as `torchrun` states them in the environment; (1, 1) without it."""
    everywhere = int(environment.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in environment else 1
    here = int(environment.get("LOCAL_WORLD_SIZE", "1")) if everywhere > 1 else 1
    return here, everywhere // here


def several(accelerator: str, precision: Any) -> Fabric | None:
    """Return launched Fabric over all processes of `torchrun`, or None if there is only this one."""
    here, nodes = processes()
    if here * nodes == 1:
        return None
    # A module's buffers are the same everywhere: synchronised on GPUs, those of the first process on CPUs.
    strategy = DDPStrategy(timeout=PATIENCE)
    fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=nodes, strategy=strategy, precision=precision)
    fabric.launch()
    return fabric


@contextmanager
def one_of_several(fabric: Fabric) -> Iterator[None]:
    """Turn what a process sees when another one ended into one sentence, a UserError, that names neither's code."""
    try:
        yield
    except RuntimeError as error:
        if fabric.world_size == 1 or (not isinstance(error, DistError) and "closed by peer" not in str(error)):
            raise
        raise UserError(
            f"process {fabric.global_rank} ends because another one ended; see what that one said, mend it and go on "
            "with --resume"
        ) from error


def own_share(batch: Sequence[int], fabric: Fabric) -> Sequence[int]:
    """Return this process's part of a batch that all processes drew alike; `gathered` puts parts together again."""
    size = len(batch) // fabric.world_size
    return batch[fabric.global_rank * size : (fabric.global_rank + 1) * size]


def check_batch(batch: int, fabric: Fabric, stage: str) -> None:
    """Raise UserError unless a batch divides evenly: a process with fewer studies would weigh them more."""
    if batch % fabric.world_size:
        near = max(batch // fabric.world_size, 1) * fabric.world_size
        raise UserError(
            f"{stage}: a batch of {batch} does not divide over {fabric.world_size} processes; set batch: {near}"
        )


def gathered(rows: Tensor, fabric: Fabric) -> Tensor:
    """Return the rows (N, …) of all processes (processes·N, …), in their order; gradients find their way back.

    The gradient of a row is the sum over all processes' losses. They all compute the same one, so it is
    `world_size` times too large, and DDP's mean over processes divides by just that.
    """
    if fabric.world_size == 1:
        return rows
    everywhere = fabric.all_gather(rows, sync_grads=True)
    assert isinstance(everywhere, Tensor)
    return everywhere.flatten(0, 1)


def shareable(model: Model, fabric: Fabric) -> Model:
    """Return the model fit for several processes; call it before the optimiser is made.

    Batch normalisations go over all processes' volumes where that is possible: on GPUs. What no forward uses
    (a BERT's pooler) is frozen, for DDP waits for the gradient of everything that learns.
    """
    if fabric.world_size == 1:
        return model
    for module in model.modules():
        pooler = getattr(module.bert, "pooler", None) if isinstance(module, TextEncoder) else None
        if pooler is not None:
            pooler.requires_grad_(False)
    if fabric.device.type == "cpu":
        return model
    converted: Model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


def largest(fabric: Fabric, *numbers: int) -> list[int]:
    """Return the largest of each number over all processes, which must call it together."""
    if fabric.world_size == 1:
        return list(numbers)
    together = fabric.all_reduce(torch.tensor(numbers, device=fabric.device), reduce_op="max")
    assert isinstance(together, Tensor)
    found: list[int] = together.tolist()
    return found


def first_alone(fabric: Fabric, work: Callable[[], Result]) -> Result:
    """Return what `work` gives, done by the first process while the others wait, and then by all others.

    For work that leaves files, where the others find them done: the folder must be one that all nodes see.
    """
    if fabric.is_global_zero:
        result = work()
    with one_of_several(fabric):
        fabric.barrier()
    return result if fabric.is_global_zero else work()
