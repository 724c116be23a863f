"""One training step: gradients, checked and clipped, into the weights; again in halves if memory runs out once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.training.blame import Alone, to_blame
from greenrfm.training.checkpoints import Kept, random_states, set_random_states
from greenrfm.training.memory import halved
from greenrfm.training.precision import loss_scale
from greenrfm.training.recipe import Stage

Gradients = Callable[[Sequence[int], int], Tensor]


@dataclass
class Training:
    """One stage as the loop needs it.

    Parameters
    ----------
    name
        As progress, metrics and errors call the stage: "stage 1 vision".
    model, optimizer
        As `fabric.setup` returned them; the groups' rates are the peaks of the schedule.
    plan
        Epochs, batch, rates, clipping, patience.
    studies
        Ids of the training studies, by which a bad batch is named; batches are indices into them.
    seed
        Of the order of each epoch.
    gradients
        `gradients(batch, micro)` leaves the gradients of the batch's loss in the model, `micro` studies at a
        time, and returns that loss, detached and the same on every rank. It is called again with a smaller
        `micro` after the device ran out of memory.
    alone
        `alone(batch, micro)` yields what the model makes of each study alone (see `greenrfm.training.blame`); it is
        asked only after a batch whose loss or gradient is not finite. None: the whole batch is named.
    validate
        Returns the validation AUC of the model as it is, or None if there is none; called after each epoch.
    generators
        Every NumPy generator that `gradients` draws from: they are saved and restored with the model.
    micro
        Studies at a time to begin with; None takes the batch at once.
    notes
        Numbers that the stage wants in metrics.jsonl beside the loss (latent norms); it may fill them at any time.
    """

    name: str
    fabric: Fabric
    model: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Stage
    studies: Sequence[str]
    seed: int
    gradients: Gradients
    alone: Alone | None = None
    validate: Callable[[], float | None] | None = None
    generators: Mapping[str, np.random.Generator] = field(default_factory=dict)
    micro: int | None = None
    notes: dict[str, float] = field(default_factory=dict)


def take_step(training: Training, kept: Kept, batch: Sequence[int]) -> float:
    """Do one step with this batch and return its loss; one that runs out of memory is repeated once, in halves.

    Repeated, it draws the same crops and advances running statistics and random states once.

    Raises
    ------
    UserError
        If loss or gradient is not finite, before the weights move, naming the studies to blame; if memory ran out
        and repeating does not help or is not possible.
    """
    at = kept.position
    before = _Before(training)
    moving = False
    try:
        training.optimizer.zero_grad(set_to_none=True)
        loss = float(training.gradients(batch, at.micro or len(batch)))
        bad = _bad(training, loss)
        if bad is None:
            moving = True
            training.optimizer.step()
            return loss
    except torch.OutOfMemoryError:
        bad = None  # its traceback holds the tensors: try again only once it is gone
    if bad is not None:
        raise _not_a_number(training, bad, before, batch, kept)
    if training.fabric.world_size > 1:
        # The other processes did not run out and wait for this one's gradients.
        raise UserError(
            f"{training.name}: process {training.fabric.global_rank} is out of memory at step {at.step}; set a smaller "
            "micro_batch in the recipe and go on with --resume"
        )
    if moving and (not before.has_weights or at.halved):
        # Part of the weights may have moved: the step cannot be repeated, and the checkpoint is whole.
        raise UserError(
            f"{training.name}: out of memory in the optimiser at step {at.step}, where weights, gradients and their "
            "moments alone must fit; freeze more layers or take a larger device, then go on with --resume"
        )
    at.micro = halved(at.micro, len(batch), at.halved, training.name, at.step)
    at.halved = True
    before.restore()
    return take_step(training, kept, batch)


class _Before:
    """What a step changes before its loss is known, to put it back: random states and running statistics.

    Before the very first step also the weights: it allocates the optimiser's moments and may run out of memory
    when some weights have moved. Later steps allocate nothing that stays.
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._random = random_states(training.generators)
        self.has_weights = not training.optimizer.state
        tensors: dict[str, Tensor] = dict(training.model.named_buffers())
        if self.has_weights:
            tensors |= dict(training.model.named_parameters())
        # The weights wait in the memory of the host: that of the device is what runs out.
        self._values: list[tuple[Tensor, Tensor]] = [
            (tensor, tensor.detach().cpu().clone() if isinstance(tensor, nn.Parameter) else tensor.clone())
            for tensor in tensors.values()
        ]

    def restore(self) -> None:
        training = self._training
        training.optimizer.zero_grad(set_to_none=True)
        if self.has_weights:
            training.optimizer.state.clear()
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        set_random_states(self._random, training.generators)


def _bad(training: Training, loss: float) -> str | None:
    """Clip the gradients and return which of loss and gradient is not finite, None if all is well."""
    if not math.isfinite(loss):
        return "loss"
    fabric, most = training.fabric, training.plan.clip
    norm = fabric.clip_gradients(
        training.model, training.optimizer, max_norm=float("inf") if most is None else most, error_if_nonfinite=False
    )
    if norm is None or torch.isfinite(norm):
        return None
    # With float16 some are not now and then: the gradient scaler leaves such a step out and halves its scale. At a
    # scale of 1 it is not the scale.
    scale = loss_scale(fabric)
    return None if scale is not None and scale > 1 else "gradient"


def _not_a_number(training: Training, what: str, before: _Before, batch: Sequence[int], kept: Kept) -> UserError:
    """Return the error that names the studies to blame, or all of the batch if none can be singled out."""
    found: Mapping[int, str] = {}
    if training.alone is not None:
        before.restore()  # the same crops again, and running statistics without what was not a number
        micro = kept.position.micro or len(batch)
        found = to_blame(training.alone(batch, micro), training.model, training.fabric)
    said = f"{training.name}: the {what} is not a number at step {kept.position.step}; "
    if 0 < len(found) < len(batch):
        named = ", ".join(f"{training.studies[index]} ({found[index]})" for index in batch if index in found)
        return UserError(f"{said}mend or leave out what is to blame: {named}")
    named = ", ".join(training.studies[index] for index in batch)
    return UserError(f"{said}no study alone is to blame, so lower the rates or check the studies {named}")
