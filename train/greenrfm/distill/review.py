"""Which studies a person should look at, and what the review page shows of them."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from greenrfm.distill.labels_files import Labels
from greenrfm.distill.overrides import Overrides
from greenrfm.distill.worth import Opinion, Worth, study_worth
from greenrfm.findings import State


@dataclass(frozen=True)
class Item:
    """A study to look at; `failed` is the reason why its report could not be labelled, else empty."""

    study_id: str
    report: str
    opinions: tuple[Opinion, ...]
    worth: Worth
    failed: str = ""


@dataclass
class Selection:
    """The studies most worth a look, best first, and counts over all that were labelled or failed."""

    items: list[Item] = field(default_factory=list)
    present: dict[str, int] = field(default_factory=dict)
    studies: int = 0
    unfinished: int = 0
    labelers: dict[str, None] = field(default_factory=dict)
    stale: int = 0
    disputed: int = 0
    uncertain: int = 0
    failed: int = 0
    decided: int = 0


def select(labels: Labels, overrides: Overrides, limit: int) -> Selection:
    """Return the `limit` studies most worth a human look (`worth.Worth` is the rule)."""
    chosen = Selection(present=_count_present(labels))
    best: list[tuple[Worth, int, Item]] = []
    for number, study in enumerate(labels.cohort):
        states, rows = labels.said(study.study_id)
        failed = "" if states is not None else labels.failure(study.study_id)
        if states is None and not failed:
            chosen.unfinished += 1
            continue
        held = overrides.of(study.study_id, study.report)
        stale = overrides.stale(study.study_id, study.report)
        opinions = tuple(
            Opinion(key, states[key] if states else None, rows.get(key, {}), held.get(key), stale.get(key))
            for key in labels.finding_set.keys
        )
        worth = study_worth(opinions, chosen.present)
        chosen.studies += 1
        chosen.stale += worth.stale
        chosen.disputed += worth.disagreements
        chosen.uncertain += worth.uncertain
        chosen.failed += worth.failed
        chosen.decided += len(held)
        for row in rows.values():
            chosen.labelers[" ".join(filter(None, (row["labeler"], row.get("model"))))] = None
        # Negated, an earlier study is the larger one of two with the same worth.
        heapq.heappush(best, (worth, -number, Item(study.study_id, study.report, opinions, worth, failed)))
        if len(best) > limit:
            heapq.heappop(best)
    chosen.items = [item for _, _, item in sorted(best, key=lambda each: each[:2], reverse=True)]
    return chosen


def _count_present(labels: Labels) -> dict[str, int]:
    counts = (labels.table.states == State.PRESENT).sum(axis=0)
    return dict(zip(labels.finding_set.keys, map(int, counts), strict=True))
