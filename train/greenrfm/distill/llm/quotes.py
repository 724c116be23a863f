"""Where a quotation stands in a report, however the model changed its spaces, quotation marks or case."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property

from greenrfm.distill.llm.chunks import WIDE, Span

# A quotation is one sentence; lists and headings make three of it at times, never more.
MOST_SENTENCES = 3
LEAST_LETTERS, LEAST_WIDE = 3, 2
ENDS = " \t\r\n\"'“”„‚‘’«»`…."
SAME = str.maketrans(
    {**dict.fromkeys("‘’‚‛′`´ʼ", "'"), **dict.fromkeys("“”„‟″«»", '"'), **dict.fromkeys("‐‑‒–—−", "-"), "ı": "i"}
)
LETTER = re.compile(r"[^\W_]")


class Quotes:
    """Finds quotations in `text`, of which `sentences` are the places of the sentences, in order."""

    def __init__(self, text: str, sentences: Sequence[Span], within: Span | None = None) -> None:
        """Look at `text[within[0]:within[1]]` only, if given: the piece that the model saw."""
        self.text = text
        self._sentences = sentences
        self._within = within or (0, len(text))

    def sentences(self, quotation: str) -> list[Span]:
        """Return the sentences that hold the quotation: one if all is well.

        Empty if it is not in the text or too short to show anything; several if it stands in several
        sentences of different words and is none of them, or runs over more than `MOST_SENTENCES`.
        """
        places = self._places(quotation)
        spans = {self._widen(*place): None for place in places}
        found = [span for span in spans if span[1] > span[0]]
        if len(found) > 1:  # A report may say the same sentence twice: the first is as good.
            different = {fold(self.text[start:end].strip(ENDS))[0]: (start, end) for start, end in reversed(found)}
            # "Clear lungs." stands in "Summary: clear lungs." too, but it is meant itself.
            whole = different.get(fold(quotation.strip(ENDS))[0])
            found = [whole] if whole else list(different.values())
        if len(found) == 1 and self._count(*found[0]) > MOST_SENTENCES:
            return [(start, end) for start, end in self._sentences if found[0][0] <= start and end <= found[0][1]]
        return found

    def _places(self, quotation: str) -> list[Span]:
        start, stop = self._within
        if not _shows_something(quotation):
            return []
        if exact := list(_occurrences(self.text[start:stop], quotation.strip())):
            return [(start + first, start + last) for first, last in exact]
        # Dots and quotation marks around it are the model's, or belong to the sentence anyway.
        wanted = fold(quotation.strip(ENDS))[0]
        folded, where = self._folded
        found = _occurrences(folded, wanted)
        # One letter can fold to several: "ﬁ" is f and i.
        return [(start + where[first], start + max(where[last], where[first] + 1)) for first, last in found]

    @cached_property
    def _folded(self) -> tuple[str, list[int]]:
        return fold(self.text[slice(*self._within)])

    def _widen(self, start: int, end: int) -> Span:
        first = max(bisect_right(self._sentences, start, key=lambda span: span[0]) - 1, 0)
        if first < len(self._sentences) and self._sentences[first][1] <= start:
            first += 1
        last = bisect_right(self._sentences, end - 1, key=lambda span: span[0]) - 1
        if not 0 <= first <= last:
            return (0, 0)
        return self._sentences[first][0], max(self._sentences[last][1], self._sentences[first][1])

    def _count(self, start: int, end: int) -> int:
        return sum(start <= first < end for first, _ in self._sentences)


def fold(text: str) -> tuple[str, list[int]]:
    """Return `text` without differences of case, width, accents' encoding, quotation marks and white space.

    The second value has, for every letter of the folded text and its end, the place in `text`:
    `folded[a:b]` is `text[where[a]:where[b]]` up to those differences and white space at its end.
    """
    if text.isascii():
        return _fold_ascii(text)
    letters: list[str] = []
    where: list[int] = []
    blank = True
    for start, end in _clusters(text):
        cluster = text[start:end]
        if cluster.isspace():
            if not blank:
                letters.append(" ")
                where.append(start)
            blank = True
            continue
        plain = cluster if cluster.isascii() else unicodedata.normalize("NFKC", cluster.translate(SAME))
        plain = " ".join(plain.translate(SAME).casefold().replace("\u0307", "").split())
        letters += plain
        where += [start] * len(plain)
        blank = blank and not plain
    if letters and letters[-1] == " ":
        letters.pop()
        where.pop()
    return "".join(letters), [*where, len(text)]


def _fold_ascii(text: str) -> tuple[str, list[int]]:
    """Fold word by word: in ASCII every letter folds to one."""
    words: list[str] = []
    where: list[int] = []
    end = 0
    for word in re.finditer(r"\S+", text.translate(SAME).lower()):
        if words:
            where.append(end)
        words.append(word[0])
        where += range(*word.span())
        end = word.end()
    return " ".join(words), [*where, len(text)]


def _clusters(text: str) -> Iterator[Span]:
    """Yield the letters of `text` together with the accents that follow them."""
    start = 0
    for place in range(1, len(text) + 1):
        if place == len(text) or not unicodedata.combining(text[place]):
            yield start, place
            start = place


def _shows_something(quotation: str) -> bool:
    return len(LETTER.findall(quotation)) >= (LEAST_WIDE if WIDE.search(quotation) else LEAST_LETTERS)


def _occurrences(text: str, wanted: str) -> Iterator[Span]:
    """Yield where `wanted` stands in `text`, not within a word."""
    place = text.find(wanted) if wanted else -1
    while place >= 0:
        end = place + len(wanted)
        if not (_joined(text, place) or _joined(text, end)):
            yield place, end
        place = text.find(wanted, place + 1)


def _joined(text: str, place: int) -> bool:
    """Tell whether the letters before and at `place` belong to one word."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    return before.isalnum() and after.isalnum() and not (WIDE.match(before) or WIDE.match(after))
