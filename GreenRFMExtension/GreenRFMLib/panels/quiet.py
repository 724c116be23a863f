"""What the panel does itself, told from what the user does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Quiet:
    """Call it to change widgets or nodes; while `active`, their signals are nothing that the user did."""

    def __init__(self) -> None:
        """Be inactive."""
        self.active = False

    def __call__(self, change: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `change` returns; it may call in turn what is changed quietly."""
        was, self.active = self.active, True
        try:
            return change(*arguments)
        finally:
            self.active = was
