"""Checkpoints inside a stage: everything that decides how training goes on, in one file written at once."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.files import replacing
from greenrfm.training.precision import precision_of

FORMAT = 1


@dataclass
class Position:
    """Where a stage is. The batches done of this epoch follow from `step`, their order from seed and epoch.

    `summed` is the loss added up over this epoch, `means` that of each epoch before, `stale` the epochs since
    the best AUC, `micro` how many studies are computed at a time (None: the whole batch), `halved` whether
    memory ran out once.
    """

    step: int = 0
    summed: float = 0.0
    means: list[float] = field(default_factory=list)
    best_auc: float | None = None
    best_epoch: int = 0
    stale: int = 0
    micro: int | None = None
    halved: bool = False


@dataclass
class Kept:
    """What is saved of a stage: the objects themselves, so that saving reads them and restoring fills them."""

    stage: str
    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer
    generators: Mapping[str, np.random.Generator]
    position: Position = field(default_factory=Position)
    best: dict[str, Tensor] | None = None


def save(kept: Kept, folder: Path, keep: int) -> None:
    """Write a checkpoint of this step to `folder` in one step and remove all but the `keep` newest.

    All ranks must call it together; the first one writes.
    """
    states = _of_all_ranks(kept.fabric, random_states(kept.generators))
    if not kept.fabric.is_global_zero:
        return
    content = {
        "format": FORMAT,
        "stage": kept.stage,
        "position": asdict(kept.position),
        "model": kept.model.state_dict(),
        "optimizer": kept.optimizer.state_dict(),
        "precision": precision_of(kept.fabric),
        "scaler": kept.fabric.strategy.precision.state_dict(),
        "random": states,
        "best": kept.best,
    }
    write_tensors(content, folder / f"step-{kept.position.step:09d}.pt")
    for old in _files(folder)[:-keep]:
        old.unlink()


def write_tensors(content: Mapping[str, Any], path: Path) -> None:
    """Write tensors and plain types to `path` in one step; raise UserError if the disk does not take them."""
    with replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # what torch's own writer makes of a full disk
            raise UserError(f"{path} cannot be written; make room on its disk and go on with --resume") from error


def restore(kept: Kept, folder: Path) -> bool:
    """Fill `kept` from the newest checkpoint in `folder` and return whether there was one.

    Raises UserError if it is damaged, of another stage or model, or of another number of processes.
    """
    files = _files(folder)
    if not files:
        return False
    for left in folder.glob(".*.pt"):  # half-written by a process that was killed
        left.unlink(missing_ok=True)
    path = files[-1]
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT or content["stage"] != kept.stage:
            raise ValueError(content["format"])
        states = content["random"]
        kept.model.load_state_dict(content["model"], strict=True)
        kept.optimizer.load_state_dict(content["optimizer"])
        kept.position = Position(**content["position"])
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, … for a damaged file
        raise UserError(
            f"checkpoint {path} is damaged or of another model; remove it to go on from the one before"
        ) from error
    precision = precision_of(kept.fabric)
    if content["precision"] != precision:
        raise UserError(
            f"checkpoint {path} was computed in {content['precision']} and this machine computes in {precision}; "
            "go on where it was begun, or start anew in another folder"
        )
    if len(states) != kept.fabric.world_size:
        raise UserError(
            f"checkpoint {path} was written by {len(states)} processes and {kept.fabric.world_size} want to go on; "
            "start as many as before"
        )
    if content["scaler"]:
        kept.fabric.strategy.precision.load_state_dict(content["scaler"])
    kept.best = content["best"]
    set_random_states(states[kept.fabric.global_rank], kept.generators)
    return True


def random_states(generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
    """Return the states of Python's, torch's and the stage's own generators as tensors and plain types."""
    return {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        # As text: NumPy's state holds integers of 128 bits.
        "numpy": {name: json.dumps(generator.bit_generator.state) for name, generator in generators.items()},
    }


def set_random_states(states: dict[str, Any], generators: Mapping[str, np.random.Generator]) -> None:
    """Put every generator where `random_states` found it."""
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    for name, generator in generators.items():
        generator.bit_generator.state = json.loads(states["numpy"][name])


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"))


def _of_all_ranks(fabric: Fabric, states: dict[str, Any]) -> list[dict[str, Any]]:
    if fabric.world_size == 1:
        return [states]
    gathered: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(gathered, states)
    return gathered
