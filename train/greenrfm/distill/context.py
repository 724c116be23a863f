"""What the words around a mention make of it: negation, uncertainty, history, and how far they reach."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from greenrfm.distill.phrases import PhraseIndex, compile_phrase, words
from greenrfm.findings import State


class Kind(Enum):
    """What a cue does; the values are the paths of its phrases in data/cues.yaml."""

    NEGATION_BEFORE = "negation.before"
    ADJECTIVE = "negation.adjective"
    NEGATION_AFTER = "negation.after"
    UNCERTAIN_BEFORE = "uncertainty.before"
    UNCERTAIN_AFTER = "uncertainty.after"
    QUESTION = "uncertainty.question"
    HISTORY_BEFORE = "history.before"
    HISTORY_AFTER = "history.after"
    FAMILY_BEFORE = "family.before"
    FAMILY_AFTER = "family.after"
    NEUTRAL = "neutral"
    STOP = "stops"
    VERB = "verbs"

    @property
    def group(self) -> str:
        """Return what it is called in an explanation: negation, uncertainty, history or family."""
        return self.value.partition(".")[0]


BEFORE = (Kind.NEGATION_BEFORE, Kind.ADJECTIVE, Kind.UNCERTAIN_BEFORE, Kind.HISTORY_BEFORE, Kind.FAMILY_BEFORE)
AFTER = (Kind.NEGATION_AFTER, Kind.UNCERTAIN_AFTER, Kind.HISTORY_AFTER, Kind.FAMILY_AFTER, Kind.QUESTION)
# How many words a cue reaches; negation reaches until something stops it ("no a, b, c, d or e").
REACH = {
    Kind.ADJECTIVE: 3,
    Kind.UNCERTAIN_BEFORE: 8,
    Kind.HISTORY_BEFORE: 8,
    Kind.FAMILY_BEFORE: 8,
    Kind.FAMILY_AFTER: 4,
    Kind.QUESTION: 8,
}
# Inside a mention ("aorta without any plaque", "density at the aorta may be calcification") these count too.
INSIDE = (Kind.NEGATION_BEFORE, Kind.NEGATION_AFTER, Kind.UNCERTAIN_BEFORE)
# Relatives and the past are not this study, so they come first; what is denied is not uncertain.
ORDER = (
    (State.NOT_MENTIONED, (Kind.FAMILY_BEFORE, Kind.FAMILY_AFTER, Kind.HISTORY_BEFORE, Kind.HISTORY_AFTER)),
    (State.ABSENT, (Kind.NEGATION_BEFORE, Kind.ADJECTIVE, Kind.NEGATION_AFTER)),
    (State.UNCERTAIN, (Kind.UNCERTAIN_BEFORE, Kind.UNCERTAIN_AFTER, Kind.QUESTION)),
)
LIST_MARK = re.compile(r" (?:,|and|with)(?= )")
QUESTION_STOP = re.compile(r" [(),?](?= )")


class Cue(NamedTuple):
    """A cue in a normalised sentence: `text[start:end]`."""

    kind: Kind
    start: int
    end: int


class Context:
    """Finds the cues of a sentence (the idea of ConText, Harkema et al. 2009)."""

    def __init__(self, cues: Mapping[str, Any]) -> None:
        """Compile the phrases of data/cues.yaml."""
        self.words: set[str] = set()
        self._phrases: PhraseIndex[Kind] = PhraseIndex()
        for kind in Kind:
            for text in _at(cues, kind.value):
                phrase = compile_phrase(text, plurals=False)
                self.words |= words(text)
                self._phrases.add(phrase, kind)

    def cues(self, text: str) -> list[Cue]:
        """Return the cues of a normalised sentence from left to right, of overlapping ones the longest."""
        found = [
            Cue(kind, start, end) for phrase, kind in self._phrases.find(text) for start, end in phrase.spans(text)
        ]
        # "No change in" must win over "no": longest first, then whatever it leaves free.
        kept: list[Cue] = []
        for cue in sorted(found, key=lambda cue: (cue.start - cue.end, cue.start)):
            # One phrase may be two cues: "resolved effusion", "effusion resolved".
            if all(cue.end <= other.start or other.end <= cue.start or cue[1:] == other[1:] for other in kept):
                kept.append(cue)
        return sorted(kept, key=lambda cue: cue.start)


@dataclass(frozen=True)
class Reading:
    """A normalised sentence with its cues."""

    text: str
    cues: Sequence[Cue]

    def judge(self, start: int, end: int) -> tuple[State, str]:
        """Return the state of the mention `text[start:end]` and the cue that decided, as "negation: no" ("" if none).

        A mention of the past or of a relative says nothing of this study and is NOT_MENTIONED.
        """
        found = {cue.kind: self.text[cue.start : cue.end].strip() for cue in self._reaching(start, end)}
        for state, kinds in ORDER:
            for kind in kinds:
                if kind in found:
                    return state, f"{kind.group}: {found[kind]}"
        return State.PRESENT, ""

    def _reaching(self, start: int, end: int) -> Iterator[Cue]:
        """Yield the cues whose scope holds the mention."""
        stops = [cue for cue in self.cues if cue.kind is Kind.STOP]
        left = max((cue.end for cue in stops if cue.end <= start), default=0)
        right = min((cue.start for cue in stops if cue.start >= end), default=len(self.text))
        for cue in self.cues:
            if start < cue.start < end:
                if cue.kind in INSIDE:
                    yield cue
            elif cue.kind in BEFORE and left <= cue.start < start:
                # "No effusion was seen, a nodule …": after its verb and a list mark a negation is spent.
                verb = next(self._verbs(cue.end, start), None)
                since = cue.end if cue.kind is Kind.ADJECTIVE else verb.end if verb else start
                spent = LIST_MARK.search(self.text, since - 1, start)
                if not spent and self._near(cue.end, start, cue.kind):
                    yield cue
            elif cue.kind in AFTER and end <= cue.start < right:
                # "A nodule is seen, effusion was not": the mention has its own verb before the cue.
                own_verb = any(self._verbs(end, cue.start))
                cut_off = cue.kind is Kind.QUESTION and QUESTION_STOP.search(self.text, end - 1, cue.start)
                if not own_verb and not cut_off and self._near(end, cue.start, cue.kind):
                    yield cue

    def _verbs(self, start: int, end: int) -> Iterator[Cue]:
        return (cue for cue in self.cues if cue.kind is Kind.VERB and start <= cue.start and cue.end <= end)

    def _near(self, start: int, end: int, kind: Kind) -> bool:
        return kind not in REACH or self.text.count(" ", start, end) <= REACH[kind]


def _at(cues: Mapping[str, Any], path: str) -> list[str]:
    value: Any = cues
    for name in path.split("."):
        value = value[name]
    return list(value)
