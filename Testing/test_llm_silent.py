"""A model that obeys a report instead of reading it gives no silent label, over real HTTP."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import llm_server
from greenrfm.distill import Evidence, LexiconLabeler, Unlabelled
from greenrfm.distill.evidence import NOTHING
from greenrfm.distill.llm.answer import Invalid, check
from greenrfm.distill.llm.crosscheck import DENIED, HEDGED, CrossCheck
from greenrfm.distill.llm.quotes import Quotes
from greenrfm.findings import State
from llm_labelers import CHEST, make

REPORTS = {
    "There is a large pleural effusion. Emphysema.": "There is a large pleural effusion.",
    "The heart is of normal size. Large pleural effusion.": "The heart is of normal size.",
    "Das Herz ist normal groß. Großer Pleuraerguss.": "Das Herz ist normal groß.",
}


@pytest.mark.parametrize("state", ["present", "absent", "uncertain"])
@pytest.mark.parametrize("report", REPORTS)
def test_one_state_for_all_is_no_label(report, state):
    answer = json.dumps({key: {"state": state, "evidence": REPORTS[report]} for key in CHEST.keys})
    with llm_server.start() as server:
        server.then(*[{"content": answer}] * 3)
        with pytest.raises(Unlabelled):
            make(server).label(report)


def test_silence_on_a_finding_is_no_label():
    answer = json.dumps({key: {"state": "not_mentioned", "evidence": ""} for key in CHEST.keys})
    with llm_server.start() as server:
        server.then(*[{"content": answer}] * 4)
        with pytest.raises(Unlabelled, match="passes over"):
            make(server).label("There is a large pleural effusion.")
        make(server, cross_check=False).label("There is a large pleural effusion.")


def test_a_sentence_that_is_quoted_whole_is_found_and_only_in_the_piece():
    text = "Clear lungs. SUMMARY: Clear lungs."
    quotes = [Quotes(text, [(0, 12), (13, 34)], within) for within in (None, (0, 12))]
    assert [each.sentences("Clear lungs.") for each in quotes] == [[(0, 12)], [(0, 12)]]
    assert quotes[1].sentences("SUMMARY") == []


STATED = (
    "There is a large pleural effusion on the left. Emphysema of the upper lobes. The heart is enlarged. "
    "Enlarged lymph nodes in the mediastinum. No hiatal hernia. No pericardial effusion."
)
PRESENT = ("pleural_effusion", "emphysema", "cardiomegaly", "lymphadenopathy")


def honest(**changed: Evidence) -> dict[str, Evidence]:
    """Return the lexicon's own reading of STATED with changes."""
    return {**LexiconLabeler(CHEST).label(STATED).findings, **changed}


def fault(found: dict[str, Evidence]) -> str:
    return CrossCheck(LexiconLabeler(CHEST), STATED).fault(found, (0, len(STATED)))


def test_what_the_lexicon_reads_itself_has_no_fault():
    assert [key for key, each in honest().items() if each.state is State.PRESENT] != []
    assert {key for key, each in honest().items() if each.state is State.PRESENT} == set(PRESENT)
    assert fault(honest()) == ""


@pytest.mark.parametrize(("missed", "refused"), [(1, False), (2, True), (3, True), (4, True)])
def test_half_of_what_is_stated_may_not_be_passed_over(missed, refused):
    assert bool(fault(honest(**dict.fromkeys(PRESENT[:missed], NOTHING)))) is refused


def test_a_sentence_that_states_a_finding_is_no_denial_of_it():
    stated = honest()["pleural_effusion"]
    denied = Evidence(State.ABSENT, stated.start, stated.end)
    assert fault(honest(pleural_effusion=denied)) == DENIED
    other = honest()["hiatal_hernia"]  # "No hiatal hernia.": wrong, but a denial
    assert fault(honest(pleural_effusion=Evidence(State.ABSENT, other.start, other.end))) == ""


def test_not_all_that_is_stated_is_uncertain():
    unsure = {key: replace(honest()[key], state=State.UNCERTAIN) for key in PRESENT}
    assert fault(honest(**unsure)) == HEDGED
    del unsure["emphysema"]
    assert fault(honest(**unsure)) == ""


@pytest.mark.parametrize(
    ("report", "refused"),
    [
        ("Großer Pleuraerguss links. Ausgeprägtes Emphysem in beiden Oberlappen mit vielen Bullae.", True),
        ("左侧大量胸腔积液，双肺上叶重度肺气肿，心脏增大，纵隔多发肿大淋巴结。", True),
        ("Siehe Vorbefund vom Vortag.", False),
        ("The wrist was examined in two planes. The carpal bones are of regular shape and position.", False),
    ],
)
def test_silence_on_a_whole_report_is_believed_only_where_the_lexicon_reads_the_same(report, refused):
    answer = json.dumps({key: {"state": "not_mentioned", "evidence": ""} for key in CHEST.keys})
    with llm_server.start() as server:
        server.then(*[{"content": answer}] * 3)
        if refused:
            with pytest.raises(Unlabelled, match="silent"):
                make(server).label(report)
        else:
            assert set(make(server).label(report).findings.values()) == {NOTHING}


def test_hardly_any_report_states_fifteen_of_eighteen_findings():
    sentences = [f"Ribs {number} are fine." for number in range(15)]
    report = " ".join(sentences)
    found = dict.fromkeys(CHEST.keys, NOTHING)
    for key, sentence in zip(CHEST.keys, sentences, strict=False):
        start = report.index(sentence)
        found[key] = Evidence(State.PRESENT, start, start + len(sentence))
    with pytest.raises(Invalid, match="almost every finding"):
        check(found, report)
    check({**found, CHEST.keys[0]: NOTHING}, report)
