"""The loop that every stage runs in: batches in, loss down, nothing lost when it is killed.

A stage builds a `Training` and calls `fit(training, session)`:

    wrapped, optimizer = fabric.setup(channels_last(model), adamw(parts, plan))
    crops = np.random.default_rng(seed + 1)

    def gradients(batch: Sequence[int], micro: int) -> Tensor:
        # the loss of the whole batch (of all ranks), detached; its gradients are left in the model
        ...

    fit(Training(name="stage 2 align", fabric=fabric, model=wrapped, optimizer=optimizer, plan=plan,
                 studies=data.studies, seed=seed + 2, gradients=gradients, validate=..., generators={"crops": crops}),
        session)

The loop zeroes gradients, calls `gradients`, checks the loss, clips, steps, writes metrics and checkpoints,
validates, stops early, and restores all of it. `gradients` gets the *global* batch and takes its rank's share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from greenrfm.errors import UserError
from greenrfm.training.checkpoints import Kept, random_states, restore, save, set_random_states
from greenrfm.training.memory import halved
from greenrfm.training.metrics import peak_memory
from greenrfm.training.precision import precision_of
from greenrfm.training.recipe import Stage
from greenrfm.training.schedule import Schedule
from greenrfm.training.session import Session

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
    validate: Callable[[], float | None] | None = None
    generators: Mapping[str, np.random.Generator] = field(default_factory=dict)
    micro: int | None = None
    notes: dict[str, float] = field(default_factory=dict)


def fit(training: Training, session: Session) -> list[float]:
    """Train for `plan.epochs`, or until `plan.patience` epochs brought nothing, and return each epoch's mean loss.

    Goes on from the newest checkpoint of the stage in the session's folder: on a CPU to the very weights that
    an uninterrupted run has. With patience the model ends with the weights of its best epoch.

    Raises
    ------
    UserError
        Naming the batch's studies if the loss is not finite; if memory runs out a second time; if a checkpoint
        does not fit. `Cancelled` after `session.cancel`, KeyboardInterrupt after Ctrl-C; both save first.
    """
    plan, fabric = training.plan, training.fabric
    schedule = Schedule(plan, len(training.studies), training.seed)
    peaks = [group["lr"] for group in training.optimizer.param_groups]
    kept = Kept(training.name, fabric, training.model, training.optimizer, training.generators)
    kept.position.micro = training.micro
    folder = session.checkpoints(training.name)
    if folder is not None:
        restore(kept, folder)
    at = kept.position
    if training.micro is not None and (at.micro is None or training.micro < at.micro):
        at.micro, at.halved = training.micro, False  # what the user changed after memory ran out
    if fabric.is_global_zero:
        session.metrics.rewind(training.name, at.step)
    pace = _Pace(at.step, session)
    order = schedule.order(at.step // schedule.steps)
    training.model.train()
    with session.interruptible(), session.alone(training.name, fabric.is_global_zero):
        while at.step < schedule.total and not _patience_is_over(plan, at.stale):
            epoch, within = divmod(at.step, schedule.steps)
            if within == 0:
                order = schedule.order(epoch)
            for group, peak in zip(training.optimizer.param_groups, peaks, strict=True):
                group["lr"] = schedule.rate(at.step, peak)
            batch = order[within * schedule.batch : (within + 1) * schedule.batch]
            loss = _gradients(training, kept, batch)
            _clip(training, batch, at.step)
            training.optimizer.step()
            at.step += 1
            at.summed += loss
            done = at.step == schedule.total
            numbers = pace.numbers(at.step, schedule)
            mean = at.summed / (within + 1)
            rate = training.optimizer.param_groups[-1]["lr"]
            shown = {"loss": mean, "rate": rate, "epoch": epoch + 1.0, "studies/s": numbers["volumes_per_s"]}
            memory = peak_memory()
            shown["peak GB"] = max((peak for peak in memory.values() if peak is not None), default=0.0) / 1e3
            session.progress(training.name, at.step, schedule.total, shown)
            if at.step % session.metrics_steps == 0 and fabric.is_global_zero:
                facts = {"loss": mean, "lr": rate, **numbers, **memory, **training.notes}
                session.metrics.write("step", training.name, at.step, epoch + 1, facts)
            if within + 1 == schedule.steps:
                _end_epoch(training, kept, session, epoch, schedule.steps)
            # All ranks must agree, or one would wait for the others for ever.
            stop, due = fabric.broadcast((session.stopping, pace.due(at.step)))
            if folder is not None and (stop or due) and not done:
                save(kept, folder, session.keep)
                pace.saved(at.step)
            if stop and not done:
                session.stop(training.name, at.step, schedule.total)
    if plan.patience is not None and kept.best is not None:
        training.model.load_state_dict(kept.best)
    return at.means


def _gradients(training: Training, kept: Kept, batch: Sequence[int]) -> float:
    """Leave the batch's gradients in the model and return its loss; a batch that runs out of memory is halved once."""
    at = kept.position
    before = random_states(training.generators)
    training.optimizer.zero_grad(set_to_none=True)
    try:
        loss = float(training.gradients(batch, at.micro or len(batch)))
    except torch.OutOfMemoryError:
        out_of_memory = True  # its traceback holds the tensors: try again only once it is gone
    else:
        out_of_memory = False
    if out_of_memory and training.fabric.world_size > 1:
        # The other processes did not run out and wait for this one's gradients.
        raise UserError(
            f"{training.name}: process {training.fabric.global_rank} is out of memory at step {at.step}; set a smaller "
            "micro_batch in the recipe and go on with --resume"
        )
    if out_of_memory:
        at.micro = halved(at.micro, len(batch), at.halved, training.name, at.step)
        at.halved = True
        set_random_states(before, training.generators)
        return _gradients(training, kept, batch)
    if not math.isfinite(loss):
        raise _not_a_number(training, "loss", batch, at.step)
    return loss


def _clip(training: Training, batch: Sequence[int], step: int) -> None:
    """Clip the gradients; raise UserError if they are not finite, before they reach the weights."""
    fabric, most = training.fabric, training.plan.clip
    norm = fabric.clip_gradients(
        training.model, training.optimizer, max_norm=float("inf") if most is None else most, error_if_nonfinite=False
    )
    # With float16 some are now and then, and the gradient scaler leaves such a step out.
    if norm is not None and precision_of(fabric) != "16-mixed" and not torch.isfinite(norm):
        raise _not_a_number(training, "gradient", batch, step)


def _not_a_number(training: Training, what: str, batch: Sequence[int], step: int) -> UserError:
    named = ", ".join(training.studies[index] for index in batch)
    return UserError(f"{training.name}: the {what} is not a number at step {step}; check the studies {named}")


def _end_epoch(training: Training, kept: Kept, session: Session, epoch: int, steps: int) -> None:
    """Note the epoch's loss, measure the model on validation, and keep it if it is the best and that matters."""
    at = kept.position
    at.means.append(at.summed / steps)
    at.summed = 0.0
    auc = None
    if training.validate is not None:
        training.model.eval()
        with torch.no_grad():
            # Rounding may differ between processes, and they must agree on the best epoch and on the end.
            auc = training.fabric.broadcast(training.validate())
        training.model.train()
    if auc is not None and (at.best_auc is None or auc > at.best_auc):
        at.best_auc, at.best_epoch, at.stale = auc, epoch + 1, 0
        if training.plan.patience is not None:
            kept.best = {name: value.detach().cpu().clone() for name, value in training.model.state_dict().items()}
    elif auc is not None:
        at.stale += 1
    if training.fabric.is_global_zero:
        facts = {"loss": at.means[-1], "val_auc": auc, **peak_memory(), **training.notes}
        session.metrics.write("epoch", training.name, at.step, epoch + 1, facts)
        session.epoch_ended()


def _patience_is_over(plan: Stage, stale: int) -> bool:
    return plan.patience is not None and stale >= plan.patience


class _Pace:
    """Volumes a second, time left, and whether a checkpoint is due; counted from where this process began."""

    def __init__(self, step: int, session: Session) -> None:
        self._session = session
        self._first, self._began = step, time.monotonic()
        self._saved_step, self._saved = step, self._began

    def numbers(self, step: int, schedule: Schedule) -> dict[str, float]:
        """Return "volumes_per_s" and "eta_s"."""
        a_step = max(time.monotonic() - self._began, 1e-9) / (step - self._first)
        return {"volumes_per_s": schedule.batch / a_step, "eta_s": (schedule.total - step) * a_step}

    def due(self, step: int) -> bool:
        """Return whether enough time or steps have passed since the last checkpoint."""
        steps = self._session.checkpoint_steps
        if steps is not None and step - self._saved_step >= steps:
            return True
        return time.monotonic() - self._saved >= 60 * self._session.checkpoint_minutes

    def saved(self, step: int) -> None:
        """Count from this step."""
        self._saved_step, self._saved = step, time.monotonic()
