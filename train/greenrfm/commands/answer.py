"""How commands answer: JSON for machines, sentences on stderr, and the exit code of work that partly failed."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer


def print_json(value: Any) -> None:
    """Print `value` as JSON in ASCII on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, allow_nan=False) + "\n")


def sentence(text: object) -> None:
    """Print one line on stderr."""
    print(" ".join(str(text).split()), file=sys.stderr, flush=True)


class Misses:
    """What could not be done among many: each is said at once, the others go on, the command ends with 1."""

    def __init__(self) -> None:
        self.count = 0

    def note(self, text: object) -> None:
        """Say one miss."""
        self.count += 1
        sentence(text)

    def finish(self) -> None:
        """End the command with exit code 1 if anything was missed."""
        if self.count:
            raise typer.Exit(1)
