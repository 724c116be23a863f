"""Phrases, the small pattern language of the lexicon's data files.

A phrase is words separated by spaces, matched against normalised text (see `sentences.normalise`):

- a word also matches its plural (`opacity` → opacities, `septum` → septa);
- `word*` matches every word that begins so;
- `(one|other words)` is a choice, `word?` and `(…)?` may be missing;
- `..` stands for up to five words, `...` for up to twelve but not past a comma or "and".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

T = TypeVar("T")
GAPS = {"..": r"(?:[^ ;]+ ){0,5}", "...": r"(?:(?!, |and )[^ ;]+ ){0,12}"}
# Latin and English plurals of the words radiologists write: (ending, its forms).
ENDINGS = (
    ("sis", ("sis", "ses")),
    ("ity", ("ity", "ities")),
    ("ry", ("ry", "ries")),
    ("dy", ("dy", "dies")),
    ("oma", ("oma", "omas", "omata")),
    ("hy", ("hy", "hies")),
    ("um", ("um", "a", "ums")),
    ("us", ("us", "i", "uses")),
    ("la", ("la", "lae", "las")),
    ("is", ("is", "ides")),
    ("s", ("s", "ses")),
    ("", ("", "s", "es")),
)
ELEMENT = re.compile(r"\.{2,3}|\([^()]*\)\??|[^\s()]+")


@dataclass(frozen=True, eq=False)
class Phrase:
    """A compiled phrase: its text, its expression, and literals of which a match must contain one."""

    text: str
    expression: re.Pattern[str]
    stems: tuple[str, ...]

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where the phrase stands in the normalised `text`."""
        for match in self.expression.finditer(text):
            yield match.start() + 1, match.end()

    def named(self, matched: str) -> str:
        """Return what of the phrase stands in `matched`, as "aorta .. calcif*": its words, none of the report's."""
        shown: list[str] = []
        for word in matched.split():
            stem = self._own.get(word) or next((each for each in self._stubs if word.startswith(each[:-1])), "..")
            if stem != ".." or (shown and shown[-1] != ".."):
                shown.append(stem)
        return " ".join(shown)

    @cached_property
    def _own(self) -> dict[str, str]:
        return {form: word for word in _words(self.text) if word.isalnum() for form in forms(word)}

    @cached_property
    def _stubs(self) -> list[str]:
        return [word for word in _words(self.text) if word.endswith("*")]


class PhraseIndex(Generic[T]):
    """Finds the phrases that a sentence may contain by its words, so that few expressions are tried."""

    def __init__(self) -> None:
        """Begin empty."""
        self._by_initial: dict[str, list[tuple[str, tuple[Phrase, T]]]] = {}
        self._by_word: dict[str, list[tuple[Phrase, T]]] = {}

    def add(self, phrase: Phrase, item: T) -> None:
        """Add a phrase and what goes with it, before the first `find`."""
        for stem in phrase.stems:
            self._by_initial.setdefault(stem[:2], []).append((stem, (phrase, item)))

    def find(self, text: str) -> dict[tuple[Phrase, T], None]:
        """Return the phrases of which the normalised `text` holds a stem, each once."""
        found: dict[tuple[Phrase, T], None] = {}
        for word in text.split():
            if (known := self._by_word.get(word)) is None:
                near = self._by_initial.get(f" {word[0]}", ())
                known = self._by_word[word] = [pair for stem, pair in near if f" {word} ".startswith(stem)]
            for pair in known:
                found[pair] = None
        return found


def forms(word: str) -> tuple[str, ...]:
    """Return the singular `word` and its plurals."""
    for ending, replacements in ENDINGS:
        if word.endswith(ending) and len(word) > 3:
            root = word[: len(word) - len(ending)]
            return tuple(root + replacement for replacement in replacements)
    return (word,)


def words(phrase: str) -> set[str]:
    """Return the complete words of `phrase` with their plurals: what a typo may be corrected to."""
    return {form for word in _words(phrase) if word.isalpha() for form in forms(word)}


def _words(phrase: str) -> list[str]:
    return re.sub(r"[()|?]", " ", phrase).split()


def source(phrase: str, plurals: bool = True) -> str:
    """Return the regular expression of `phrase`, each word followed by one space.

    Raises ValueError if the phrase is empty or its parentheses do not pair.
    """
    elements = ELEMENT.findall(phrase)
    if not elements or phrase.count("(") != sum(element.startswith("(") for element in elements):
        raise ValueError(f"not a phrase: {phrase!r}")
    parts = []
    for element in elements:
        if element in GAPS:
            parts.append(GAPS[element])
            continue
        optional = "?" if element.endswith("?") and element != "?" else ""
        body = element.removesuffix("?") if optional else element
        choices = body[1:-1].split("|") if body.startswith("(") else [body]
        texts = ["".join(_word(word, plurals) + " " for word in text.split()) for text in choices]
        # A bare literal lets the expression search by it; a group would hide it.
        parts.append(texts[0] if len(texts) == 1 and not optional else f"(?:{'|'.join(texts)}){optional}")
    return "".join(parts)


def compile_phrase(phrase: str, plurals: bool = True) -> Phrase:
    """Compile a phrase; cues ("no", "is seen") want `plurals` off."""
    return Phrase(phrase, re.compile(f" {source(phrase, plurals)}"), _stems(phrase, plurals))


def compile_pair(first: str, second: str) -> Phrase:
    """Compile `first` and `second` in either order with up to twenty words between them."""
    one, other, gap = source(first), source(second), r"(?:[^ ;]+ ){0,20}"
    stems = max(_stems(first), _stems(second), key=_rarity)
    return Phrase(f"{first} & {second}", re.compile(f" (?:{one}{gap}{other}|{other}{gap}{one})"), stems)


def _word(word: str, plurals: bool) -> str:
    if word.endswith("*"):
        return re.escape(word[:-1]) + r"[^ ]*"
    if not plurals or not word.isalpha():
        return re.escape(word)
    variants = forms(word)
    root = _root(variants)
    return root + "(?:" + "|".join(variant[len(root) :] for variant in variants) + ")" if len(variants) > 1 else root


def _root(variants: tuple[str, ...]) -> str:
    first, last = min(variants), max(variants)
    same = (place for place, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(same, len(first))]


def _stems(phrase: str, plurals: bool = True) -> tuple[str, ...]:
    """Return the literals of the mandatory element that filters best; ValueError if there is none."""
    elements: list[tuple[str, ...]] = []
    for element in ELEMENT.findall(phrase):
        if element in GAPS or (element.endswith("?") and element != "?"):
            continue
        choices = element[1:-1].split("|") if element.startswith("(") else [element]
        elements.append(tuple(max((_literal(word, plurals) for word in choice.split()), key=len) for choice in choices))
    if not elements:
        raise ValueError(f"a phrase needs a word that may not be missing: {phrase!r}")
    return max(elements, key=_rarity)


def _rarity(stems: tuple[str, ...]) -> float:
    """Rank alternatives as a filter: long ones are rare, many of them cost time."""
    return min(map(len, stems)) - len(stems) / 2


def _literal(word: str, plurals: bool) -> str:
    if word.endswith("*"):
        return " " + word[:-1]
    return " " + _root(forms(word)) if plurals else f" {word} "
