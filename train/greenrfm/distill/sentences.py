"""Reports into sentences with their place, their section, and a normal form for matching."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# A sentence ends at . ! ? before a space and a new start, at a line break before one, at a quotation
# mark or bullet (used as list marks), and where a full stop lost its space ("seen.Heart").
BOUNDARY = re.compile(
    r"[.!](?=[\"”')\]]*\s)"
    r"|\?(?=\s+[\"“•A-Z])"
    r"|(?<=[a-z])\.(?=[A-Z])"
    r"|\n(?=\s*\n)|\n(?=\s*(?:[A-Z]|[-*•\u2013]\s|\d+[.)]\s))"
    r"|[\"“”•](?=\s|[A-Z]|$)"
)
# "approx. 5 mm", "e.g. nodules": these full stops end no sentence.
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:approx|dr|prof|vs|e\.g|i\.e|incl|resp|ser|fig|max|min|st|ca|no)$", re.IGNORECASE
)
HEADING = re.compile(r"[\s\W\d]*([A-Za-z][A-Za-z /&-]{1,40}?)\s*:")
TOKEN = re.compile(r"[a-z0-9]+(?:[.'][a-z0-9]+)*|[,;:()?/]")


@dataclass(frozen=True)
class Sentence:
    """A sentence and its place: `report[start:end]`; `counts` is False in sections that describe no image."""

    start: int
    end: int
    counts: bool


def split(report: str, silent_headings: frozenset[str]) -> Iterator[Sentence]:
    """Yield the report's sentences in order.

    A heading ("Findings:", "Lungs:", at the start of a sentence, at most four words) opens a section
    that lasts until the next one; sentences under one of `silent_headings` (history, indication,
    technique) do not count. A silent heading followed by text ends with its line, and with its
    sentence where the whole rest of the report is one line: it must not swallow the findings.
    """
    silent_until = 0
    for start, end in _spans(report):
        heading = HEADING.match(report, start, end)
        if heading and len(heading[1].split()) <= 4:
            silent = " ".join(heading[1].lower().split()) in silent_headings
            silent_until = _silent_end(report, heading.end(), end) if silent else 0
        yield Sentence(start, end, start >= silent_until)


def _silent_end(report: str, after_heading: int, sentence_end: int) -> int:
    line_end = report.find("\n", after_heading)
    if line_end < 0:
        return sentence_end
    if not report[after_heading:line_end].strip():
        return len(report)
    return max(line_end, sentence_end)


def normalise(text: str, correct: Callable[[str], str]) -> str:
    """Return `text` in lower case, one space around every word and mark, hyphens as spaces, typos corrected."""
    return " " + " ".join(map(correct, TOKEN.findall(text.lower().replace("\u2019", "'")))) + " "


def _spans(report: str) -> Iterator[tuple[int, int]]:
    start = 0
    for match in BOUNDARY.finditer(report):
        if match[0] == "." and ABBREVIATION.search(report, max(start, match.start() - 8), match.start()):
            continue
        end = match.end() if match[0] in ".!?" else match.start()
        yield from _stripped(report, start, end)
        start = match.end()
    yield from _stripped(report, start, len(report))


def _stripped(report: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    text = report[start:end]
    if any(letter.isalnum() for letter in text):
        first = start + len(text) - len(text.lstrip(" \t\r\n-*\u2013"))
        yield first, start + len(text.rstrip())
