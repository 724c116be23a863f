"""`greenrfm demo`: the whole way on a generated cohort, from reports to a reading, on one page."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenrfm.commands.demo.run import run_demo

__all__ = ["run_demo"]


def __getattr__(name: str) -> Any:
    """Import the demo when it is asked for: its worker processes import this package and need no torch."""
    if name != "run_demo":
        raise AttributeError(name)
    from greenrfm.commands.demo.run import run_demo

    return run_demo
