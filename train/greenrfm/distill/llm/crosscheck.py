"""What the words of a report say without any model: the check against answers that obey instead of reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

import yaml

from greenrfm.distill.evidence import Evidence
from greenrfm.distill.lexicon import LexiconLabeler
from greenrfm.distill.llm.chunks import WIDE, Span, count_words
from greenrfm.findings import State

PASSED_OVER = "the model passes over findings that the report states"
ASSERTED = "the model asserts findings that the report denies"
DENIED = "the model calls a finding absent by the sentence that states it"
HEDGED = "the model calls everything uncertain that the report states"
SILENT = "the model is silent on a report that speaks of findings, or that the lexicon cannot read"
# Fewer words need not speak of any finding: "Siehe Vorbefund."
LEAST_WORDS = 8


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
        said, is_english = lexicon.label_english(report)
        spoken = {key: each for key, each in said.items() if each.state is not State.NOT_MENTIONED}
        self._said = {key: each for key, each in spoken.items() if key != "normal"}
        self._report = report
        self._unread = not is_english and count_words(report) >= LEAST_WORDS

    def fault(self, found: Mapping[str, Evidence], within: Span) -> str:
        """Return why the answer `found` about `report[slice(*within)]` cannot be used, "" if it can.

        It cannot

        * if it has ABSENT or NOT_MENTIONED for half or more of the findings that the lexicon calls present, but
          for one of two; ABSENT for one of them by the very sentence that states it; or UNCERTAIN for all;
        * if it has PRESENT or UNCERTAIN for two findings and more than half of those the lexicon calls absent;
        * if it mentions nothing at all although the lexicon reads any finding, or reads no such report: in
          another language than English nothing else would show that the model did not read it.

        What that costs in honest answers stands in docs/benchmarks.md.
        """
        said = {key: each for key, each in self._said.items() if within[0] <= each.start and each.end <= within[1]}
        present = {key: found[key] for key, each in said.items() if each.state is State.PRESENT}
        absent = {key: found[key] for key, each in said.items() if each.state is State.ABSENT}
        missed = _count(present, State.ABSENT, State.NOT_MENTIONED)
        if missed and 2 * missed >= len(present) and (missed > 1 or len(present) == 1):
            return PASSED_OVER
        if any(self._denies(each, said[key]) for key, each in present.items()):
            return DENIED
        if len(present) > 1 and _count(present, State.UNCERTAIN) == len(present):
            return HEDGED
        raised = _count(absent, State.PRESENT, State.UNCERTAIN)
        if raised >= 2 and 2 * raised > len(absent):
            return ASSERTED
        whole = within == (0, len(self._report))
        if _count(found, State.NOT_MENTIONED) == len(found) and (said or (whole and self._unread)):
            return SILENT
        return ""

    def _denies(self, answer: Evidence, said: Evidence) -> bool:
        """Tell whether the answer calls absent, by a sentence without a denial, what the sentence states."""
        if answer.state is not State.ABSENT or answer.end <= said.start or said.end <= answer.start:
            return False
        sentence = self._report[answer.start : answer.end]
        return not (has("denial", sentence) or has("normality", sentence))


def _count(found: Mapping[str, Evidence], *kinds: State) -> int:
    return sum(each.state in kinds for each in found.values())
