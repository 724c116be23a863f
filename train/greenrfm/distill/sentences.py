"""Reports into sentences with their place, their section, and a normal form for matching."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

# A sentence ends at . ! ? before a space and a new start, at a line break before one, at a quotation
# mark or bullet (used as list marks), where a full stop lost its space ("seen.Heart"), and at the
# full-width marks of Chinese, which no space follows, with the quotation marks they close.
BOUNDARY = re.compile(
    r"[。！？；｡][”’」』）]*"
    r"|[.!](?=[\"”')\]]*\s)"
    r"|\?(?=\s+[\"“•A-Z])"
    r"|(?<=[a-z])\.(?=[A-Z])"
    # No look past the next line break: in a run of blank lines each would look to its end.
    r"|\n(?=[^\S\n]*\n)|\n(?=[^\S\n]*(?:[A-Z]|[-*•\u2013]\s|\d+[.)]\s))"
    r"|[\"“”•](?=\s|[A-Z]|$)"
)
# "approx. 5 mm", "e.g. nodules": these full stops end no sentence.
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:approx|dr|prof|vs|e\.g|i\.e|incl|resp|ser|fig|max|min|st|ca|no)$", re.IGNORECASE
)
HEADING = re.compile(r"[\s\W\d]*([A-Za-z][A-Za-z /&,-]{1,40}?)\s*[:：]")
# Headings after the findings: text between a history and one of these holds the findings.
CLOSING = frozenset({"impression", "conclusion", "conclusions", "summary", "opinion", "recommendation"})
# Marks that belong to the sentence they end; list marks and line breaks belong to none.
ENDS = ".!?。！？；｡"
# In characters. Of 800 real reports no sentence is longer; text without ends must not become one sentence.
LONGEST = 1_000
LETTER = re.compile(r"[^\W_]")
TOKEN = re.compile(r"[a-z0-9]+(?:[.'][a-z0-9]+)*|[,;:()?/]")


@dataclass(frozen=True)
class Sentence:
    """A sentence and its place: `report[start:end]`.

    `counts` is False in sections that describe no image; `section` is the heading above, in lower case.
    """

    start: int
    end: int
    counts: bool
    section: str = ""


def split(report: str, silent_headings: frozenset[str]) -> Iterator[Sentence]:
    """Yield the report's sentences in order.

    A heading ("Findings:", "Lungs:", at the start of a sentence, at most four words) opens a section
    that lasts until the next one; sentences under one of `silent_headings` (history, indication,
    technique) do not count. A silent heading followed by text ends with its line. Where the rest of
    the report is one line without a heading that could open the findings, it ends with its sentence:
    it must not swallow them.
    """
    spans = list(_spans(report))
    headings = [_heading(report, *span) for span in spans]
    silent_until, section = 0, ""
    for number, ((start, end), heading) in enumerate(zip(spans, headings, strict=True)):
        if heading:
            section = heading[0]
            silent = heading[0] in silent_headings
            following = next((name for name, _ in filter(None, headings[number + 1 :])), "")
            silent_until = _silent_end(report, heading[1], end, following) if silent else 0
        yield Sentence(start, end, start >= silent_until, section)


def sentence_spans(report: str) -> list[tuple[int, int]]:
    """Return the places of all sentences, silent or not."""
    return [(sentence.start, sentence.end) for sentence in split(report, frozenset())]


def shortened(report: str, sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Yield the sentences, those over LONGEST characters in pieces: cut at a line break, else a comma, else a space.

    A negation does not reach past a cut, which is why it is made where a list or line ends if one does.
    """
    for sentence in sentences:
        start = sentence.start
        while sentence.end - start > LONGEST:
            last = start + LONGEST
            places = (report.rfind(mark, start, last) + len(mark) for mark in ("\n", "; ", ", ", " "))
            cut = next((place for place in places if place > start + 1), last)
            yield replace(sentence, start=start, end=cut)
            start = cut
        yield replace(sentence, start=start) if start != sentence.start else sentence


def _heading(report: str, start: int, end: int) -> tuple[str, int] | None:
    """Return the heading in lower case and where it ends, if the sentence begins with one."""
    match = HEADING.match(report, start, end)
    if not match or len(match[1].split()) > 4:
        return None
    return " ".join(match[1].lower().split()), match.end()


def _silent_end(report: str, after_heading: int, sentence_end: int, following: str) -> int:
    line_end = report.find("\n", after_heading)
    if line_end >= 0 and report[after_heading:line_end].strip():
        return max(line_end, sentence_end)
    opens_findings = following and following not in CLOSING
    return len(report) if line_end >= 0 or opens_findings else sentence_end


def normalise(text: str, correct: Callable[[str], str]) -> str:
    """Return `text` in lower case, one space around every word and mark, hyphens as spaces, typos corrected."""
    return " " + " ".join(map(correct, TOKEN.findall(text.lower().replace("\u2019", "'")))) + " "


def _spans(report: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in BOUNDARY.finditer(report):
        if match[0] == "." and ABBREVIATION.search(report, max(start, match.start() - 8), match.start()):
            continue
        end = match.end() if match[0][0] in ENDS else match.start()
        yield from _stripped(report, start, end)
        start = match.end()
    yield from _stripped(report, start, len(report))


def _stripped(report: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    text = report[start:end]
    if LETTER.search(text):
        first = start + len(text) - len(text.lstrip(" \t\r\n-*\u2013"))
        yield first, start + len(text.rstrip())
