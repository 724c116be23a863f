"""Reports without dates, numbers and names of people, as they may leave the house (docs/labels.md).

Rules for English, German, Spanish, Turkish and Chinese: no model, no download, half a millisecond
for a usual report. They lower the risk and do not make a report anonymous: a name that nothing introduces stays.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from greenrfm.distill.date_rules import AGES, SURE_DATES, TIMES, UNSURE_DATES
from greenrfm.distill.identifiers import KEPT, REMOVED, Gate, Kind, number_starts, plain
from greenrfm.distill.name_rules import ADDRESSES, HOSPITALS, NAMES
from greenrfm.distill.number_rules import CLINICAL, IDS, NET, PHONES

# In this order: what comes first is struck out for what follows.
RULES = (
    *NET,
    *SURE_DATES,
    *AGES,
    *CLINICAL,
    *UNSURE_DATES,
    *TIMES,
    *ADDRESSES,
    *PHONES,
    *IDS,
    *HOSPITALS,
    *NAMES,
)
PLURALS = {
    Kind.EMAIL: "e-mail addresses",
    Kind.URL: "URLs",
    Kind.DATE: "dates",
    Kind.TIME: "times",
    Kind.PHONE: "phone numbers",
    Kind.ID: "ids",
    Kind.AGE: "ages over 89",
    Kind.ADDRESS: "addresses",
    Kind.HOSPITAL: "hospitals",
    Kind.NAME: "names",
}


@dataclass(frozen=True)
class Deidentified:
    """A report with placeholders instead of identifiers.

    Parameters
    ----------
    text
        The report; `[DATE]`, `[NAME]` and so on stand for what was removed, all else is as it was.
    removed
        How many identifiers of each kind were removed; never what they were.
    """

    text: str
    removed: Counter[Kind]
    # What was removed: where it was in the report and where its placeholder is in `text`, in order.
    _report_spans: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    _text_spans: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def to_original(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the report of `text[start:end]`.

        What touches a placeholder inside covers all that the placeholder stands for. Raises ValueError
        unless 0 <= start <= end <= len(text).
        """
        if not 0 <= start <= end <= len(self.text):
            raise ValueError(f"{start}:{end} is no span of a text of {len(self.text)} characters")
        return self._original(start, 0), self._original(end, 1)

    def _original(self, place: int, side: int) -> int:
        """Return where `place` was; within a placeholder its start (side 0) or end (side 1)."""
        starts = [start for start, _ in self._text_spans]
        before = (bisect_right if side == 0 else bisect_left)(starts, place) - 1
        if before < 0:
            return place
        _, text_end = self._text_spans[before]
        if place < text_end:
            return self._report_spans[before][side]
        return self._report_spans[before][1] + place - text_end


def deidentify(report: str) -> Deidentified:
    """Return the report with its identifiers replaced by placeholders.

    Numbers with a unit, image and series numbers, vertebral levels and the like are kept. What is
    removed makes no further rule fit: doing it again changes nothing.
    """
    text = plain(report)
    found: list[tuple[int, int, Kind]] = []
    while fresh := _search(text):
        found += fresh
        for start, end, _ in fresh:
            text = _strike(text, start, end, REMOVED)
    pieces, report_spans, text_spans = [], [], []
    done = length = 0
    for start, end, kind in sorted(found):
        pieces += [report[done:start], kind.placeholder]
        length += start - done
        report_spans.append((start, end))
        text_spans.append((length, length + len(kind.placeholder)))
        length += len(kind.placeholder)
        done = end
    removed = Counter(kind for _, _, kind in found)
    return Deidentified("".join(pieces) + report[done:], removed, tuple(report_spans), tuple(text_spans))


def _search(text: str) -> list[tuple[int, int, Kind]]:
    """Apply every rule once to a plain copy and return what it finds."""
    found: list[tuple[int, int, Kind]] = []
    gates: dict[Gate, bool] = {}
    numbers = number_starts(text)
    for rule in RULES:
        if rule.gate not in gates:
            gates[rule.gate] = bool(rule.gate(text, numbers))
        if not gates[rule.gate]:
            continue
        spans = [span for match in rule.matches(text, numbers) if (span := rule.judge(match))]
        for start, end in spans:
            text = _strike(text, start, end, REMOVED if rule.kind else KEPT)
            if rule.kind:
                found.append((start, end, rule.kind))
        if spans:
            numbers = number_starts(text)
    return found


def _strike(text: str, start: int, end: int, mark: str) -> str:
    return text[:start] + mark * (end - start) + text[end:]


def in_words(removed: Mapping[Kind, int]) -> str:
    """Return counts as a user reads them: "dates: 3, names: 1", or "nothing"."""
    return ", ".join(f"{PLURALS[kind]}: {removed[kind]}" for kind in Kind if removed.get(kind)) or "nothing"


class Deidentifier:
    """`deidentify` that keeps count over all reports; may be called from several threads at once."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = threading.Lock()
        self._removed: Counter[Kind] = Counter()

    def __call__(self, report: str) -> Deidentified:
        """Return the report with its identifiers replaced by placeholders."""
        result = deidentify(report)
        with self._lock:
            self._removed.update(result.removed)
        return result

    @property
    def removed(self) -> Counter[Kind]:
        """Return how many identifiers of each kind were removed so far."""
        with self._lock:
            return Counter(self._removed)
