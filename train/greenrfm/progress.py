"""How long work tells where it is: one callable, whatever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called after each step of a stage; `metrics` are numbers worth showing, such as the loss."""

    def __call__(self, stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Report that `done` of `total` steps of `stage` are finished."""


def silent(stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
    """Show nothing."""
