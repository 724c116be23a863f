"""The lexicon: which phrases speak of which finding, from the finding set and data/*.yaml."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from greenrfm.distill.phrases import Phrase, PhraseIndex, compile_pair, compile_phrase, words
from greenrfm.findings import Finding, FindingSet

BODY_PARTS = ("chest", "abdomen", "knee", "spine")
# What a phrase does for its finding; the head of data/chest.yaml explains each.
SPEAKING = ("mentions", "vague", "stated", "denied", "absent")
ROLES = (*SPEAKING, "within", "ignore", "elsewhere", "here")


@dataclass
class Candidates:
    """The phrases of one finding that a sentence may contain, by role."""

    phrases: dict[str, list[Phrase]] = field(default_factory=lambda: defaultdict(list))

    def spans(self, role: str, text: str) -> Iterator[tuple[Phrase, int, int]]:
        """Yield the phrases of `role` that stand in the normalised `text`, and where."""
        for phrase in self.phrases[role]:
            for start, end in phrase.spans(text):
                yield phrase, start, end


class Lexicon:
    """The phrases of a finding set, found by the literals they contain."""

    def __init__(self, finding_set: FindingSet) -> None:
        """Compile the phrases; a finding without an entry in data/*.yaml has its name and synonyms."""
        entries = _entries(finding_set.body_part)
        self.words: set[str] = set()
        self._phrases: PhraseIndex[tuple[str, str]] = PhraseIndex()
        for finding in finding_set.findings:
            for role, phrase in _phrases(finding, entries.get(finding.key, {})):
                self.words |= words(phrase.text.replace("&", " "))
                self._phrases.add(phrase, (finding.key, role))

    def candidates(self, text: str) -> dict[str, Candidates]:
        """Return the findings that the normalised sentence may speak of."""
        found: dict[str, Candidates] = defaultdict(Candidates)
        for phrase, (key, role) in self._phrases.find(text):
            found[key].phrases[role].append(phrase)
        return {key: each for key, each in found.items() if any(each.phrases[role] for role in SPEAKING)}

    def elsewhere(self, heading: str) -> frozenset[str]:
        """Return the findings that a normalised heading ("liver") places in another organ."""
        found: dict[str, Candidates] = defaultdict(Candidates)
        for phrase, (key, role) in self._phrases.find(heading):
            found[key].phrases[role].append(phrase)
        away = (key for key, each in found.items() if any(each.spans("elsewhere", heading)))
        return frozenset(key for key in away if not any(found[key].spans("here", heading)))


def cues() -> Mapping[str, Any]:
    """Return data/cues.yaml: the words of negation, uncertainty and history, and the silent headings."""
    return _data("cues")


def packaged_phrases() -> Iterator[str]:
    """Yield every phrase of data/*.yaml, whatever it does for which finding, and every cue."""
    for name in BODY_PARTS:
        for entry in _data(name).values():
            yield from (text for role in ROLES for text in entry.get(role, ()))
            yield from (text for pair in entry.get("together", ()) for text in pair)
    yield from (text for name, group in cues().items() if name != "languages" for text in _texts(group))


def _texts(group: Any) -> Iterator[str]:
    if isinstance(group, str):
        yield group
        return
    for each in group.values() if isinstance(group, Mapping) else group:
        yield from _texts(each)


def _phrases(finding: Finding, entry: Mapping[str, Any]) -> Iterator[tuple[str, Phrase]]:
    if entry.get("synonyms", True):
        # Names and synonyms are plain text: marks that phrases give a meaning are dropped.
        plain = (
            " ".join(re.findall(r"[a-z0-9]+(?:'[a-z]+)*", text.lower())) for text in (finding.name, *finding.synonyms)
        )
        for text in dict.fromkeys(filter(None, plain)):
            yield "mentions", compile_phrase(text)
    for first, second in entry.get("together", ()):
        yield "mentions", compile_pair(first, second)
    for role in ROLES:
        for text in entry.get(role, ()):
            yield role, compile_phrase(text)


def _entries(body_part: str) -> Mapping[str, Any]:
    """Return the packaged entries by finding key; where files share a key, that of `body_part` wins."""
    names = sorted(BODY_PARTS, key=lambda name: name == body_part)
    return {key: entry for name in names for key, entry in _data(name).items()}


@cache
def _data(name: str) -> Mapping[str, Any]:
    text = (resources.files("greenrfm.distill") / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    content: Mapping[str, Any] = yaml.safe_load(text)
    return content
