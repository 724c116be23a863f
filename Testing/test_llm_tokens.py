"""How the labeler tells that a server saw only a part of the prompt: counts over real HTTP, and pieces of a report."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import llm_server
from greenrfm.distill import Unlabelled, Usage
from greenrfm.distill.llm.chunks import cut, halves, least_tokens, most_tokens
from greenrfm.distill.sentences import split
from greenrfm.findings import State
from llm_labelers import REPORT, make

LONG = "The trachea is open. " * 200 + "At the end there is a pleural effusion."
OTHER_LANGUAGES = {
    "German": "Das Herz ist nicht vergrößert. Kleiner Pleuraerguß links. Kein Perikarderguß. " * 5,
    "Turkish": "Kalp boyutları normaldir. Sol akciğerde plevral efüzyon izlendi. Lenfadenopati izlenmedi. " * 5,
    "Chinese": "心影不大。左侧少量胸腔积液。未见心包积液。纵隔内未见肿大淋巴结。" * 5,
}


def prompt_of(request: dict[str, Any]) -> str:
    return "\n".join(message["content"] for message in request["body"]["messages"])


def sent_for(server: llm_server.Server, report: str) -> str:
    """Return the prompt that `report` is sent in."""
    make(server, context_tokens=8192).label(report)
    return prompt_of(server.asked[-1])


# ---- counts that are too low


@pytest.mark.parametrize("counted", [1, 50, 300])
def test_a_count_below_the_words_of_the_prompt_is_no_label(server, counted):
    server.then(*[{"prompt_tokens": counted}] * 20)
    with pytest.raises(Unlabelled, match="does not fit the model's context") as failed:
        make(server).label(REPORT)
    # What was paid for in vain is told.
    assert failed.value.usage == Usage(counted * len(server.asked), 7 * len(server.asked), len(server.asked))


def test_the_least_count_is_one_token_a_word(server):
    words = least_tokens(sent_for(server, REPORT))
    server.then({"prompt_tokens": words})
    make(server).label(REPORT)
    server.then(*[{"prompt_tokens": words - 1}] * 20)
    with pytest.raises(Unlabelled, match="does not fit"):
        make(server).label(REPORT)


def test_a_long_report_that_was_cut_is_read_to_its_end_in_halves(server):
    server.then({"prompt_tokens": 400})
    labelled = make(server, context_tokens=8192).label(LONG)
    assert LONG[labelled.findings["pleural_effusion"].start :] == "At the end there is a pleural effusion."
    sent = [request["report"] for request in server.asked]
    assert sent[0] == LONG
    assert "".join("".join(sent[1:]).split()) == "".join(LONG.split())
    assert labelled.usage.requests == len(sent) >= 3
    assert labelled.usage.prompt_tokens > 400


def test_what_the_instructions_take_is_learnt_from_earlier_reports(server):
    prompt = sent_for(server, REPORT)
    # Four letters a token, as real vocabularies have it: more than a word each, less than `most_tokens`.
    taken = len(prompt) // 4
    # Enough for one token a word of all, but not beside instructions that took so many before.
    too_few = least_tokens(sent_for(server, LONG)) + 20
    requests = []
    for script in ([too_few], [taken, too_few]):
        labeler = make(server, context_tokens=8192)
        server.then(*[{"prompt_tokens": count} for count in script])
        for _ in script[1:]:
            labeler.label(REPORT)
        requests.append(labeler.label(LONG).usage.requests)
    assert requests[0] == 1
    assert requests[1] >= 3


# ---- counts that are none


@pytest.mark.parametrize("counted", [0, -1, True, 10**9, 10**30, 5000.0, "5000", None, [5000]], ids=repr)
def test_a_count_that_is_none_is_estimated(server, counted):
    server.then({"prompt_tokens": counted})
    labeler = make(server)
    labelled = labeler.label(REPORT)
    assert labelled.findings["pleural_effusion"].state is State.PRESENT
    assert labeler.usage_is_estimated
    assert labelled.usage.prompt_tokens == most_tokens(prompt_of(server.asked[0]))
    assert labelled.usage.requests == 1


def test_without_usage_all_is_estimated(server):
    server.then({"no_usage": True})
    labeler = make(server)
    usage = labeler.label(REPORT).usage
    assert labeler.usage_is_estimated
    assert usage.prompt_tokens == most_tokens(prompt_of(server.asked[0]))
    assert usage.completion_tokens > 100


@pytest.mark.parametrize("counted", [10**5, 10**7, 10**9 - 1])
def test_one_count_that_is_too_high_does_not_condemn_later_reports(server, counted):
    labeler = make(server)
    server.then({"prompt_tokens": counted})
    assert labeler.label(REPORT).usage == Usage(counted, 7, 1)
    assert labeler.label(REPORT).usage.requests == 1


def test_an_answer_that_was_cut_off_is_asked_for_again(server):
    server.then({"finish_reason": "length"})
    assert make(server).label(REPORT).usage.requests == 2
    server.then(*[{"finish_reason": "length"}] * 3)
    with pytest.raises(Unlabelled, match="cut off"):
        make(server).label(REPORT)


# ---- other languages


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
@pytest.mark.parametrize("letters_per_token", [4, 3, 2])
def test_other_languages_go_through_with_the_counts_of_real_vocabularies(server, language, letters_per_token):
    report = OTHER_LANGUAGES[language]
    labeler = make(server)
    for text in (REPORT, report, report + report, REPORT):
        prompt = sent_for(server, text)
        report_tokens = len(text) if language == "Chinese" and text != REPORT else len(text) // letters_per_token
        counted = len(prompt.replace(text, "")) // 4 + report_tokens
        asked = len(server.asked)
        server.then({"prompt_tokens": counted})
        labeler.label(text)
        assert len(server.asked) == asked + 1


def test_letters_of_many_tokens_do_not_condemn_later_reports(server):
    report = OTHER_LANGUAGES["Chinese"]
    instructions = len(sent_for(server, report).replace(report, "")) // 4
    server.then({"prompt_tokens": instructions + 3 * len(report)}, {"prompt_tokens": instructions + len(REPORT) // 4})
    labeler = make(server)
    assert [labeler.label(text).usage.requests for text in (report, REPORT)] == [1, 1]


# ---- estimates and pieces

TEXTS = st.text() | st.text(st.sampled_from("ab Zé0,.;\n\t\u00a0\u3000胸腔。𠀀🫁\u0301"), max_size=300)


@given(TEXTS)
@example("\x1c a \x85 b")
def test_a_text_takes_at_least_no_more_than_at_most(text):
    assert least_tokens(text) <= most_tokens(text)


@given(TEXTS, TEXTS)
def test_two_texts_take_no_more_than_each_alone(one, other):
    assert most_tokens(one + other) <= most_tokens(one) + most_tokens(other)


@given(TEXTS, st.integers(2, 60), st.data())
def test_pieces_together_are_the_span_and_each_fits(text, room, data):
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, len(text)))
    sentences = [(sentence.start, sentence.end) for sentence in split(text, frozenset())]
    pieces = cut(text, (start, stop), sentences, room)
    assert all(most_tokens(text[slice(*piece)]) <= room for piece in pieces)
    edges = [start, *(last for _, last in pieces)]
    assert list(pairwise(edges)) == pieces
    assert edges[-1] == stop


@given(TEXTS)
def test_halves_are_at_least_two_and_shorter(text):
    whole = most_tokens(text)
    pieces = halves(text, (0, len(text)), [])
    assert "".join(text[slice(*piece)] for piece in pieces) == text
    if whole > 2:
        assert len(pieces) >= 2
        assert all(most_tokens(text[slice(*piece)]) < whole for piece in pieces)


def test_pieces_end_where_a_sentence_does():
    text = "The lungs are clear. No effusion is seen. The heart is normal."
    sentences = [(0, 20), (21, 41), (42, 62)]
    room = max(most_tokens(text[slice(*span)]) for span in sentences)
    assert [text[slice(*piece)].strip() for piece in cut(text, (0, 62), sentences, room)] == [
        text[slice(*span)] for span in sentences
    ]
