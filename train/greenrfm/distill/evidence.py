"""What a labeler says of a report: a state per finding, and the sentence it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from greenrfm.findings import FindingSet, State

# Present beats uncertain beats absent: a lesion on the left is not undone by a clear right side.
RANK = {State.NOT_MENTIONED: 0, State.ABSENT: 1, State.UNCERTAIN: 2, State.PRESENT: 3}


@dataclass(frozen=True)
class Evidence:
    """What one labeler says of one finding in one report.

    Parameters
    ----------
    state
        One of the four.
    start, end
        `report[start:end]` is the sentence that says so, verbatim; both 0 if nothing does.
    rule
        What decided, in words of the labeler and never of the report.
    votes
        Of a consensus: who said what, where not all said the same.
    """

    state: State
    start: int
    end: int
    rule: str = ""
    votes: tuple[tuple[str, State], ...] = ()


NOTHING = Evidence(State.NOT_MENTIONED, 0, 0)


def normal_beside(found: Mapping[str, Evidence]) -> Evidence | None:
    """Return what the other findings make of 'normal', which says that all of them are absent (METHOD.md).

    It is absent if one of them is present, else uncertain if one is uncertain, with that one's sentence;
    None if they leave it as it is.
    """
    others = (evidence for key, evidence in found.items() if key != "normal")
    worst = max(others, key=lambda each: RANK[each.state], default=NOTHING)
    if RANK[worst.state] < RANK[State.UNCERTAIN]:
        return None
    state = State.ABSENT if worst.state is State.PRESENT else State.UNCERTAIN
    return Evidence(state, worst.start, worst.end, f"another finding is {worst.state.name.lower()}")


@dataclass(frozen=True)
class Usage:
    """What labelling cost: requests to a server and the tokens it counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0

    def __add__(self, other: Usage) -> Usage:
        """Return both together."""
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.requests + other.requests,
        )


@dataclass(frozen=True)
class Labelled:
    """One report's evidence for every key of the finding set, in its order."""

    findings: dict[str, Evidence]
    usage: Usage = Usage()


class Unlabelled(Exception):
    """A report that could not be labelled; the message says why and quotes nothing of it."""

    def __init__(self, reason: str, usage: Usage = Usage()) -> None:
        """Keep the reason and what the attempts cost."""
        super().__init__(reason)
        self.usage = usage


class NotRead(Unlabelled):
    """A report in a language that the labeler does not read; another labeler may."""


class Labeler(Protocol):
    """Reads reports; `label` may be called from several threads at once."""

    finding_set: FindingSet
    name: str
    model: str
    version: str

    def label(self, report: str) -> Labelled:
        """Return what the report says of every finding.

        Raises Unlabelled for this report alone, and UserError where no other report would do better:
        a key that is refused, a server that is gone.
        """
