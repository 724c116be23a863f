"""Reports that speak to the model instead of the reader are not sent: nobody can say what it would do."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from importlib import resources

import yaml

# "іgnore" with a Cyrillic і: no word of a report mixes the two alphabets.
MIXED = re.compile(r"[a-z][\u0400-\u04ff]|[\u0400-\u04ff][a-z]")


def reads_like_instructions(report: str) -> bool:
    """Tell whether the report holds words to a model: commands to ignore, to answer so or so, role marks.

    Looks for the phrases of `instructions.yaml` (English, German, Spanish, Turkish, Chinese) behind
    full-width letters, invisible letters and line breaks. It catches the plain attempts only; a report
    that it misses meets the checks on the answer (`answer.check`, `crosscheck.CrossCheck`).
    """
    text = _plain(report)
    return bool(_pattern().search(text) or MIXED.search(text))


def _plain(report: str) -> str:
    text = unicodedata.normalize("NFKC", report)
    if not text.isascii():
        text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    # Turkish İ is i with a dot above in lower case.
    lines = (" ".join(line.split()) for line in text.lower().replace("i\u0307", "i").splitlines())
    # Empty lines say nothing, and thousands of them would slow the patterns down.
    return " \n ".join(filter(None, lines))


@cache
def _pattern() -> re.Pattern[str]:
    content = yaml.safe_load((resources.files(__package__) / "instructions.yaml").read_text(encoding="utf-8"))
    every = [pattern.replace(" ", r"\s+").replace(r"\s+?", r"\s*") for group in content.values() for pattern in group]
    return re.compile("|".join(f"(?:{pattern})" for pattern in every), re.DOTALL)
