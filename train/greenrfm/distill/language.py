"""Whether text reads like English, the lexicon's language: in another one its cues see no denial."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from greenrfm.distill.phrases import words
from greenrfm.distill.rules import cues, packaged_phrases
from greenrfm.findings import load_finding_set, packaged_sets

# This share of a report's words must be known: 0.74 or more are in 800 real and 300 generated English ones.
LEAST_KNOWN = 0.4
WORD = re.compile(r"[^\W\d_]+")
# Letters from here on are of no Latin script (Greek letters stand in English reports too).
OTHER_SCRIPTS = "\u0400"


class Words(NamedTuple):
    """How many words a text has, how many the lexicon's data know, and how many only one language has."""

    all: int = 0
    known: int = 0
    english: int = 0
    foreign: int = 0

    def __add__(self, other: object) -> Words:
        """Return the words of two texts together."""
        assert isinstance(other, Words)
        known, english, foreign = self.known + other.known, self.english + other.english, self.foreign + other.foreign
        return Words(self.all + other.all, known, english, foreign)

    @property
    def are_foreign(self) -> bool:
        """Tell whether words of other languages outweigh those of English."""
        return self.foreign > self.english

    @property
    def are_english(self) -> bool:
        """Tell whether enough of them are known; no words at all are no other language."""
        return not self.are_foreign and self.known >= LEAST_KNOWN * self.all


def count_words(text: str, correct: Callable[[str], str] = str) -> Words:
    """Count the words of a text by language; `correct` mends typos of words that may be known.

    Single letters count only in scripts that English does not have.
    """
    english, foreign, known = _vocabulary()
    found = [word for word in WORD.findall(text.lower()) if len(word) > 1 or word >= OTHER_SCRIPTS]
    strange = 0 if text.isascii() else sum(max(word) >= OTHER_SCRIPTS and word not in foreign for word in found)
    return Words(
        len(found),
        sum(word in known or correct(word) in known for word in found),
        sum(map(english.__contains__, found)),
        sum(map(foreign.__contains__, found)) + strange,
    )


@cache
def _vocabulary() -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the words of English alone, of other languages alone, and all that are known."""
    languages: Mapping[str, Any] = cues()["languages"]
    english, foreign, reports = (
        frozenset(" ".join(languages[name]).split()) for name in ("english", "foreign", "reports")
    )
    findings = [each for name in packaged_sets() for each in load_finding_set(name).findings]
    names = (text.lower() for each in findings for text in (each.name, *each.synonyms))
    texts = (re.sub("[^a-z0-9']", " ", text) for text in (*packaged_phrases(), *names))
    return english, foreign, english | reports | {form for text in texts for form in words(text)}
