"""What of a report is sent, and the way back from there to the report."""

from __future__ import annotations

from typing import Protocol

from greenrfm.distill.evidence import Evidence
from greenrfm.distill.llm.chunks import Span
from greenrfm.findings import State


class Redacted(Protocol):
    """A report without identifiers, and the way back (`distill.deidentify`)."""

    @property
    def text(self) -> str:
        """Return the text that may be sent."""

    def to_original(self, start: int, end: int) -> Span:
        """Return the span of the original report that `text[start:end]` came from."""


def sendable(text: str) -> str:
    """Return `text`, letter by letter, with what UTF-8 cannot say replaced."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    return text


def moved(evidence: Evidence, redacted: Redacted) -> Evidence:
    """Return evidence in the text that was sent as evidence in the report."""
    if evidence.state is State.NOT_MENTIONED:
        return evidence
    return Evidence(evidence.state, *redacted.to_original(evidence.start, evidence.end), evidence.rule)
