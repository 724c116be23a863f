"""One reason to doubt a reading, and how much it weighs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

# "withhold": the scores would mean nothing. "doubt": they may be off. "note": good to know.
Level = Literal["withhold", "doubt", "note"]
Code = Literal[
    "modality", "hounsfield", "body-part", "coverage", "cut", "spacing", "slices", "file", "latent", "overruled"
]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class Check:
    """What one rule found: `sentence` tells a radiologist why, without a full stop; `code` names the rule."""

    code: Code
    level: Level
    sentence: str

    def to_dict(self) -> dict[str, str]:
        """Return the entry of `checks` in `greenrfm read --json`."""
        return {"code": self.code, "level": self.level, "sentence": self.sentence}


def worst_first(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return the checks by level, each sentence once, otherwise in their order."""
    once: dict[str, Check] = {}
    for check in checks:
        once.setdefault(check.sentence, check)
    return tuple(sorted(once.values(), key=lambda check: LEVELS.index(check.level)))
