"""Several labelers as one: what they agree on is kept, what they do not becomes uncertain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from greenrfm.distill.evidence import RANK, Evidence, Labeler, Labelled, NotRead, Unlabelled, Usage, normal_beside
from greenrfm.findings import State

TOO_FEW = "a consensus needs two labelers that read it, such as --samples 2"
NAME = re.compile(r"[a-z][a-z0-9_]*")


class Consensus:
    """A labeler that asks others: the lexicon and an LLM, or one LLM several times at a temperature.

    A finding keeps its state where all say the same. A denial beside silence stays a denial: silence
    does not contradict it. Whatever else differs is uncertain, with the sentence of the labeler that
    goes furthest (present before uncertain before absent), and `votes` names who said what. A labeler
    that does not read the report's language abstains if two others are left.
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
        """Return the consensus of all labelers that read the report's language.

        Where one does not, the evidence of every finding names the votes, so that nobody takes its
        silence for agreement. Raises NotRead if fewer than two labelers are left, and Unlabelled if one
        could not label the report for another reason.
        """
        answers: list[tuple[str, Labelled]] = []
        abstained: list[str] = []
        usage = Usage()
        for name, labeler in self._labelers:
            try:
                answers.append((name, labeler.label(report)))
            except NotRead as error:
                abstained.append(name)
                usage += error.usage
                if len(self._labelers) - len(abstained) < 2:
                    raise NotRead(f"{', '.join(abstained)}: {error}; {TOO_FEW}", usage) from error
                continue
            except Unlabelled as error:
                raise Unlabelled(f"{name}: {error}", usage + error.usage) from error
            usage += answers[-1][1].usage
        votes = {key: [(name, answer.findings[key]) for name, answer in answers] for key in self.finding_set.keys}
        found = {key: merge(each) for key, each in votes.items()}
        if abstained:
            found = {key: replace(each, votes=_named(votes[key])) for key, each in found.items()}
        if "normal" in found and found["normal"].state is State.PRESENT:
            # Where findings are in dispute, nothing is normal for sure, though all say so.
            normal = normal_beside(found)
            found["normal"] = replace(normal, rule="", votes=_named(votes["normal"])) if normal else found["normal"]
        return Labelled(found, usage)


def merge(votes: Sequence[tuple[str, Evidence]]) -> Evidence:
    """Return what several labelers together say of one finding (see `Consensus`)."""
    states = {evidence.state for _, evidence in votes}
    # The first of the furthest: where all agree, the first.
    best = max((evidence for _, evidence in votes), key=lambda each: RANK[each.state])
    if len(states) == 1:
        return Evidence(best.state, best.start, best.end)
    state = State.UNCERTAIN if is_disagreement(states) else State.ABSENT
    return Evidence(state, best.start, best.end, votes=_named(votes))


def _named(votes: Sequence[tuple[str, Evidence]]) -> tuple[tuple[str, State], ...]:
    return tuple((name, evidence.state) for name, evidence in votes)


def is_disagreement(states: set[State]) -> bool:
    """Tell whether these votes contradict each other; a denial and silence do not."""
    return len(states) > 1 and states != {State.ABSENT, State.NOT_MENTIONED}
