"""Typed access to JSON values; every complaint names the file and the key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest

# Plain names only: no folder, drive or parent can be spelled with these characters.
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
# What could move the cursor of a terminal or hide text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MOST_NAME = 100
# In advice, a key of the file itself is quoted; a hostile one may be long.
_MOST_QUOTED = 40


class Fields:
    """Takes values of the wanted kind out of parsed JSON, or raises UserError."""

    def __init__(self, source: str) -> None:
        self.source = source

    def error(self, key: str, problem: str) -> UserError:
        """Return the error for `key`; it always says what to do."""
        advice = "" if ";" in problem else "; export the bundle again"
        return UserError(f"{self.source}: '{key}' {problem}{advice}")

    def keys(self, value: Any, where: str, names: str) -> dict[str, Any]:
        """Return the object `value`, which must have the keys in `names` and no others."""
        known = tuple(names.split())
        if not isinstance(value, dict):
            raise self.error(where, f"must be an object with {', '.join(known)}")
        for key in value:
            if key not in known:
                short = repr(key[:_MOST_QUOTED])
                raise self.error(where or "manifest", f"has an unknown key {short}{nearest(key[:100], known)}")
        for key in known:
            if key not in value:
                raise self.error(where or "manifest", f"lacks '{key}'")
        return value

    def text(self, mapping: dict[str, Any], key: str) -> str:
        """Return a text without control characters other than line feed and tab."""
        value = mapping[key]
        if not isinstance(value, str):
            raise self.error(key, "must be a text")
        if _CONTROL.search(value) or not _encodable(value):
            raise self.error(key, "holds control characters or half a character")
        return value

    def mapping(self, mapping: dict[str, Any], key: str) -> dict[str, Any]:
        """Return an object with any content."""
        if not isinstance(mapping[key], dict):
            raise self.error(key, "must be an object")
        return dict(mapping[key])

    def items(self, mapping: dict[str, Any], key: str) -> Iterable[Any]:
        """Return the items of a list."""
        if not isinstance(mapping[key], list):
            raise self.error(key, "must be a list")
        return tuple(mapping[key])

    def whole(self, mapping: dict[str, Any], key: str, where: str, least: int, most: int = 2**53) -> int:
        """Return a whole number between `least` and `most`."""
        value = mapping[key]
        if type(value) is not int or not least <= value <= most:
            raise self.error(where, f"must be a whole number from {least} to {most}")
        return value

    def numbers(
        self, value: Any, where: str, count: int, low: float = -np.inf, high: float = np.inf
    ) -> tuple[float, ...]:
        """Return `count` finite numbers from `low` to `high`."""
        if not isinstance(value, list) or len(value) != count:
            raise self.error(where, f"must be a list of {count} numbers")
        try:
            numbers = tuple(float(item) for item in value if type(item) in (int, float))
        except OverflowError:
            numbers = ()
        if len(numbers) < count or not all(low <= number <= high and abs(number) < np.inf for number in numbers):
            bounds = f" from {low:g} to {high:g}" if np.isfinite(low) else ""
            raise self.error(where, f"must hold finite numbers{bounds}")
        return numbers

    def three(self, value: Any, where: str, least: float, most: float) -> tuple[float, float, float]:
        """Return three numbers from `least` to `most`."""
        height, width, depth = self.numbers(value, where, 3, least, most)
        return height, width, depth

    def file_name(self, name: str) -> bool:
        """Return whether `name` can only be a file of the bundle's own folder."""
        return len(name) <= _MOST_NAME and bool(FILE_NAME.fullmatch(name))


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
