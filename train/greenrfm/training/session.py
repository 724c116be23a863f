"""What a run gives every stage: where its state is kept, whom to tell, and when to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from greenrfm.errors import UserError
from greenrfm.locks import Lock
from greenrfm.progress import Progress, silent
from greenrfm.training.metrics import Metrics


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

    def checkpoints(self, stage: str) -> Path | None:
        """Return the folder of a stage's checkpoints."""
        return None if self.folder is None else self.folder / "checkpoints" / stage.replace(" ", "_")

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C wait until the step is done and saved; the second one ends at once."""
        # Only the main thread hears signals; without a folder there is nothing to save.
        if self.folder is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)

        def remember(number: int, frame: FrameType | None) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    @contextmanager
    def alone(self, stage: str, first: bool) -> Iterator[None]:
        """Keep the run folder to this process; raise UserError if another trains in it. Only the `first` one writes."""
        if self.folder is None or not first:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.folder / "run.lock", f"run {self.folder}", "wait for it to end or name another folder")
        try:
            yield
        finally:
            lock.release()

    @property
    def stopping(self) -> bool:
        """Return whether Ctrl-C or `cancel` asks the stage to save and end."""
        return self._interrupted or (self.cancel is not None and self.cancel())

    def stop(self, stage: str, step: int, total: int) -> None:
        """End the stage, which is saved: KeyboardInterrupt after Ctrl-C, else `Cancelled`."""
        if self._interrupted:
            raise KeyboardInterrupt
        raise Cancelled(f"{stage}: cancelled and saved after step {step} of {total}; go on with --resume")

    def end_if_asked(self, stage: str) -> None:
        """End the run between two stages if Ctrl-C or `cancel` came in the last step of one."""
        if self._interrupted:
            raise KeyboardInterrupt
        if self.stopping:
            raise Cancelled(f"cancelled after {stage}, which is kept; go on with --resume")
