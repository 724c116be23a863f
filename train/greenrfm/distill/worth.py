"""How much a human look at a study's labels is worth: the rule by which the review page is sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from greenrfm.distill.consensus import is_disagreement
from greenrfm.distill.overrides import Override
from greenrfm.findings import State

# A present finding that at most this share of the studies has is named as a reason to look.
RARE = 0.02


class Worth(NamedTuple):
    """Compared from left to right; the larger one is shown first.

    1. `stale`: decisions of a person that no longer hold because the report changed: work already spent.
    2. `disagreements`: findings on which the labelers contradict each other: one of them is wrong.
    3. `uncertain`: findings that the report hedges; training leaves them out until someone decides.
    4. `failed`: 1 where the report could not be labelled, so that the whole study is missing.
    5. `rarity`: the sum, over findings labelled present, of 1 / (studies with that finding): one wrong
       label among three hurts, one among a thousand does not.

    What a person has decided counts nothing any more. Equal ones keep the order of the cohort.
    """

    stale: int = 0
    disagreements: int = 0
    uncertain: int = 0
    failed: int = 0
    rarity: float = 0.0


@dataclass(frozen=True)
class Opinion:
    """One finding of one study: the labeler's state (None if it failed), its row of evidence, a person's word.

    `stale` is a person's word on another wording of the report.
    """

    key: str
    said: State | None
    row: Mapping[str, Any] = field(default_factory=dict)
    override: Override | None = None
    stale: Override | None = None

    @property
    def votes(self) -> dict[str, State]:
        """Return who said what, where the labelers of a consensus differ."""
        return {name: State[state.upper()] for name, state in (self.row.get("votes") or {}).items()}

    @property
    def is_disputed(self) -> bool:
        """Tell whether the labelers contradict each other."""
        return is_disagreement(set(self.votes.values()))


def opinion_worth(opinion: Opinion, present: Mapping[str, int]) -> Worth:
    """Return the worth of a look at one finding; `present` counts the studies that have each finding."""
    if opinion.override is not None:
        return Worth()
    rare = opinion.said is State.PRESENT
    return Worth(
        stale=int(opinion.stale is not None),
        disagreements=int(opinion.is_disputed),
        uncertain=int(opinion.said is State.UNCERTAIN and not opinion.is_disputed),
        failed=int(opinion.said is None),
        rarity=1 / max(1, present[opinion.key]) if rare else 0.0,
    )


def study_worth(opinions: Sequence[Opinion], present: Mapping[str, int]) -> Worth:
    """Return the worth of a look at one study."""
    each = [opinion_worth(opinion, present) for opinion in opinions]
    stale, disagreements, uncertain, failed, rarity = (sum(values) for values in zip(*each, strict=True))
    return Worth(int(stale), int(disagreements), int(uncertain), int(failed > 0), rarity)


def rare_findings(opinions: Sequence[Opinion], present: Mapping[str, int], studies: int) -> list[str]:
    """Return the undecided present findings that few studies have, the rarest first."""
    keys = [each.key for each in opinions if each.said is State.PRESENT and each.override is None]
    return sorted((key for key in keys if present[key] <= RARE * studies), key=lambda key: present[key])
