"""Several labelers as one: what they agree on is kept, what they do not becomes uncertain."""

from __future__ import annotations

import re
from collections.abc import Sequence

from greenrfm.distill.evidence import RANK, Evidence, Labeler, Labelled, Unlabelled, Usage
from greenrfm.findings import State

NAME = re.compile(r"[a-z][a-z0-9_]*")


class Consensus:
    """A labeler that asks others: the lexicon and an LLM, or one LLM several times at a temperature.

    A finding keeps its state where all say the same. A denial beside silence stays a denial: silence
    does not contradict it. Whatever else differs is uncertain, with the sentence of the labeler that
    goes furthest (present before uncertain before absent), and `votes` names who said what.
    """

    name = "consensus"

    def __init__(self, labelers: Sequence[tuple[str, Labeler]]) -> None:
        """Take the labelers in the order in which they are asked, the cheapest first, each with a name of its own.

        Raises ValueError for fewer than two, for names that are no words or occur twice, and for
        labelers of different findings.
        """
        names = [name for name, _ in labelers]
        if len(names) < 2 or len(set(names)) < len(names) or not all(map(NAME.fullmatch, names)):
            raise ValueError(f"a consensus needs two labelers or more with names of their own, not {names}")
        self._labelers = tuple(labelers)
        self.finding_set = labelers[0][1].finding_set
        if any(each.finding_set.keys != self.finding_set.keys for _, each in labelers):
            raise ValueError("the labelers of a consensus must label the same findings")
        self.model = "; ".join(dict.fromkeys(each.model for _, each in labelers if each.model))
        self.version = "; ".join(f"{name} {each.version}" for name, each in labelers)
        settings = (getattr(each, "settings", "") for _, each in labelers)
        self.settings = "; ".join(dict.fromkeys(filter(None, settings)))

    def label(self, report: str) -> Labelled:
        """Return the consensus; raises Unlabelled if one of the labelers could not label the report."""
        answers: list[Labelled] = []
        usage = Usage()
        for name, labeler in self._labelers:
            try:
                answers.append(labeler.label(report))
            except Unlabelled as error:
                raise Unlabelled(f"{name}: {error}", usage + error.usage) from error
            usage += answers[-1].usage
        names = [name for name, _ in self._labelers]
        found = {
            key: merge(list(zip(names, (answer.findings[key] for answer in answers), strict=True)))
            for key in self.finding_set.keys
        }
        if "normal" in found:
            found["normal"] = _normal(found, names)
        return Labelled(found, usage)


def merge(votes: Sequence[tuple[str, Evidence]]) -> Evidence:
    """Return what several labelers together say of one finding (see `Consensus`)."""
    states = {evidence.state for _, evidence in votes}
    # The first of the furthest: where all agree, the first.
    best = max((evidence for _, evidence in votes), key=lambda each: RANK[each.state])
    if len(states) == 1:
        return Evidence(best.state, best.start, best.end)
    state = State.UNCERTAIN if is_disagreement(states) else State.ABSENT
    return Evidence(state, best.start, best.end, votes=tuple((name, evidence.state) for name, evidence in votes))


def is_disagreement(states: set[State]) -> bool:
    """Tell whether these votes contradict each other; a denial and silence do not."""
    return len(states) > 1 and states != {State.ABSENT, State.NOT_MENTIONED}


def _normal(found: dict[str, Evidence], names: Sequence[str]) -> Evidence:
    """Return the state of 'normal' as far as the other findings allow: it says that all of them are absent."""
    normal = found["normal"]
    others = [evidence for key, evidence in found.items() if key != "normal"]
    worst = max(others, key=lambda each: RANK[each.state], default=normal)
    if normal.state is not State.PRESENT or RANK[worst.state] < RANK[State.UNCERTAIN]:
        return normal
    state = State.ABSENT if worst.state is State.PRESENT else State.UNCERTAIN
    # Present without votes: all said so.
    votes = normal.votes or tuple((name, State.PRESENT) for name in names)
    return Evidence(state, worst.start, worst.end, votes=votes)
