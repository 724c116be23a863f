"""The first labeler: findings by phrase, state by context, no model and no network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from greenrfm.distill.context import Context, Reading
from greenrfm.distill.evidence import NOTHING, RANK, Evidence, Labelled, NotRead, normal_beside
from greenrfm.distill.language import Words, count_words
from greenrfm.distill.rules import Candidates, Lexicon, cues
from greenrfm.distill.sentences import Sentence, normalise, shortened, split
from greenrfm.distill.spelling import Speller
from greenrfm.findings import FindingSet, State

VERSION = "3"
# Reports repeat themselves: half the sentences of a department are its standard ones.
REMEMBERED_SENTENCES = 20_000
NOT_ENGLISH = "it does not read like English, the lexicon's language; use --labeler llm"


class LexiconLabeler:
    """Labels reports with the states of a finding set by the phrases in data/*.yaml and the set's synonyms."""

    name, model = "lexicon", ""
    version = VERSION

    def __init__(self, finding_set: FindingSet) -> None:
        """Compile the phrases of `finding_set`."""
        self.finding_set = finding_set
        self._silent = frozenset(cues()["silent_sections"])
        self._context = Context(cues())
        self._lexicon = Lexicon(finding_set)
        self._speller = Speller(self._context.words | self._lexicon.words)
        self._words = lru_cache(REMEMBERED_SENTENCES)(self._count_words)
        self._read = lru_cache(REMEMBERED_SENTENCES)(self._read_sentence)
        self._away = lru_cache(REMEMBERED_SENTENCES)(self._away_from)

    def label(self, report: str) -> Labelled:
        """Return the evidence for every key of the finding set; `rule` names the phrase and cue that decided.

        Raises NotRead for a report, or one with a sentence, that is not in English: what another language
        denies would be called present.
        """
        counted = self._counted(report)
        foreign = any(words.are_foreign for sentence, words in counted if sentence.counts)
        if foreign or not _all(counted).are_english:
            raise NotRead(NOT_ENGLISH)
        return Labelled(self._found(report, [sentence for sentence, _ in counted]))

    def label_english(self, report: str) -> tuple[dict[str, Evidence], bool]:
        """Return what the English sentences of a report in any language say, and whether it reads like English.

        `label` refuses a report of another language. There a sentence must have a word of English alone:
        "Pneumothorax" is none.
        """
        counted = self._counted(report)
        plain = _all(counted).are_english
        english = [
            sentence
            for sentence, words in counted
            if words.known and words.are_english and (plain or words.english > 0)
        ]
        return self._found(report, english), plain

    def _counted(self, report: str) -> list[tuple[Sentence, Words]]:
        sentences = shortened(report, split(report, self._silent))
        return [(sentence, self._words(report[sentence.start : sentence.end])) for sentence in sentences]

    def _found(self, report: str, sentences: Iterable[Sentence]) -> dict[str, Evidence]:
        found = dict.fromkeys(self.finding_set.keys, NOTHING)
        for sentence in sentences:
            if not sentence.counts:
                continue
            for key, state, rule in self._read(report[sentence.start : sentence.end], sentence.section):
                if RANK[state] > RANK[found[key].state]:
                    found[key] = Evidence(state, sentence.start, sentence.end, rule)
        if "normal" in found:
            found["normal"] = normal_beside(found) or found["normal"]
        return found

    def _count_words(self, sentence: str) -> Words:
        return count_words(sentence, self._speller)

    def _away_from(self, section: str) -> frozenset[str]:
        """Return the findings that a sentence under this heading does not mean unless it names their organ."""
        return self._lexicon.elsewhere(normalise(section, self._speller)) if section else frozenset()

    def _read_sentence(self, sentence: str, section: str) -> tuple[tuple[str, State, str], ...]:
        """Return the findings of which a sentence speaks, their states and the rules."""
        text = normalise(sentence, self._speller)
        candidates = self._lexicon.candidates(text)
        if not candidates:
            return ()
        context = Reading(text, self._context.cues(text))
        away = self._away(section)
        return tuple((key, *_state(phrases, text, context, key in away)) for key, phrases in candidates.items())


def _all(counted: Iterable[tuple[Sentence, Words]]) -> Words:
    return sum((words for _, words in counted), Words())


def _state(candidates: Candidates, text: str, context: Reading, away: bool) -> tuple[State, str]:
    """Return the state of one finding in a sentence and the rule; `away`: the section is another organ's."""
    for phrase, start, end in candidates.spans("stated", text):
        return State.PRESENT, f"stated: {phrase.named(text[start:end])}"
    best, why = State.NOT_MENTIONED, ""
    for phrase, start, end in candidates.spans("absent", text):
        # "Heart size is not normal" is no normal heart; its enlargement has its own phrase.
        if best is State.NOT_MENTIONED and context.judge(start, end)[0] is State.PRESENT:
            best, why = State.ABSENT, f"normal: {phrase.named(text[start:end])}"
    masked = text
    for _, start, end in candidates.spans("ignore", text):
        masked = masked[:start] + "_" * (end - start - 1) + masked[end - 1 :]
    for role in ("mentions", "vague", "denied"):
        if role == "vague" and not any(candidates.spans("within", text)):
            continue
        for phrase, start, end in candidates.spans(role, masked):
            state, cue = context.judge(start, end)
            if RANK[state] <= RANK[best] or (role == "denied" and state is not State.ABSENT):
                continue
            if not _is_elsewhere(candidates, text, masked, (start, end), away):
                best, why = state, phrase.named(text[start:end]) + (f" [{cue}]" if cue else "")
    return best, why


def _is_elsewhere(candidates: Candidates, text: str, masked: str, mention: tuple[int, int], away: bool) -> bool:
    """Tell whether a mention lies in another organ, by its part of the sentence or, `away`, by the section."""
    start, stop = text.rfind("; ", 0, mention[0]) + 1, text.find(" ;", mention[1] - 1)
    clause = slice(start, stop + 1 if stop >= 0 else len(text))
    if not away and not any(candidates.spans("elsewhere", text[clause])):
        return False
    return not any(candidates.spans("here", masked[clause]))
