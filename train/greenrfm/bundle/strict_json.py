"""JSON as a bundle's files may use it: bounded, UTF-8, no key twice, no NaN."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from greenrfm.bundle.limits import MOST_JSON_DEPTH


def read_bounded(path: Path, most: int) -> bytes:
    """Return the content of a plain file of at most `most` bytes; raise OSError or ValueError otherwise.

    A pipe or device of that name is not waited for.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return content


def parse_json(text: str, depth: int = MOST_JSON_DEPTH) -> Any:
    """Return the value in `text`; raise ValueError for what is no JSON, or odd enough that readers differ about it.

    Those are a key that an object has twice, NaN, Infinity and numbers that overflow, and nesting beyond `depth`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refused, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _bounded(value, depth)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("an object has a key twice")
    return content


def _refused(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise ValueError("a number is too large")
    return number


def _bounded(value: Any, depth: int) -> None:
    """Raise ValueError if `value` is nested deeper than `depth`; breadth first, so that no depth is too deep for us."""
    level = [value]
    while level:
        if depth < 0:
            raise ValueError("nested too deeply")
        below = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in below for item in items if isinstance(item, dict | list)]
        depth -= 1
