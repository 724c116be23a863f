"""The loop that every stage runs in: batches in, loss down, nothing lost when it is killed.

A stage builds a `Training` and calls `fit(training, session)`:

    wrapped, optimizer = fabric.setup(channels_last(model), adamw(parts, plan))
    crops = np.random.default_rng(seed + 1)

    def gradients(batch: Sequence[int], micro: int) -> Tensor:
        # the loss of the whole batch (of all ranks), detached; its gradients are left in the model
        ...

    fit(Training(name="stage 2 align", fabric=fabric, model=wrapped, optimizer=optimizer, plan=plan,
                 studies=data.studies, seed=seed + 2, gradients=gradients, alone=..., validate=...,
                 generators={"crops": crops}),
        session)

The loop zeroes gradients, calls `gradients`, checks, clips and steps (step.py), writes metrics and checkpoints,
validates, stops early, and restores all of it. `gradients` gets the *global* batch and takes its rank's share.
"""

from __future__ import annotations

import time

import torch

from greenrfm.training.checkpoints import Kept, restore, save
from greenrfm.training.distributed import largest
from greenrfm.training.metrics import peak_memory
from greenrfm.training.recipe import Stage
from greenrfm.training.schedule import Schedule
from greenrfm.training.session import Session
from greenrfm.training.step import Training, take_step


def fit(training: Training, session: Session) -> list[float]:
    """Train for `plan.epochs`, or until `plan.patience` epochs brought nothing, and return each epoch's mean loss.

    Goes on from the newest checkpoint of the stage in the session's folder: on a CPU to the very weights that
    an uninterrupted run has. With patience the model ends with the weights of its best epoch.

    Raises
    ------
    UserError
        Naming the studies to blame if loss or gradient is not finite; if memory runs out a second time; if a
        checkpoint does not fit. `Cancelled` after `session.cancel`, KeyboardInterrupt after Ctrl-C or SIGTERM; both
        save first.
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
    with session.interruptible(), session.alone(fabric.is_global_zero):
        while at.step < schedule.total and not _patience_is_over(plan, at.stale):
            epoch, within = divmod(at.step, schedule.steps)
            if within == 0:
                order = schedule.order(epoch)
            for group, peak in zip(training.optimizer.param_groups, peaks, strict=True):
                group["lr"] = schedule.rate(at.step, peak)
            batch = order[within * schedule.batch : (within + 1) * schedule.batch]
            loss = take_step(training, kept, batch)
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
            wish, due = largest(fabric, session.wish(), pace.due(at.step))
            if folder is not None and (wish or due) and not done:
                save(kept, folder, session.keep)
                pace.saved(at.step)
            if wish and not done:
                done_so_far = f"{training.name}: cancelled and saved after step {at.step} of {schedule.total}"
                session.stop(wish, done_so_far, fabric.is_global_zero)
    if plan.patience is not None and kept.best is not None:
        training.model.load_state_dict(kept.best)
    return at.means


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
