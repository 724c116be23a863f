"""A model that obeys a report instead of reading it gives no silent label, over real HTTP."""

from __future__ import annotations

import json

import pytest

import llm_server
from greenrfm.distill import Unlabelled
from greenrfm.distill.llm.quotes import Quotes
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
