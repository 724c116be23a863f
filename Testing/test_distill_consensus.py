"""Several labelers as one, and how well they agree. All sentences here are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import Command, one_line, write_csv
from greenrfm.distill import Evidence, Labeler, Labelled, LexiconLabeler, Unlabelled, Usage
from greenrfm.distill.agreement import agreement, as_text
from greenrfm.distill.consensus import Consensus, merge
from greenrfm.distill.evidence import NOTHING, RANK, NotRead
from greenrfm.distill.evidence_file import read_evidence
from greenrfm.distill.journal import Journal
from greenrfm.distill.run import distill_reports
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet, State, load_finding_set
from llm_labelers import make
from llm_server import start

CHEST = load_finding_set("chest-ct-18")
P, A, U, N = State.PRESENT, State.ABSENT, State.UNCERTAIN, State.NOT_MENTIONED
REPORT = "First sentence. Second sentence."


@dataclass
class Says:
    """A labeler that says what the test wants."""

    answer: Callable[[str], dict[str, Evidence]]
    finding_set: FindingSet = CHEST
    name: str = "llm"
    model: str = "model-1"
    version: str = "v1"

    def label(self, report: str) -> Labelled:
        return Labelled(dict.fromkeys(self.finding_set.keys, NOTHING) | self.answer(report), Usage(10, 2, 1))


def evidence(state: State, start: int = 0) -> Evidence:
    return NOTHING if state is N else Evidence(state, start, start + 15)


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (P, P, P),
        (A, A, A),
        (U, U, U),
        (N, N, N),
        (A, N, A),
        (N, A, A),
        (P, A, U),
        (P, N, U),
        (N, U, U),
        (U, A, U),
        (U, P, U),
    ],
)
def test_agreement_is_kept_and_disagreement_is_uncertain(first: State, second: State, together: State) -> None:
    answer = merge([("lexicon", evidence(first)), ("llm", evidence(second, 16))])
    assert answer.state is together
    assert bool(answer.votes) == (first is not second)
    if first is not second:
        assert answer.votes == (("lexicon", first), ("llm", second))


@given(st.lists(st.sampled_from(list(State)), min_size=2, max_size=5))
def test_any_votes_give_a_sentence_of_the_labeler_that_goes_furthest(states: list[State]) -> None:
    votes = [(f"llm{number}", evidence(state, 16 * number)) for number, state in enumerate(states)]
    answer = merge(votes)
    furthest = max(RANK[state] for state in states)
    place = next(each for _, each in votes if RANK[each.state] == furthest)
    assert (answer.start, answer.end) == (place.start, place.end)
    assert (answer.state is N) == (set(states) == {N})
    assert answer.state in {*states, U}
    assert answer.state is not P or set(states) == {P}


def test_a_consensus_is_a_labeler_and_counts_what_all_cost() -> None:
    lexicon = LexiconLabeler(CHEST)
    llm = Says(lambda report: {"emphysema": Evidence(P, 0, 10)})
    both: Labeler = Consensus([("lexicon", lexicon), ("llm", llm)])
    answer = both.label("Emphysema. No pleural effusion.")
    assert tuple(answer.findings) == CHEST.keys
    assert answer.findings["emphysema"] == Evidence(P, 0, 10)
    assert answer.findings["pleural_effusion"].state is A
    assert answer.findings["pleural_effusion"].votes == (("lexicon", A), ("llm", N))
    assert answer.usage == Usage(10, 2, 1)
    assert (both.name, both.model) == ("consensus", "model-1")
    assert both.version == f"lexicon {lexicon.version}; llm v1"


def test_a_report_that_one_cannot_label_is_labelled_by_none_and_still_costs() -> None:
    def fail(report: str) -> dict[str, Evidence]:
        raise Unlabelled("the answer was cut off", Usage(5, 1, 3))

    both = Consensus([("llm1", Says(lambda report: {})), ("llm2", Says(fail))])
    with pytest.raises(Unlabelled, match="llm2: the answer was cut off") as caught:
        both.label(REPORT)
    assert caught.value.usage == Usage(15, 3, 4)


GERMAN = "Kleiner Pleuraerguss links. Kein Herdbefund. Das Herz ist nicht vergrößert."


def test_a_labeler_that_does_not_read_the_language_abstains() -> None:
    lexicon = ("lexicon", LexiconLabeler(CHEST))
    bold = ("llm1", Says(lambda report: {"pleural_effusion": evidence(P), "lung_nodule": evidence(A, 28)}))
    shy = ("llm2", Says(lambda report: {"pleural_effusion": evidence(P)}))
    answer = Consensus([lexicon, bold, shy]).label(GERMAN)
    assert answer.findings["pleural_effusion"] == Evidence(P, 0, 15, votes=(("llm1", P), ("llm2", P)))
    assert answer.findings["lung_nodule"].votes == (("llm1", A), ("llm2", N))
    assert answer.findings["emphysema"] == Evidence(N, 0, 0, votes=(("llm1", N), ("llm2", N)))
    assert answer.usage == Usage(20, 4, 2)


def test_one_labeler_that_reads_the_language_is_no_consensus_and_is_not_asked() -> None:
    def fail(report: str) -> dict[str, Evidence]:
        raise AssertionError("nothing may be spent on this report")

    with pytest.raises(NotRead, match=r"lexicon: it does not read like English.*needs two labelers that read it"):
        Consensus([("lexicon", LexiconLabeler(CHEST)), ("llm", Says(fail))]).label(GERMAN)


def test_real_models_are_a_consensus_of_their_own_on_a_german_report(tmp_path: Path) -> None:
    effusion = {"pleural_effusion": ["present", "Kleiner Pleuraerguss links."]}
    nodule, no_nodule = ({"lung_nodule": [state, "Kein Herdbefund."]} for state in ("present", "absent"))
    with start() as server:
        members = [("lexicon", LexiconLabeler(CHEST)), *((f"llm{seed}", make(server, seed=seed)) for seed in (1, 2))]
        server.then({"states": effusion | no_nodule}, {"states": effusion | nodule})
        with Journal(tmp_path / "labels.csv") as journal:
            studies = [("s1", GERMAN), ("s2", "There is emphysema. No nodule."), ("s3", GERMAN + " Keine Fraktur.")]
            summary = distill_reports(Consensus(members), studies, journal)
    assert summary.outputs.labelled == 3
    rows = list(read_evidence(tmp_path / "labels.evidence.jsonl"))
    [disputed] = [row for row in rows if (row["study_id"], row["finding"]) == ("s1", "lung_nodule")]
    assert (disputed["state"], disputed["votes"]) == ("uncertain", {"llm1": "absent", "llm2": "present"})
    # On s3 the models say nothing: even then the lexicon's silence is not taken for agreement.
    result = agreement(CHEST.keys, 3, rows)
    assert {tuple(pair["labelers"]): pair["n"] for pair in result["pairs"]} == {
        ("lexicon", "llm1"): 1, ("lexicon", "llm2"): 1, ("llm1", "llm2"): 3
    }  # fmt: skip
    pairs = {tuple(pair["labelers"]): pair["findings"]["lung_nodule"] for pair in result["pairs"]}
    assert (pairs["llm1", "llm2"]["n"], pairs["llm1", "llm2"]["contradictions"]) == (3, 1)
    assert (pairs["lexicon", "llm1"]["n"], pairs["lexicon", "llm1"]["agreement"]) == (1, 1.0)
    only_german = agreement(CHEST.keys, 2, [row for row in rows if row["study_id"] != "s2"])
    assert only_german["pairs"][0]["macro"] == {"agreement": None, "kappa": None, "findings": 0}
    assert "lexicon and llm1 read no study both\n" in as_text(only_german)


def test_normal_does_not_outlive_a_finding_in_dispute() -> None:
    knee = load_finding_set("knee-mr-14")
    normal = {"normal": Evidence(P, 0, 15)}
    shy = Says(lambda report: normal, knee)
    bold = Says(lambda report: normal | {"acl": Evidence(P, 16, 32)}, knee)
    answer = Consensus([("llm1", shy), ("llm2", bold)]).label(REPORT).findings
    assert (answer["acl"].state, answer["normal"].state) == (U, U)
    assert answer["normal"].votes == (("llm1", P), ("llm2", P))
    assert Consensus([("llm1", shy), ("llm2", shy)]).label(REPORT).findings["normal"].state is P


@pytest.mark.parametrize("names", [["llm"], ["llm", "llm"], ["llm", "two words"], ["llm", "a;b"]])
def test_a_consensus_needs_two_labelers_with_names(names: list[str]) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        Consensus([(name, Says(lambda report: {})) for name in names])


def test_labelers_of_different_findings_give_no_consensus() -> None:
    with pytest.raises(ValueError, match="same findings"):
        Consensus([("llm1", Says(lambda report: {})), ("llm2", Says(lambda report: {}, CHEST.subset(("emphysema",))))])


def test_agreement_counts_silence_and_is_cohens_kappa(tmp_path: Path) -> None:
    small = CHEST.subset(("emphysema", "lung_nodule"))
    # Every pair of states once, then one more study in which both deny: 17 studies.
    states = [*product(State, State), (A, A)]
    texts = [f"Sentence number {number}." for number in range(len(states))]
    pair = [
        Says(lambda text, side=side: {"emphysema": evidence(states[texts.index(text)][side])}, small) for side in (0, 1)
    ]
    out = tmp_path / "labels.csv"
    with Journal(out) as journal:
        distill_reports(
            Consensus([("llm1", pair[0]), ("llm2", pair[1])]),
            [(f"s{n}", text) for n, text in enumerate(texts)],
            journal,
        )
    result = agreement(small.keys, len(states), read_evidence(tmp_path / "labels.evidence.jsonl"))
    [compared] = result["pairs"]
    assert compared["labelers"] == ["llm1", "llm2"]
    emphysema, nodule = compared["findings"]["emphysema"], compared["findings"]["lung_nodule"]
    observed, expected = 5 / 17, (5 * 5 + 3 * 4 * 4) / 17**2
    assert emphysema["n"] == 17
    assert emphysema["agreement"] == pytest.approx(observed)
    assert emphysema["kappa"] == pytest.approx((observed - expected) / (1 - expected))
    assert emphysema["contradictions"] == 10
    assert sum(map(sum, emphysema["table"])) == 17
    # Neither ever speaks of nodules: that is agreement, but chance alone agrees as well.
    assert (nodule["agreement"], nodule["kappa"]) == (1.0, None)
    assert compared["macro"]["findings"] == 1


def test_the_command_prints_agreement_or_says_why_not(greenrfm: Command, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    lexicon = LexiconLabeler(CHEST)
    with Journal(out) as journal:
        distill_reports(
            Consensus([("lexicon", lexicon), ("llm", Says(lambda report: {}))]),
            [("s1", "Emphysema."), ("s2", "No nodule.")],
            journal,
        )
    assert (
        greenrfm("labels", "agreement", out, "--json").json["pairs"][0]["findings"]["emphysema"]["contradictions"] == 1
    )
    text = greenrfm("labels", "agreement", out).out
    assert "lexicon and llm on 2 studies" in text
    assert "only lexicon" in text
    single = tmp_path / "single.csv"
    with Journal(single) as journal:
        distill_reports(lexicon, [("s1", "Emphysema.")], journal)
    assert "needs a consensus" in one_line(greenrfm("labels", "agreement", single))
    write_csv(tmp_path / "bare.csv", [["study_id", "emphysema"], ["s1", "1"]])
    assert "does not exist" in one_line(greenrfm("labels", "agreement", tmp_path / "bare.csv"))
    with pytest.raises(UserError, match="no consensus"):
        agreement(CHEST.keys, 1, [])
