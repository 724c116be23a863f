"""Reports that speak to the model instead of the reader are not sent: nobody can say what it would do."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple

import yaml

from greenrfm.distill.llm.chunks import WIDE

# "іgnore" with a Cyrillic і: no word of a report mixes the two alphabets.
MIXED = re.compile(r"[a-z][\u0400-\u04ff]|[\u0400-\u04ff][a-z]")
BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
# "请ignore" begins with "ignore"; after NFKD accents are gone, and these are all the letters of CJK.
WORD = re.compile(r"[^\W_\u2e80-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]+")
# Greek letters that look Latin; μ and the others stand in reports.
TWINS = str.maketrans("ιοαενρυ", "ioaevpu")
PART = re.compile(r"<(\w+)>")
# No command begins with a longer word; longer ones would only fill the memory of `_tails`.
LONGEST = 24
Patterns = tuple[re.Pattern[str], ...]


class Rules(NamedTuple):
    """`instructions.yaml`, compiled; `tails` by the words and stems ("ignorier*") that commands begin with."""

    markers: Patterns
    wide: Patterns
    tails: dict[str, list[re.Pattern[str]]]


def reads_like_instructions(report: str) -> bool:
    """Tell whether the report holds words to a model: commands to ignore, to answer so or so, role marks.

    Looks for the phrases of `instructions.yaml` (English, German, Spanish, Turkish, Chinese) behind
    full-width letters, invisible letters, accents and line breaks. It catches the plain attempts only; a
    report that it misses meets the checks on the answer (`answer.check`, `crosscheck.CrossCheck`).
    """
    text, rules = _plain(report), _rules()
    # A report has some hundred words and few of them begin a command: much faster than one large pattern.
    spaced = text.replace("_", " ")
    if any(tail.match(spaced, word.end()) for word in WORD.finditer(spaced) for tail in _tails(word[0][: LONGEST + 1])):
        return True
    others = rules.markers
    if not text.isascii():
        others += (MIXED, *(rules.wide if WIDE.search(text) else ()))
    return any(pattern.search(text) for pattern in others)


def _plain(report: str) -> str:
    # Empty lines say nothing, and thousands of them would slow the patterns down.
    lines = (" ".join(line.split()) for line in _without_accents(report).lower().splitlines())
    return "\n".join(filter(None, lines))


def _without_accents(text: str) -> str:
    """Return `text` without accents, dots (also of the Turkish i) and invisible letters."""
    return BEYOND_ASCII.sub(_plain_letters, text)


def _plain_letters(stretch: re.Match[str]) -> str:
    letters = unicodedata.normalize("NFKD", stretch[0]).replace("ı", "i").translate(TWINS)
    return "".join(letter for letter in letters if unicodedata.category(letter) not in {"Mn", "Cf"})


@lru_cache(maxsize=1 << 14)
def _tails(word: str) -> Patterns:
    """Return what would make a command of the words behind `word`."""
    tails = _rules().tails
    heads = [word, *(word[:length] + "*" for length in range(1, len(word) + 1))]
    return tuple(tail for head in heads for tail in tails.get(head, ()))


@cache
def _rules() -> Rules:
    content = yaml.safe_load((resources.files(__package__) / "instructions.yaml").read_text(encoding="utf-8"))
    parts: dict[str, str] = {}
    for name, part in content["parts"].items():  # A part may hold those before it.
        parts[name] = _filled(part, parts)
    tails: dict[str, list[re.Pattern[str]]] = {}
    for heads, tail in content["words"]:
        pattern = _compiled(_filled(tail, parts))
        for head in _without_accents(heads).split():
            tails.setdefault(head, []).append(pattern)
    return Rules(tuple(map(_compiled, content["markers"])), tuple(map(_compiled, content["zh"])), tails)


def _filled(pattern: str, parts: dict[str, str]) -> str:
    return PART.sub(lambda name: parts[name[1]], pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    pattern = _without_accents(pattern).replace(" ", r"\s+").replace(r"\s+?", r"\s*")
    return re.compile(pattern, re.DOTALL)
