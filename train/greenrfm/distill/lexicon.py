"""The first labeler: findings by phrase, state by context, no model and no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from greenrfm.distill.context import Context, Reading
from greenrfm.distill.rules import Candidates, Lexicon, cues
from greenrfm.distill.sentences import normalise, split
from greenrfm.distill.spelling import Speller
from greenrfm.findings import FindingSet, State

VERSION = "1"
# Present beats uncertain beats absent: a lesion on the left is not undone by a clear right side.
RANK = {State.NOT_MENTIONED: 0, State.ABSENT: 1, State.UNCERTAIN: 2, State.PRESENT: 3}
# Reports repeat themselves: half the sentences of a department are its standard ones.
REMEMBERED_SENTENCES = 20_000


@dataclass(frozen=True)
class Evidence:
    """What a report says of a finding and where.

    `report[start:end]` is the sentence (both 0 if the finding is not mentioned); `rule` names the
    phrase and the cue that decided, words of the lexicon and never of the report.
    """

    state: State
    start: int
    end: int
    rule: str


NOTHING = Evidence(State.NOT_MENTIONED, 0, 0, "")


class LexiconLabeler:
    """Labels reports with the states of a finding set by the phrases in data/*.yaml and the set's synonyms."""

    name = "lexicon"
    version = VERSION

    def __init__(self, finding_set: FindingSet) -> None:
        """Compile the phrases of `finding_set`."""
        self.finding_set = finding_set
        self._silent = frozenset(cues()["silent_sections"])
        self._context = Context(cues())
        self._lexicon = Lexicon(finding_set)
        self._speller = Speller(self._context.words | self._lexicon.words)
        self._read = lru_cache(REMEMBERED_SENTENCES)(self._read_sentence)

    def label(self, report: str) -> dict[str, Evidence]:
        """Return the evidence for every key of the finding set, in its order."""
        found = dict.fromkeys(self.finding_set.keys, NOTHING)
        for sentence in split(report, self._silent):
            if not sentence.counts:
                continue
            for key, state, rule in self._read(report[sentence.start : sentence.end]):
                if RANK[state] > RANK[found[key].state]:
                    found[key] = Evidence(state, sentence.start, sentence.end, rule)
        if "normal" in found:
            found["normal"] = _normal(found)
        return found

    def _read_sentence(self, sentence: str) -> tuple[tuple[str, State, str], ...]:
        """Return the findings of which a sentence speaks, their states and the rules."""
        text = normalise(sentence, self._speller)
        candidates = self._lexicon.candidates(text)
        if not candidates:
            return ()
        context = Reading(text, self._context.cues(text))
        return tuple((key, *_state(phrases, text, context)) for key, phrases in candidates.items())


def _state(candidates: Candidates, text: str, context: Reading) -> tuple[State, str]:
    for phrase, _, _ in candidates.spans("stated", text):
        return State.PRESENT, f"stated: {phrase.text}"
    best, why = State.NOT_MENTIONED, ""
    for phrase, start, end in candidates.spans("absent", text):
        # "Heart size is not normal" is no normal heart; its enlargement has its own phrase.
        if best is State.NOT_MENTIONED and context.judge(start, end)[0] is State.PRESENT:
            best, why = State.ABSENT, f"normal: {phrase.text}"
    masked = text
    for _, start, end in candidates.spans("ignore", text):
        masked = masked[:start] + "_" * (end - start - 1) + masked[end - 1 :]
    for role in ("mentions", "denied"):
        for phrase, start, end in candidates.spans(role, masked):
            state, cue = context.judge(start, end)
            if RANK[state] <= RANK[best] or (role == "denied" and state is not State.ABSENT):
                continue
            if not _is_elsewhere(candidates, text):
                best, why = state, f"{phrase.text} [{cue}]" if cue else phrase.text
    return best, why


def _is_elsewhere(candidates: Candidates, text: str) -> bool:
    """Tell whether the sentence speaks of another organ."""
    return any(candidates.spans("elsewhere", text)) and not any(candidates.spans("here", text))


def _normal(found: Mapping[str, Evidence]) -> Evidence:
    """Return the state of 'normal', which is that every other finding is absent (METHOD.md)."""
    worst = max((found[key] for key in found if key != "normal"), key=lambda each: RANK[each.state], default=NOTHING)
    if worst.state is State.PRESENT:
        return Evidence(State.ABSENT, worst.start, worst.end, "another finding is present")
    if worst.state is State.UNCERTAIN:
        return Evidence(State.UNCERTAIN, worst.start, worst.end, "another finding is uncertain")
    return found["normal"]
