"""What the rules of de-identification share: kinds, word lists, and a plain copy of the report to search in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import yaml

# In the searched copy: what is removed already, and what must stay. No rule matches either.
REMOVED, KEPT = "\x00", "\x01"
BLANK = "[ \\t]"
# The edge of a word. A Chinese character beside it is one too, which \\b does not see.
EDGE, END = r"(?<![A-Za-zÀ-ɏ0-9_])", r"(?![A-Za-zÀ-ɏ0-9_])"
BLANKS = {" ": f"{BLANK}+", " ?": f"{BLANK}*"}
# Full-width digits and marks, blanks and dashes of all kinds become ASCII, one for one.
PLAIN = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    | dict.fromkeys((0x00A0, 0x2007, 0x2009, 0x202F, 0x3000), 0x20)
    | dict.fromkeys((*range(0x2010, 0x2016), 0x2212), 0x2D)
    | {0x2019: 0x27, 0x3002: 0x2E, 0x3001: 0x2C}
)


class Kind(StrEnum):
    """What an identifier is; the placeholder in the text is its name in brackets, such as [DATE]."""

    EMAIL = "email"
    URL = "url"
    DATE = "date"
    TIME = "time"
    PHONE = "phone"
    ID = "id"
    AGE = "age"
    ADDRESS = "address"
    HOSPITAL = "hospital"
    NAME = "name"

    @property
    def placeholder(self) -> str:
        """Return what stands in the text instead."""
        return f"[{self.name}]"


# `re` skips to the digit at once and looks back from there.
NUMBER_START = re.compile(r"\d(?<![0-9]\d)")
PLACEHOLDER = re.compile("|".join(re.escape(kind.placeholder) for kind in Kind))


# Returns the part of a match to remove, as (start, end), or None to leave all of it.
Judge = Callable[[re.Match[str]], tuple[int, int] | None]
# Tells whether a rule may match in a text that has numbers at these places (`number_starts`).
Gate = Callable[[str, Sequence[int]], object]


def whole(match: re.Match[str]) -> tuple[int, int]:
    """Remove all of the group `it`."""
    return match.span("it")


def always(text: str, numbers: Sequence[int]) -> bool:
    """Let every text pass."""
    return True


def holding(*words: str) -> Gate:
    """Let texts with one of these words pass."""
    return lambda text, numbers: any(word in text for word in words)


def holding_match(pattern: str) -> Gate:
    """Let texts pass that have a match of `pattern`.

    It should begin with a letter, a class, or alternatives that begin with letters: only then does `re`
    skip at once to where a match can begin.
    """
    search = re.compile(pattern).search
    return lambda text, numbers: search(text)


def holding_number(pattern: str) -> Gate:
    """Let texts pass in which `pattern` matches from the first digit of a number on; reports have few of them."""
    match = re.compile(pattern).match
    return lambda text, numbers: any(match(text, start) for start in numbers)


def number_starts(text: str) -> list[int]:
    """Return the places of digits that have no digit before them."""
    return [match.start() for match in NUMBER_START.finditer(text)]


@dataclass(frozen=True)
class Rule:
    """Where identifiers of one kind stand.

    Parameters
    ----------
    kind
        Their kind.
    pattern
        Finds them in the plain copy; its group `it` is what is removed, or stays if `kind` is None.
    judge
        Decides about a match.
    gate
        Passes every text that has a match, and is quicker: most reports have no identifiers.
    at_numbers
        Whether every match begins with a digit that has no digit before it: only there it is tried, without a gate.
    """

    kind: Kind | None
    pattern: re.Pattern[str]
    judge: Judge = whole
    gate: Gate = always
    at_numbers: bool = False

    def matches(self, text: str, numbers: Sequence[int]) -> Iterator[re.Match[str]]:
        """Return what `pattern.finditer(text)` does; `numbers` as of `number_starts`."""
        if not self.at_numbers:
            yield from self.pattern.finditer(text)
            return
        done = 0
        for start in numbers:
            if start >= done and (match := self.pattern.match(text, start)):
                yield match
                done = match.end()


def plain(report: str) -> str:
    """Return a copy to search in: as long as `report`, with ASCII digits and marks, placeholders struck out."""
    text = report.translate(PLAIN)
    return PLACEHOLDER.sub(lambda match: REMOVED * len(match[0]), text)


@cache
def data() -> Mapping[str, Any]:
    """Return data/identifiers.yaml."""
    text = (resources.files("greenrfm.distill") / "data" / "identifiers.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def any_of(*keys: str) -> str:
    """Return a pattern that matches one of the entries of those lists, whatever its case."""
    return f"(?i:{alternatives(*keys)})"


def alternatives(*keys: str) -> str:
    """Return a pattern that matches one of the entries of those lists as it is written."""
    entries: list[str] = []
    for key in keys:
        value: Any = data()
        for name in key.split("."):
            value = value[name]
        entries += value
    return re.sub(r"\[[^]]*\]| \??", lambda match: BLANKS.get(match[0], match[0]), "|".join(entries))
