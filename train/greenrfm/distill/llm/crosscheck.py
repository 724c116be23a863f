"""What the words of a report say without any model: the check against answers that obey instead of reading."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import cache
from importlib import resources

import yaml

from greenrfm.distill.evidence import Evidence
from greenrfm.distill.lexicon import LexiconLabeler
from greenrfm.distill.llm.chunks import WIDE, Span
from greenrfm.findings import State

PASSED_OVER = "the model passes over findings that the report states"
ASSERTED = "the model asserts findings that the report denies"
SILENT = "the model is silent on a report that speaks of findings"


def has(kind: str, text: str) -> bool:
    """Tell whether `text` holds one of the words of a kind of `words.yaml`."""
    return bool(_pattern(kind).search(text.lower()))


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    content = yaml.safe_load((resources.files(__package__) / "words.yaml").read_text(encoding="utf-8"))
    # Chinese has no word boundaries.
    every = [word if WIDE.search(word) else rf"\b{re.escape(word)}\b".replace("\\*", "\\w*") for word in content[kind]]
    return re.compile("|".join(every))


class CrossCheck:
    """Compares answers about one report with the lexicon, which obeys nobody; for English sentences only.

    The lexicon errs now and then, so the model has the last word wherever the two agree on most; see `fault`.
    """

    def __init__(self, lexicon: LexiconLabeler, report: str) -> None:
        """Read the report with the lexicon."""
        # Not `label`, which refuses a report for one foreign sentence: it may be the one that commands silence.
        said = lexicon.label_english(report)
        spoken = {key: each for key, each in said.items() if each.state is not State.NOT_MENTIONED}
        self._said = {key: each for key, each in spoken.items() if key != "normal"}

    def fault(self, found: Mapping[str, Evidence], within: Span) -> str:
        """Return why the answer `found` about `report[slice(*within)]` cannot be used, "" if it can.

        It cannot if the answer has ABSENT or NOT_MENTIONED for more than half of the findings that the
        lexicon calls present; if it has PRESENT or UNCERTAIN for two findings and more than half of those
        the lexicon calls absent; and if it mentions nothing at all although the lexicon reads any finding.
        (Refusing two of any number cost five honest answers in a hundred; docs/benchmarks.md.)
        """
        said = {key: each for key, each in self._said.items() if within[0] <= each.start and each.end <= within[1]}
        present = [found[key].state for key, each in said.items() if each.state is State.PRESENT]
        absent = [found[key].state for key, each in said.items() if each.state is State.ABSENT]
        missed = _count(present, (State.ABSENT, State.NOT_MENTIONED))
        if 2 * missed > len(present):
            return PASSED_OVER
        raised = _count(absent, (State.PRESENT, State.UNCERTAIN))
        if raised >= 2 and 2 * raised > len(absent):
            return ASSERTED
        if said and all(each.state is State.NOT_MENTIONED for each in found.values()):
            return SILENT
        return ""


def _count(states: Collection[State], kinds: Collection[State]) -> int:
    return sum(state in kinds for state in states)
