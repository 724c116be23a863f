"""The validation AUC that a stage is watched by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from greenrfm.errors import UserError
from greenrfm.evaluation import auroc
from greenrfm.findings import State
from greenrfm.networks import DualEncoder
from greenrfm.training.memory import fewer
from greenrfm.training.recipe import Stage
from greenrfm.training.volumes import Crops


def macro_auc(logits: NDArray[np.floating], states: NDArray[np.int8]) -> float | None:
    """Return the mean AUC of logits (N, C) over the findings that studies state present and absent; None if none.

    What is uncertain or not mentioned is left out of its finding.
    """
    areas = []
    for column in range(states.shape[1]):
        known = np.isin(states[:, column], (State.PRESENT, State.ABSENT))
        area = auroc(states[known, column] == State.PRESENT, logits[known, column].astype(np.float64))
        areas += [] if area is None else [area]
    return float(np.mean(areas)) if areas else None


def watched(validation: int, training: int, plan: Stage) -> list[int]:
    """Return which validation studies an epoch is measured on: all if early stopping goes by them.

    For a mere curve a twentieth of the training studies is enough, spread evenly, at least 50: about 2 % of the
    epoch's cost instead of 8 % (a study costs 0.4 of a training step without its gradient).
    """
    most = validation if plan.patience is not None else max(50, training // 20)
    if validation <= most:
        return list(range(validation))
    return [int(place) for place in np.linspace(0, validation - 1, most)]


class AtATime:
    """How many studies are encoded at once: so many, and fewer from the moment that memory runs out."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)

    def logits(self, encode: Callable[[Sequence[int]], Tensor], studies: Sequence[int]) -> NDArray[np.float32]:
        """Return `encode`'s logits (N, C) of these studies; they do not depend on how many go at a time.

        Raises UserError if there is no memory for one.
        """
        rows: list[NDArray[np.float32]] = []
        done = 0
        while done < len(studies):
            part = studies[done : done + self._size]
            try:
                rows.append(encode(part).float().cpu().numpy())
                done += len(part)
                continue
            except torch.OutOfMemoryError:
                pass  # its traceback holds the tensors: try again only once it is gone
            if len(part) == 1:
                raise UserError(
                    "validation: out of memory with one study; take a smaller preprocessing size or a larger stem in "
                    "another run folder, or go on with --resume on a larger device"
                )
            self._size = fewer(len(part), "validation: out of memory")
        return np.concatenate(rows)


def logits_of(encode: Callable[[Sequence[int]], Tensor], studies: Sequence[int], size: int) -> NDArray[np.float32]:
    """Return `encode`'s logits (N, C) of these studies, `size` at a time."""
    return AtATime(size).logits(encode, studies)


def fields_of(crops: Crops, studies: Sequence[int]) -> Tensor:
    """Return the whole padded fields (N, 1, H, W, D) of these studies, channels last: what a reader sees."""
    return torch.from_numpy(crops.fields(studies)).contiguous(memory_format=torch.channels_last_3d)


def at_a_time(plan: Stage) -> int:
    """Return how many fields to compute at once: without gradients, what fits in training fits."""
    return max(1, (plan.micro_batch or plan.batch) // 2)


def dual_auc(
    fabric: Fabric, crops: Crops, states: NDArray[np.int8], training: int, plan: Stage
) -> Callable[[DualEncoder], float | None]:
    """Return a measure of the aligned model: the AUC of its shared classifier on these studies' whole fields.

    `training` is how many studies it trains on, which decides how many are `watched`.
    """
    chosen, at_once = watched(len(states), training, plan), AtATime(at_a_time(plan))

    def measure(model: DualEncoder) -> float | None:
        def logits(studies: Sequence[int]) -> Tensor:
            with fabric.autocast():
                latents = model.encode_volumes(fabric.to_device(fields_of(crops, studies)))
            found: Tensor = model.classifier(latents.float())
            return found

        return macro_auc(at_once.logits(logits, chosen), states[chosen])

    return measure
