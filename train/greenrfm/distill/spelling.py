"""Typos of long words: one edit away from a word that the lexicon knows."""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST = 7


class Speller:
    """Corrects words of seven letters or more by one missing, extra, wrong or swapped letter.

    Every known word is indexed by its spellings with one letter removed, so that a look-up needs no
    search. The first letter must be right and the last one is not replaced: there typos are rare and
    other words near (effusion, infusion; expander, expanded).
    """

    def __init__(self, words: Iterable[str]) -> None:
        """Index `words`; shorter ones are known but nothing is corrected to them."""
        self._known = frozenset(words)
        self._index: dict[str, list[str]] = {}
        for word in sorted(word for word in self._known if len(word) >= SHORTEST):
            for key in (word, *_deletions(word)):
                self._index.setdefault(key, []).append(word)
        self._memory: dict[str, str] = {}

    def __call__(self, word: str) -> str:
        """Return the known word that `word` stands for, or `word` itself."""
        if len(word) < SHORTEST - 1 or word in self._known:
            return word
        if (found := self._memory.get(word)) is None:
            found = self._memory[word] = self._search(word)
        return found

    def _search(self, word: str) -> str:
        for key in (word, *_deletions(word)):
            for candidate in self._index.get(key, ()):
                if candidate[0] == word[0] and _one_edit(word, candidate):
                    return candidate
        return word


def _deletions(word: str) -> list[str]:
    return [word[:place] + word[place + 1 :] for place in range(len(word))]


def _one_edit(word: str, other: str) -> bool:
    """Tell whether one insertion, deletion, substitution or swap of neighbours turns `word` into `other`."""
    place = next((i for i, (a, b) in enumerate(zip(word, other, strict=False)) if a != b), min(len(word), len(other)))
    rest, goal = word[place:], other[place:]
    replaced = len(rest) > 1 and rest[1:] == goal[1:]
    swapped = rest[:2] == goal[1::-1] and rest[2:] == goal[2:]
    return replaced or swapped or rest[1:] == goal or rest == goal[1:]
