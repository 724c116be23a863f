"""Generated chest CT reports: what they say is known, and they vary as real ones do."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.findings import State, load_finding_set
from greenrfm.phantoms.phrases import Instance, StudyFacts, wording
from greenrfm.phantoms.reports import Report, write_report

KEYS = tuple(wording()[0])
LOBES = ("upper lobe", "lower lobe", "middle lobe", "lingula", "apex", "base", "perihilar", "")
PLACES = {
    "medical_material": ("pacemaker", "central venous catheter", "sternal wires", "stent", ""),
    "lymphadenopathy": ("mediastinum", "paratracheal", "subcarinal", "hilar", ""),
    "arterial_wall_calcification": ("arch", "descending aorta", "ascending aorta", ""),
    "coronary_artery_wall_calcification": ("LAD", "RCA", "LCX", ""),
    "pleural_effusion": ("", "base"),
    "pericardial_effusion": ("",),
    "cardiomegaly": ("",),
    "hiatal_hernia": ("",),
}
SIDES = ("right", "left", "bilateral", "")
HEADING = re.compile(r"(?:^|(?<=\s))[A-Z][A-Za-z ]*: ")


def _instances(places: dict[str, tuple[str, ...]]) -> st.SearchStrategy[Instance]:
    def of(key: str) -> st.SearchStrategy[Instance]:
        return st.builds(
            Instance,
            finding=st.just(key),
            side=st.sampled_from(SIDES),
            place=st.sampled_from((*places.get(key, LOBES), "somewhere unforeseen")),
            size_mm=st.just(0.0) | st.floats(0.2, 90),
            severity=st.floats(0, 1),
            count=st.integers(0, 9),
        )

    return st.sampled_from(KEYS).flatmap(of)


any_facts = st.builds(
    StudyFacts,
    instances=st.lists(_instances(PLACES), max_size=9).map(tuple),
    age=st.integers(18, 95),
    sex=st.sampled_from("MF"),
    contrast=st.booleans(),
    arms_up=st.booleans(),
    history=st.lists(st.sampled_from(KEYS), max_size=3, unique=True).map(tuple),
    slice_mm=st.sampled_from((0.6, 1.0, 2.5, 5.0)),
)


def _random_facts(rng: np.random.Generator) -> StudyFacts:
    sided = {"pleural_effusion", "atelectasis", "lung_nodule", "lung_opacity", "consolidation", "emphysema"}
    sized = {"lung_nodule", "lymphadenopathy", "pleural_effusion", "consolidation", "hiatal_hernia"}
    instances = []
    for key in KEYS:
        if rng.random() < 0.22:
            for _ in range(rng.integers(1, 4) if key in ("lung_nodule", "lymphadenopathy", "atelectasis") else 1):
                side = str(rng.choice(SIDES[:3])) if key in sided else ""
                size = float(rng.uniform(4, 40)) if key in sized else 0.0
                place = str(rng.choice(PLACES.get(key, LOBES)))
                instances.append(Instance(key, side, place, size, float(rng.random())))
    history = tuple(key for key in KEYS if rng.random() < 0.04)
    sex = "MF"[int(rng.integers(2))]
    return StudyFacts(tuple(instances), int(rng.integers(20, 90)), sex, bool(rng.random() < 0.5), history=history)


@pytest.fixture(scope="module")
def many() -> list[tuple[StudyFacts, Report]]:
    rng = np.random.default_rng(7)
    studies = [_random_facts(rng) for _ in range(300)]
    return [(facts, write_report(facts, rng)) for facts in studies]


def test_wording_covers_exactly_the_chest_findings() -> None:
    assert set(KEYS) == set(load_finding_set("chest-ct-18").keys)


@pytest.mark.parametrize("key", KEYS)
def test_each_finding_has_many_phrasings(key: str) -> None:
    entry = wording()[0][key]
    stated = [*entry["one"], *entry.get("many", ()), *entry.get("bilateral", ())]
    stated += [text for texts in entry.get("kinds", {}).values() for text in texts]
    assert len(stated) >= 10
    assert len(entry["hedged"]) >= 3
    assert len(entry["absent"]) >= 3
    rng = np.random.default_rng(1)
    facts = StudyFacts((Instance(key, severity=0.9),), 60, "F", True)
    reports = [write_report(facts, rng) for _ in range(25)]
    assert any(report.said[key] is State.PRESENT for report in reports)


@settings(max_examples=80, deadline=None)
@given(any_facts, st.integers(0, 2**32 - 1))
def test_said_fits_the_facts_and_the_text_is_whole(facts: StudyFacts, seed: int) -> None:
    report = write_report(facts, np.random.default_rng(seed))
    there = {instance.finding for instance in facts.instances}
    assert tuple(report.said) == KEYS
    for key, state in report.said.items():
        assert not (state is State.PRESENT and key not in there), key
        assert not (state is State.ABSENT and key in there), key
        assert (key in report.omitted) == (key in there and state is State.NOT_MENTIONED), key
    assert len(report.text.split()) > 10
    assert not re.search(r"[{}<>|\[\]]|a/an|None|  | [,.;:]|\.\.|,\.|,,|;\.", report.text), report.text


@settings(max_examples=30, deadline=None)
@given(any_facts, st.integers(0, 2**32 - 1))
def test_same_generator_same_report(facts: StudyFacts, seed: int) -> None:
    first = write_report(facts, np.random.default_rng(seed))
    assert first == write_report(facts, np.random.default_rng(seed))


def test_sentences_begin_with_a_capital_and_end_with_a_stop(many: list[tuple[StudyFacts, Report]]) -> None:
    for _, report in many:
        assert report.text.endswith(".")
        for line in filter(None, report.text.split("\n")):
            for sentence in re.split(r"(?<=\.) ", HEADING.sub("", line)):
                assert re.match(r"[A-Z0-9]", sentence), (sentence, report.text)


def test_reports_differ_and_have_the_usual_length(many: list[tuple[StudyFacts, Report]]) -> None:
    texts = [report.text for _, report in many]
    assert len(set(texts)) == len(texts)
    words = np.array([len(text.split()) for text in texts])
    assert np.mean((words >= 55) & (words <= 165)) > 0.9


def test_same_study_is_worded_anew_each_time() -> None:
    facts = StudyFacts((Instance("lung_nodule", "right", "upper lobe", 8, 0.7),), 70, "M", False)
    sentences = {
        sentence
        for seed in range(60)
        for sentence in re.split(r"(?<=[.:;]) ", write_report(facts, np.random.default_rng(seed)).text)
        if re.search(r"right|RUL", sentence) and "nod" in sentence
    }
    assert len(sentences) > 35


def test_omission_and_hedging_are_rare_and_mostly_subtle(many: list[tuple[StudyFacts, Report]]) -> None:
    present = [
        (key, max(each.severity for each in facts.instances if each.finding == key), report)
        for facts, report in many
        for key in dict.fromkeys(each.finding for each in facts.instances)
    ]
    omitted = np.array([key in report.omitted for key, _, report in present])
    hedged = np.array([report.said[key] is State.UNCERTAIN for key, _, report in present])
    severity = np.array([value for _, value, _ in present])
    assert 0.015 < omitted.mean() < 0.065
    assert 0.045 < hedged.mean() < 0.12
    assert severity[omitted].mean() < severity.mean()
    assert severity[hedged].mean() < severity.mean()


def test_absent_findings_are_mentioned_as_often_as_radiologists_do(many: list[tuple[StudyFacts, Report]]) -> None:
    total, uncertain, surplus = 0, 0, 0.0
    for key in KEYS:
        states = [report.said[key] for facts, report in many if key not in {each.finding for each in facts.instances}]
        expected = wording()[0][key]["mention"]
        assert 0.25 <= expected <= 0.8
        absent = sum(state is State.ABSENT for state in states)
        # Four standard errors: eighteen findings are compared. All together they are held closer below.
        error = np.sqrt(expected * (1 - expected) / len(states))
        assert absent / len(states) == pytest.approx(expected, abs=0.02 + 4 * error), key
        surplus += absent - expected * len(states)
        total += len(states)
        uncertain += sum(state is State.UNCERTAIN for state in states)
    assert surplus / total == pytest.approx(0, abs=0.03)
    assert 0.008 < uncertain / total < 0.04


def test_history_alone_is_not_a_finding() -> None:
    facts = StudyFacts((), 50, "F", True, history=("emphysema",))
    reports = [write_report(facts, np.random.default_rng(seed)) for seed in range(80)]
    assert all(report.said["emphysema"] is not State.PRESENT for report in reports)
    unmentioned = [report.text for report in reports if report.said["emphysema"] is State.NOT_MENTIONED]
    assert np.mean(["mphys" in text for text in unmentioned]) > 0.8


def test_about_one_report_in_four_has_a_slip() -> None:
    facts = StudyFacts((Instance("pleural_effusion", "left", "", 20, 0.9),), 44, "M", True)
    known = " ".join(write_report(facts, np.random.default_rng(seed)).text for seed in range(250))
    _, numbers = np.unique(re.findall(r"\b[a-z]{5,}\b", known), return_counts=True)
    # A misspelt word is all but unique among the reports; whole words recur.
    assert 0.12 < np.sum(numbers == 1) / 250 < 0.35


def test_side_place_and_size_reach_the_text() -> None:
    facts = StudyFacts((Instance("lung_nodule", "left", "lower lobe", 17, 0.9),), 58, "F", True)
    texts = [write_report(facts, np.random.default_rng(seed)).text for seed in range(60)]
    assert np.mean([bool(re.search(r"left lower|LLL|left lung", text)) for text in texts]) > 0.7
    assert np.mean([bool(re.search(r"\b17|1\.7", text)) for text in texts]) > 0.5
    assert not any(re.search(r"right (upper|lower|middle) lobe|R[UL]L", text) for text in texts)


def test_unknown_finding_and_sex_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no wording for lung_stone"):
        write_report(StudyFacts((Instance("lung_stone"),), 50, "F", True), rng)
    with pytest.raises(ValueError, match="sex"):
        write_report(StudyFacts((), 50, "male", True), rng)
