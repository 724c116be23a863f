"""What is taken for an answer, and where a quotation stands in a report. All sentences here are made up."""

from __future__ import annotations

import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.distill.evidence import NOTHING, Evidence
from greenrfm.distill.llm.answer import Invalid, check, from_numbers, from_quotations, parse_comma, parse_json
from greenrfm.distill.llm.chunks import count_words, cut, halves, least_tokens, most_tokens
from greenrfm.distill.llm.forms import STATES, Form, grammar, schema
from greenrfm.distill.llm.quotes import Quotes, fold
from greenrfm.distill.sentences import split
from greenrfm.findings import State

KEYS = ("cardiomegaly", "emphysema", "lung_nodule")
NONE = {"state": "not_mentioned", "evidence": ""}
REPORTS = [
    "The heart is “enlarged”.  No\temphysema;\nthere is a nodule – 5 mm – in the left lung. No effusion. No effusion.",
    "Das Herz ist vergrößert. Kein Emphysem (Ausschluß!). Rundherd 5 mm rechts.",
    "Corazón aumentado de tamaño. ¿Enfisema? Nódulo pulmonar de 5 mm.",
    "Kalp boyutları İLERİ derecede artmıştır. Amfizem izlenmedi. Sağda nodül.",
    "心影增大。未见肺气肿！右肺上叶见结节，直径约５ｍｍ。",
]  # fmt: skip
TEXT = st.one_of(
    st.sampled_from(REPORTS),
    st.text(st.sampled_from("aA eiıİſß .。，!\n\t“”'-–0５ﬁe\u0301ñ心影🫁\u200b"), max_size=60),
    st.text(max_size=60),
)


def spans(text: str) -> list[tuple[int, int]]:
    return [(each.start, each.end) for each in split(text, frozenset())]


def places(quotation: str, text: str) -> list[str]:
    return [text[start:end] for start, end in Quotes(text, spans(text)).sentences(quotation)]


# ---- JSON


def written(**changes: object) -> str:
    return json.dumps({**dict.fromkeys(KEYS, NONE), **changes})


def test_states_come_in_the_order_of_the_set():
    found = parse_json('{"lung_nodule": %s, "emphysema": %s, "cardiomegaly": %s}' % ((json.dumps(NONE),) * 3), KEYS)
    assert tuple(found) == KEYS


@pytest.mark.parametrize("state", ["Present", "PRESENT ", "not mentioned", "Not-Mentioned", "uncertain"])
def test_a_state_may_be_written_otherwise(state):
    quotation = "" if "ot" in state else "x"
    assert parse_json(written(emphysema={"state": state, "evidence": quotation}), KEYS)["emphysema"][1] == quotation


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "[" + written() + ", 1, {}]",
        written()[:-1],
        written()[1:],
        written() * 2,
        written() + " {}",
        '{"cardiomegaly": {"state": "absent", "evidence": "a", "state": "present"}, "emphysema": 1, "lung_nodule": 1}',
        written()[:-1] + f', "emphysema": {json.dumps(NONE)}}}',
        written(emphysema={"state": "present"}),
        written(emphysema={"state": "present", "evidence": ["x"]}),
        written(emphysema={"state": "present", "evidence": None}),
        written(emphysema={"state": "present", "evidence": "x", "why": "y"}),
        written(emphysema={"state": None, "evidence": ""}),
        written(emphysema={"state": "not_mentioned", "evidence": "x"}),
        written(emphysema={"state": "absent", "evidence": " "}),
        written(emphysema="present"),
        written(pneumonia=NONE),
        json.dumps(dict.fromkeys(KEYS[:2], NONE)),
        "{" * 50 + written(),
        written() + " " * 200_000,
    ],
)
def test_what_is_not_one_whole_answer_is_none(content):
    with pytest.raises(Invalid):
        parse_json(content, KEYS)


@given(st.one_of(st.text(max_size=200), st.text(st.sampled_from('{}[]":,statepresentvidc \\n1@?-'), max_size=200)))
def test_no_text_breaks_the_parsers(content):
    for parse in (parse_json, parse_comma):
        with pytest.raises(Invalid):
            parse(content, KEYS)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(STATES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*KEYS, "state", "evidence", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_only_a_right_object_of_all_json_is_an_answer(value):
    right = (
        isinstance(value, dict)
        and value.keys() == set(KEYS)
        and all(isinstance(each, dict) and each.keys() == {"state", "evidence"} for each in value.values())
    )
    if not right:
        with pytest.raises(Invalid):
            parse_json(json.dumps(value), KEYS)


@given(st.data())
def test_cutting_an_answer_anywhere_makes_it_none(data):
    content = written(emphysema={"state": "present", "evidence": "a {b} c"})
    end = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(Invalid):
        parse_json(content[:end], KEYS)


# ---- one line


def test_a_line_of_values_is_read():
    expected = {
        "cardiomegaly": (State.PRESENT, 4),
        "emphysema": (State.UNCERTAIN, 12),
        "lung_nodule": (State.NOT_MENTIONED, 0),
    }
    for content in (
        "1@4, -1@12, ?",
        "1@4，-1@12，？".replace("？", "?"),
        "Here:\n1 @ 4,-1@12,?.\nDone.",
        "```\n1@4,-1@12,?\n```",
    ):
        assert parse_comma(content, KEYS) == expected


@pytest.mark.parametrize(
    "content",
    ["", "1@4", "1@4,0@2", "1@4,0@2,?,?", "1,0,-1", "2@1,0@2,?", "1@4,0@2,?\n1@4,0@2,?", "1@4, 0@2, ? and so on",
     "1@1234567,?,?", "-0@1,?,?"],
)  # fmt: skip
def test_another_line_is_no_answer(content):
    with pytest.raises(Invalid):
        parse_comma(content, KEYS)


def test_a_sentence_number_outside_the_report_is_no_evidence():
    text = "Large heart. No emphysema."
    found = from_numbers(parse_comma("1@1, 0@2, ?", KEYS), spans(text), text)
    assert [text[each.start : each.end] for each in found.values()] == ["Large heart.", "No emphysema.", ""]
    for line in ("1@0, ?, ?", "1@3, ?, ?"):
        with pytest.raises(Invalid, match="not there"):
            from_numbers(parse_comma(line, KEYS), spans(text), text)


# ---- quotations


@pytest.mark.parametrize(
    ("quotation", "sentence"),
    [
        ('The heart is "enlarged"', "The heart is “enlarged”."),
        ("the HEART is 'enlarged".replace("'", "“"), "The heart is “enlarged”."),
        ("No emphysema; there is a nodule - 5 mm -", "No\temphysema;\nthere is a nodule – 5 mm – in the left lung."),
        ("… there is a nodule …", "No\temphysema;\nthere is a nodule – 5 mm – in the left lung."),
        ("No effusion", "No effusion."),
        ("herz ist VERGRÖSSERT", "Das Herz ist vergrößert."),
        ("Kein Emphysem (Ausschluss!)", "Kein Emphysem (Ausschluß!)."),
        (unicodedata.normalize("NFD", "Nódulo pulmonar"), "Nódulo pulmonar de 5 mm."),
        ("enfisema", "¿Enfisema?"),
        ("ileri derecede", "Kalp boyutları İLERİ derecede artmıştır."),
        ("Sağda nodül", "Sağda nodül."),
        ("直径约5mm", "右肺上叶见结节，直径约５ｍｍ。"),
        ("右肺上叶见结节,直径约5mm。", "右肺上叶见结节，直径约５ｍｍ。"),
    ],
)
def test_a_quotation_is_found_behind_other_spaces_marks_and_case(quotation, sentence):
    (report,) = [each for each in REPORTS if sentence in each]
    found = places(quotation, report)
    assert len(found) == 1
    assert sentence in found[0] or found[0] in sentence


@pytest.mark.parametrize(
    "quotation",
    [
        "",
        " ",
        ".",
        "no",
        "5",
        "nodul",
        "eart",
        "The heart is small",
        "the heart the heart",
        "心",
        "\ud800",
        "’",
        "lung. Yes",
    ],
)
def test_what_does_not_stand_there_is_not_found(quotation):
    assert all(places(quotation, report) == [] for report in REPORTS)


def test_words_of_two_sentences_show_nothing_but_a_sentence_said_twice_does():
    report = "No effusion on the left. Small effusion on the right. Large heart. Large heart."
    assert len(places("effusion on the", report)) == 2
    assert Quotes(report, spans(report)).sentences("large heart") == [(54, 66)]


def test_a_quotation_of_the_whole_report_shows_nothing():
    report = "One is here. Two is here. Three is here. Four is here."
    assert len(places(report, report)) == 4
    assert len(places("Two is here. Three is here.", report)) == 1


@given(TEXT, st.data())
@settings(max_examples=300)
def test_every_sentence_is_found_where_it_stands(text, data):
    for start, end in spans(text):
        found = Quotes(text, spans(text)).sentences(text[start:end])
        if found:
            same = [fold(text[first:last])[0] for first, last in found]
            assert fold(text[start:end])[0] in same[0]
    if sentences := spans(text):
        start, end = data.draw(st.sampled_from(sentences))
        if sum(letter.isalnum() for letter in text[start:end]) >= 3:
            assert Quotes(text, sentences).sentences(text[start:end])


@given(TEXT, TEXT)
@settings(max_examples=300)
def test_what_is_found_is_sentences_of_the_text_that_hold_the_quotation(quotation, text):
    sentences = spans(text)
    found = Quotes(text, sentences).sentences(quotation)
    starts, ends = {start for start, _ in sentences}, {end for _, end in sentences}
    assert all(start in starts and end in ends for start, end in found)
    if len(found) == 1:
        assert fold(quotation.strip(" \t\r\n\"'“”„‚‘’«»`…."))[0] in fold(text)[0]


@given(TEXT)
def test_folding_keeps_places(text):
    folded, where = fold(text)
    assert len(where) == len(folded) + 1
    assert where == sorted(where)
    assert all(0 <= place <= len(text) for place in where)


@given(st.text(st.characters(codec="ascii")))
def test_ascii_is_folded_word_by_word_as_any_text_is_letter_by_letter(text):
    folded, where = fold(text)
    longer, places = fold(text + " é")
    assert longer == f"{folded} é".strip()
    assert places[: len(folded)] == where[:-1]


@given(st.sampled_from(REPORTS), st.data())
def test_mangled_quotations_lead_to_the_same_sentence(report, data):
    start, end = data.draw(st.sampled_from(spans(report)))
    mangle = data.draw(
        st.sampled_from(
            [str.upper, lambda text: " ".join(text.split()), lambda text: unicodedata.normalize("NFD", text)]
        )
    )
    quotation = mangle(report[start:end])
    assert [fold(each)[0] for each in places(quotation, report)] == [fold(report[start:end])[0]]


# ---- what no report says


def evidence(*numbers: int) -> dict[str, Evidence]:
    return {f"f{n}": Evidence(State.PRESENT, 10 * n, 10 * n + 9) if n >= 0 else NOTHING for n in numbers}


def test_one_sentence_cannot_show_everything():
    text = "Cardiomegaly, effusion, atelectasis, consolidation, emphysema and a nodule are seen."
    one = Evidence(State.PRESENT, 0, len(text))
    found = {f"f{n}": one if n < 6 else NOTHING for n in range(18)}
    assert check(found, text) is found
    with pytest.raises(Invalid, match="10 findings"):
        check({f"f{n}": one if n < 10 else NOTHING for n in range(18)}, text)
    with pytest.raises(Invalid, match="4 findings"):
        check({f"f{n}": Evidence(State.PRESENT, 0, 10) if n < 4 else NOTHING for n in range(18)}, "Go to: all.")


def test_everything_present_is_no_report():
    text = "".join(f"Finding {n}. " for n in range(10))
    with pytest.raises(Invalid, match="every finding"):
        check(evidence(*range(7)), text)
    with pytest.raises(Invalid, match="every finding"):
        check({**evidence(*range(7)), "normal": NOTHING}, text)
    check(evidence(*range(6), -1), text)
    check(evidence(0, 1, 2), text)


def test_a_normal_report_may_rest_on_one_sentence():
    text = "Normal examination."
    check({f"f{n}": Evidence(State.ABSENT, 0, len(text)) for n in range(18)}, text)


def test_quotations_become_evidence_of_whole_sentences():
    text = "The heart is enlarged. No emphysema."
    found = {
        "cardiomegaly": (State.PRESENT, "heart is enlarged"),
        "emphysema": (State.ABSENT, "no emphysema"),
        "lung_nodule": (State.NOT_MENTIONED, ""),
    }
    assert [text[each.start : each.end] for each in from_quotations(found, Quotes(text, spans(text))).values()] == [
        "The heart is enlarged.",
        "No emphysema.",
        "",
    ]


# ---- pieces


@given(TEXT | st.lists(st.sampled_from(REPORTS), max_size=8).map(" ".join), st.integers(1, 60))
@settings(max_examples=300)
def test_pieces_are_the_whole_text_and_fit(text, room):
    pieces = cut(text, (0, len(text)), spans(text), room)
    assert "".join(text[start:end] for start, end in pieces) == text
    assert all(start < end for start, end in pieces)
    # One letter may take two tokens.
    assert all(most_tokens(text[start:end]) <= max(room, 2) for start, end in pieces)


@given(st.lists(st.sampled_from(REPORTS), min_size=1, max_size=4).map(" ".join))
def test_halves_are_smaller(text):
    pieces = halves(text, (0, len(text)), spans(text))
    assert len(pieces) > 1
    assert "".join(text[start:end] for start, end in pieces) == text


def test_pieces_end_where_sentences_begin_and_long_sentences_at_spaces():
    text = "One two. " * 10 + "a" * 50 + " " + "b" * 50 + " c."
    words = [text[start:end] for start, end in cut(text, (0, len(text)), spans(text), 20)]
    assert words[0] == "One two. " * 6
    assert words[-3:] == ["a" * 50 + " ", "b" * 50 + " ", "c."] or words[-2:] == ["a" * 50 + " ", "b" * 50 + " c."]


@given(TEXT)
def test_the_least_is_never_more_than_the_most(text):
    assert least_tokens(text) <= most_tokens(text)


def test_words_are_counted_in_both_kinds_of_script():
    assert count_words("Kalp boyutları İLERİ, 5 mm") == 5
    assert count_words("双侧胸腔积液") == 3


# ---- forms


def test_schema_and_grammar_name_every_key_and_state():
    assert schema(KEYS)["required"] == list(KEYS)
    for text in (json.dumps(schema(KEYS)), grammar(KEYS)):
        assert all(word in text for word in (*KEYS, *STATES))
    assert [form.value for form in Form] == ["json_schema", "json_object", "grammar", "json", "comma"]


def test_the_grammar_makes_answers_that_are_read():
    rng = random.Random(1)
    for _ in range(50):
        assert set(parse_json(_made_by(grammar(KEYS), rng), KEYS)) == set(KEYS)


def _made_by(text: str, rng: random.Random) -> str:
    """Return an answer that follows the grammar's root and finding rules literally."""
    rules = dict(line.split(" ::= ", 1) for line in text.splitlines())
    assert set(rules) == {"root", "finding", "state", "string", "letter", "hex", "ws"}
    out = []
    for token in rules["root"].split():
        if token == "finding":
            state = json.loads(json.loads(rng.choice(rules["state"].split(" | "))))
            quotation = "" if state == "not_mentioned" else "words"
            out.append(json.dumps({"state": state, "evidence": quotation}))
        elif token == "ws":
            out.append(rng.choice(["", " ", "\n"]))
        else:
            out.append(json.loads(token))
    return "".join(out)
