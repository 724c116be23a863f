"""The model's answer, checked and not believed: its form, and every quotation against the report."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from greenrfm.distill.evidence import NOTHING, Evidence
from greenrfm.distill.llm.chunks import count_words
from greenrfm.distill.llm.crosscheck import has
from greenrfm.distill.llm.forms import STATES
from greenrfm.distill.llm.quotes import Quotes
from greenrfm.findings import State

MOST_LETTERS = 200_000
# Prose may hold a brace or two; more is an attempt to keep us busy.
MOST_STARTS = 20
THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
FENCE = "```"
VALUE = r"(?:(?:-1|0|1) ?@ ?[0-9]{1,5}|\?)"
LINE = re.compile(rf"{VALUE}(?: ?[,，] ?{VALUE})* ?[.。]?")
BY_NAME = dict(zip(STATES, (State.PRESENT, State.ABSENT, State.UNCERTAIN, State.NOT_MENTIONED), strict=True))
BY_NUMBER = {"1": State.PRESENT, "0": State.ABSENT, "-1": State.UNCERTAIN}


class Invalid(Exception):
    """An answer that cannot be used: why, in words that quote neither it nor the report."""


def parse_json(content: str, keys: Sequence[str]) -> dict[str, tuple[State, str]]:
    """Return state and quotation of every key, in the order of `keys`; raise Invalid for anything else.

    Prose, a code fence or thoughts (`<think>`) around the object are passed over if exactly one JSON
    object can be cut out.
    """
    value = _one_object(_bare(content))
    if unknown := value.keys() - set(keys):
        raise Invalid(f"the answer names {len(unknown)} findings that were not asked for")
    if missing := set(keys) - value.keys():
        raise Invalid(f"the answer lacks {len(missing)} of {len(keys)} findings")
    return {key: _finding(value[key]) for key in keys}


def parse_comma(content: str, keys: Sequence[str]) -> dict[str, tuple[State, int]]:
    """Return state and sentence number (0 for not mentioned) of every key; raise Invalid for anything else."""
    # One space for any: patterns that look for as many as there are take minutes over an answer of blanks.
    lines = [" ".join(line.split()) for line in _bare(content).splitlines()]
    lines = [line for line in lines if LINE.fullmatch(line)]
    if len(lines) != 1:
        raise Invalid("the answer is not one line of values")
    values = re.findall(VALUE, lines[0])
    if len(values) != len(keys):
        raise Invalid(f"the answer has {len(values)} values for {len(keys)} findings")
    return dict(zip(keys, map(_numbered, values), strict=True))


def from_quotations(found: Mapping[str, tuple[State, str]], quotes: Quotes) -> dict[str, Evidence]:
    """Return the evidence behind quotations; raise Invalid if one is not in the report or not clear."""
    evidence = {}
    for key, (state, quotation) in found.items():
        if state is State.NOT_MENTIONED:
            evidence[key] = NOTHING
            continue
        places = quotes.sentences(quotation)
        if not places:
            raise Invalid("the model quoted text that is not in the report")
        if len(places) > 1:
            raise Invalid("the model quoted words that stand in more than one sentence, or too many sentences at once")
        evidence[key] = Evidence(state, *places[0])
    return check(evidence, quotes.text)


def from_numbers(
    found: Mapping[str, tuple[State, int]], sentences: Sequence[tuple[int, int]], text: str
) -> dict[str, Evidence]:
    """Return the evidence behind sentence numbers (from 1); raise Invalid if there is no such sentence."""
    evidence = {}
    for key, (state, number) in found.items():
        if state is State.NOT_MENTIONED:
            evidence[key] = NOTHING
        elif 1 <= number <= len(sentences):
            evidence[key] = Evidence(state, *sentences[number - 1])
        else:
            raise Invalid("the model named a sentence that is not there")
    return check(evidence, text)


def check(evidence: dict[str, Evidence], text: str) -> dict[str, Evidence]:
    """Return `evidence`; raise Invalid if no report reads like that.

    A model that obeys a report instead of reading it gives one state for all ('normal' aside):

    * not every finding of a set of six or more is present or uncertain;
    * one sentence cannot show more findings than it has words (from four findings on), nor more than
      half of the set (from five on). For ABSENT it can if it is a statement of normality ("The lungs
      are clear."), or denies, for up to twice as many findings as words; but four fifths of a set of
      six or more only if it speaks of the whole examination ("No abnormality.").
    """
    spoken = [each for key, each in evidence.items() if key != "normal" and each.state is not State.NOT_MENTIONED]
    asked = sum(key != "normal" for key in evidence)
    found = sum(each.state is not State.ABSENT for each in spoken)
    if asked >= 6 and (found == asked or (asked >= 10 and 5 * found >= 4 * asked)):
        raise Invalid("almost every finding was called present or uncertain, which no report says")
    for (state, start, end), count in Counter((each.state, each.start, each.end) for each in spoken).items():
        if not _can_show(text[start:end], state, count, asked):
            raise Invalid(f"one sentence was given as evidence for {count} findings")
    return evidence


def _can_show(sentence: str, state: State, count: int, asked: int) -> bool:
    """Tell whether one sentence can give `count` of `asked` findings this state."""
    length = count_words(sentence)
    too_many_for_it = count >= 4 and count > length
    if not too_many_for_it and not (count >= 5 and 2 * count > asked):
        return True
    if state is not State.ABSENT:
        return False
    if asked >= 6 and 5 * count >= 4 * asked and not has("whole", sentence):
        return False
    return has("normality", sentence) or (has("denial", sentence) and count <= 2 * length)


def _bare(content: str) -> str:
    if len(content) > MOST_LETTERS:
        raise Invalid("the answer is longer than any answer can be")
    text = THOUGHTS.sub("", content).strip()
    first, _, rest = text.partition("\n")
    if first.startswith(FENCE) and rest.endswith(FENCE):
        return rest.removesuffix(FENCE).strip()
    return text


def _one_object(text: str) -> dict[str, Any]:
    """Return the one JSON object in `text`."""
    decoder = json.JSONDecoder(object_pairs_hook=_pairs)
    objects, place, starts = [], text.find("{"), 0
    while place >= 0 and starts < MOST_STARTS:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):  # also for a number of too many digits
            starts, end = starts + 1, place + 1
        else:
            objects.append(value)
        place = text.find("{", end)
    if len(objects) != 1 or place >= 0:
        raise Invalid("the answer is not one JSON object")
    return dict(objects[0])


def _pairs(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    listed = list(pairs)
    if len(listed) != len({key for key, _ in listed}):
        raise Invalid("the answer names something twice")
    return dict(listed)


def _finding(value: Any) -> tuple[State, str]:
    if not isinstance(value, dict) or value.keys() != {"state", "evidence"}:
        raise Invalid("a finding in the answer has not exactly a state and its evidence")
    name, quotation = value["state"], value["evidence"]
    state = BY_NAME.get(re.sub(r"[\s-]+", "_", name.strip().lower())) if isinstance(name, str) else None
    if state is None:
        raise Invalid("a finding in the answer has a state that was not offered")
    if quotation is None:
        quotation = ""
    if not isinstance(quotation, str):
        raise Invalid("the evidence of a finding is no text")
    if state is State.NOT_MENTIONED and quotation.strip():
        raise Invalid("a finding that is not mentioned has evidence")
    if state is not State.NOT_MENTIONED and not quotation.strip():
        raise Invalid("a finding that is mentioned has no evidence")
    return state, quotation


def _numbered(value: str) -> tuple[State, int]:
    if value == "?":
        return State.NOT_MENTIONED, 0
    state, _, number = value.partition("@")
    return BY_NUMBER[state.strip()], int(number)
