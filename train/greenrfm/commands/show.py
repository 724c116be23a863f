"""Progress on stderr: a bar for people, a line at every tenth or minute for logs; results on stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar


def stdout() -> Console:
    """Return a console for results: no markup, so that ids and reports are printed as they are."""
    return Console(markup=False, highlight=False, emoji=False, soft_wrap=True)


class Display:
    """Shows progress (it is a `greenrfm.progress.Progress`) and prints results meanwhile; a context manager."""

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Show that `done` of `total` steps of `stage` are finished."""
        raise NotImplementedError

    def print(self, *results: RenderableType) -> None:
        """Print results on stdout, each from a new line."""
        for result in results:
            stdout().print(result)

    def say(self, text: str) -> None:
        """Print a sentence on stdout."""
        self.print(text)

    def close(self) -> None:
        """Stop showing; nothing happens the second time."""

    def __enter__(self) -> Self:
        """Return the display."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self.close()


class LineDisplay(Display):
    """A plain line per tenth of a stage, so that a log stays readable, and after `QUIET_S` without one."""

    QUIET_S = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin; `clock` tells seconds."""
        self._clock = clock
        self._stage = ""
        self._first = self._last = self._tenth = 0
        self._began = self._printed = 0.0

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Print a line if another tenth of the stage is finished, or the last line is long ago."""
        now = self._clock()
        if stage != self._stage or done < self._last:
            self._stage, self._first, self._tenth, self._began, self._printed = stage, done, 0, now, now
        is_further, self._last = done > self._last, done
        tenth = 10 * done // max(total, 1)
        if tenth <= self._tenth and not (is_further and now - self._printed >= self.QUIET_S):
            return
        self._tenth, self._printed = tenth, now
        parts = [f"{stage}: {100 * done // max(total, 1)} % ({done}/{total})", *_metrics(metrics)]
        if self._first < done < total:
            seconds = (now - self._began) / (done - self._first) * (total - done)
            parts.append(f"{_duration(seconds)} left")
        print(", ".join(parts), file=sys.stderr, flush=True)


class BarDisplay(Display):
    """A bar per stage with percent, count, time left and metrics; those of finished stages stay."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._stage = ""
        self._last = 0

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Move the stage's bar; a new stage begins a new one."""
        if stage == self._stage and self._bar is None and self._last <= done:
            return  # finished already
        if stage != self._stage or done < self._last or self._bar is None:
            self.close()
            self._begin(stage, done, total)
        self._last = done
        assert self._bar is not None
        self._bar.update(self._task, completed=done, total=total, metrics=", ".join(_metrics(metrics)))
        if done >= total:
            self.close()

    def print(self, *results: RenderableType) -> None:
        """Print results on stdout; where it is the same terminal, above the bar instead of into it."""
        if self._bar is None or not sys.stdout.isatty():
            super().print(*results)
            return
        for result in results:
            self._console.print(result)

    def close(self) -> None:
        """Stop the bar; nothing happens the second time."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _begin(self, stage: str, done: int, total: int) -> None:
        self._stage = stage
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[metrics]}"),
            console=self._console,
            redirect_stdout=False,  # rich would move --json to stderr
        )
        self._task = self._bar.add_task(stage, completed=done, total=total, metrics="")
        self._bar.start()


def display() -> Display:
    """Return the display that fits stderr."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)
    return BarDisplay(console) if console.is_terminal else LineDisplay()


def _metrics(metrics: Mapping[str, float] | None) -> list[str]:
    return [
        f"{name} {value:.0f}" if abs(value) >= 1000 else f"{name} {value:.3g}"
        for name, value in (metrics or {}).items()
    ]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
