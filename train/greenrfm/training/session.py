"""What a run gives every stage: where its state is kept, whom to tell, and when to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import NoReturn

from greenrfm.errors import UserError
from greenrfm.locks import Lock
from greenrfm.progress import Progress, silent
from greenrfm.training.metrics import Metrics

LOCK = "run.lock"
# A file of this name in the run folder asks the run to save and end, from another process or machine.
CANCEL = "cancel"
STOPPED = 130  # the exit code of the command line after Ctrl-C


class Wish(IntEnum):
    """What is asked of a run between two steps; the larger one goes first."""

    GO_ON = 0
    CANCEL = 1
    INTERRUPT = 2


class Cancelled(UserError):
    """The `cancel` of the session said so; what was trained is saved."""


@dataclass
class Session:
    """Checkpoints, metrics, progress and the wish to stop, the same for all stages of a run.

    Parameters
    ----------
    folder
        The run's; checkpoints go below it, one folder a stage. None keeps nothing (controls, tests).
    progress
        Told after every step.
    metrics
        Gets a line every `metrics_steps` steps and every epoch; by default they go nowhere.
    checkpoint_minutes, checkpoint_steps
        A checkpoint is written when either has passed since the last one; None for the steps: by time only.
    keep
        So many of a stage's newest checkpoints are kept.
    cancel
        Asked after every step; true saves, then raises `Cancelled`.
    epoch_ended
        Called after each epoch's metrics are written.
    """

    folder: Path | None = None
    progress: Progress = silent
    metrics: Metrics = field(default_factory=Metrics)
    metrics_steps: int = 10
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int | None = None
    keep: int = 2
    cancel: Callable[[], bool] | None = None
    epoch_ended: Callable[[], None] = lambda: None
    _interrupted: bool = field(default=False, init=False)
    _held: bool = field(default=False, init=False)

    def checkpoints(self, stage: str) -> Path | None:
        """Return the folder of a stage's checkpoints."""
        return None if self.folder is None else self.folder / "checkpoints" / stage.replace(" ", "_")

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM wait until the step is done and saved; the second one ends at once."""
        # Only the main thread hears signals; without a folder there is nothing to save.
        if self.folder is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        # SIGTERM is what `torchrun`, Slurm and a service manager send before they kill.
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def put_back() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def remember(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            put_back()

        for number in before:
            signal.signal(number, remember)
        try:
            yield
        finally:
            put_back()

    @contextmanager
    def alone(self, first: bool) -> Iterator[None]:
        """Keep the run folder to this process; raise UserError if another trains in it. Only the `first` one writes.

        Within itself it does nothing, so that a run holds the folder from beginning to end and a stage that is
        trained by itself holds it too.
        """
        if self.folder is None or not first or self._held:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.folder / LOCK, f"run {self.folder}", "wait for it to end or name another folder")
        self._held = True
        try:
            yield
        finally:
            self._held = False
            lock.release()

    def wish(self) -> Wish:
        """Return whether Ctrl-C or `cancel` asks to save and end."""
        if self._interrupted:
            return Wish.INTERRUPT
        return Wish.CANCEL if self.cancel is not None and self.cancel() else Wish.GO_ON

    def stop(self, wish: int, done: str, first: bool = True) -> NoReturn:
        """End what is saved: KeyboardInterrupt after Ctrl-C, else `Cancelled`, saying what was done.

        Of several processes, which all end, only the `first` one speaks.
        """
        if not first:
            raise SystemExit(STOPPED)
        if wish == Wish.INTERRUPT:
            raise KeyboardInterrupt
        raise Cancelled(f"{done}; go on with --resume")

    def asking(self) -> Progress:
        """Return a progress that ends the work at hand once `cancel` says so: where nothing need be saved first."""

        def tell(stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
            self.progress(stage, done, total, metrics)
            if self.cancel is not None and self.cancel():
                self.stop(Wish.CANCEL, f"{stage}: cancelled after {done} of {total}")

        return tell
