"""How long a text is in tokens, and a report in pieces that fit: nothing of it is lost."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

THREE_LETTERS = re.compile(r"[A-Za-z]{1,3}")
MARK = re.compile(r"[^A-Za-z\s]")
WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
SPACES = re.compile(r"\s+")
Span = tuple[int, int]


def most_tokens(text: str) -> int:
    """Return how many tokens `text` may take in a model's vocabulary, on the safe side.

    A Latin word counts one token per three letters (measured: four), a Chinese character two (old
    vocabularies; one in new ones), every digit, mark and accented letter one.
    """
    return len(THREE_LETTERS.findall(text)) + len(MARK.findall(text)) + len(WIDE.findall(text))


def least_tokens(text: str) -> int:
    """Return how many tokens `text` takes at least: no vocabulary joins words over a space."""
    return len(text.split())


def count_words(text: str) -> int:
    """Return the number of words; two Chinese characters count as one."""
    wide = len(WIDE.findall(text))
    return len(re.findall(r"\w+", WIDE.sub(" ", text))) + (wide + 1) // 2


def cut(text: str, within: Span, sentences: Sequence[Span], room: int) -> list[Span]:
    """Return spans that together are `within`, each at most `room` tokens long by `most_tokens`.

    They end where a sentence begins; a sentence that is too long alone ends at a space, and a word
    that is too long alone anywhere.
    """
    start, stop = within
    if most_tokens(text[start:stop]) <= room:
        return [within] if stop > start else []
    edges = [start, *(first for first, _ in sentences if start < first < stop), stop]
    edges += [edge for first, last in pairwise(edges) for edge in _inside(text, first, last, room)]
    spans: list[Span] = []
    begin, used = start, 0
    for first, last in pairwise(sorted(edges)):
        size = most_tokens(text[first:last])
        if used and used + size > room:
            spans.append((begin, first))
            begin, used = first, 0
        used += size
    return [*spans, (begin, stop)]


def _inside(text: str, start: int, stop: int, room: int) -> list[int]:
    """Return where a sentence that is too long is cut."""
    spaces = [match.end() for match in SPACES.finditer(text, start, stop)]
    edges: list[int] = []
    while stop - start > 1 and most_tokens(text[start:stop]) > room:
        # A letter takes two tokens at most, so this many letters always fit.
        fits, too_far = start + max(1, room // 2), stop
        while too_far - fits > 1:
            middle = (fits + too_far) // 2
            fits, too_far = (middle, too_far) if most_tokens(text[start:middle]) <= room else (fits, middle)
        space = bisect_right(spaces, fits) - 1
        start = spaces[space] if space >= 0 and spaces[space] > start else fits
        edges.append(start)
    return edges


def answer_tokens(keys: Sequence[str], comma: bool) -> int:
    """Return how many tokens an answer about `keys` may take: a state and some twenty words each."""
    return 16 + (8 * len(keys) if comma else sum(most_tokens(key) + 42 for key in keys))


def halves(text: str, within: Span, sentences: Sequence[Span]) -> list[Span]:
    """Return `within` in two or more pieces of half its length in tokens."""
    return cut(text, within, sentences, max(1, math.ceil(most_tokens(text[within[0] : within[1]]) / 2)))
