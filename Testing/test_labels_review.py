"""The review page: what comes first, what it shows, and that nothing in it runs or leaves. Reports are made up."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import Command, one_line, write_csv
from greenrfm.cohort import read_cohort
from greenrfm.distill import Evidence, Labelled, Unlabelled
from greenrfm.distill.consensus import merge
from greenrfm.distill.evidence import NOTHING
from greenrfm.distill.journal import Journal
from greenrfm.distill.labels_files import Labels
from greenrfm.distill.overrides import COLUMNS, Decision, Override, Overrides, load, report_digest
from greenrfm.distill.page import render_page
from greenrfm.distill.review import Item, Selection, select
from greenrfm.distill.run import distill_reports
from greenrfm.distill.worth import Opinion, Worth, study_worth
from greenrfm.findings import LabelTable, State, load_finding_set

CHEST = load_finding_set("chest-ct-18")
P, A, U, N = State.PRESENT, State.ABSENT, State.UNCERTAIN, State.NOT_MENTIONED
HOSTILE = "Emphysema <script>alert(1)</script> {{policy}} & \"quoted\" 'single'. \u202eNodule."
REPORTS = {
    "plain": "Emphysema is seen.",
    "other": "Emphysema again.",
    "rare": "Bronchiectasis is seen.",
    "failed": "Cannot be labelled.",
    "hedged": "Possible emphysema.",
    "disputed": "Emphysema or not.",
    "hostile": HOSTILE,
}


class Votes:
    """A consensus whose answers are known."""

    finding_set, name, model, version = CHEST, "consensus", "qwen", "lexicon 1; llm 2"

    def label(self, report: str) -> Labelled:
        if report == REPORTS["failed"]:
            raise Unlabelled("the answer was <cut> off")
        key = "bronchiectasis" if "Bronch" in report else "emphysema"
        state = U if "Possible" in report else P
        said = Evidence(state, 0, len(report))
        second = Evidence(A, 0, len(report)) if "or not" in report else said
        return Labelled(dict.fromkeys(CHEST.keys, NOTHING) | {key: merge([("lexicon", said), ("llm", second)])})


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Return labels.csv with every kind of study, the least interesting first."""
    write_csv(tmp_path / "cohort.csv", [["study_id", "patient_id", "report"], *([k, k, v] for k, v in REPORTS.items())])
    with Journal(tmp_path / "labels.csv") as journal:
        distill_reports(Votes(), list(REPORTS.items()), journal)
    return tmp_path / "labels.csv"


def chosen(labels: Path, limit: int = 100, overrides: Overrides | None = None) -> Selection:
    with Labels(labels, read_cohort(labels.with_name("cohort.csv")), CHEST) as files:
        return select(files, overrides or load(labels, CHEST), limit)


def decision(study: str, finding: str, state: State, report: str = "") -> Decision:
    digest = report_digest(report or REPORTS[study])
    return Decision(study, finding, Override(state, "A. Reader <b>", "2026-01-02T12:00:00Z"), digest)


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.reports: list[str] = []
        self._depth = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "div" and dict(attrs).get("class") == "report":
            self.reports.append("")
            self._depth = 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self._depth = 0

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._depth:
            self.reports[-1] += data

    def of(self, tag: str, name: str = "") -> list[dict[str, str | None]]:
        return [each for kind, each in self.tags if kind == tag and (not name or each.get("class") == name)]


def page(selection: Selection) -> Reader:
    return Reader(render_page(selection, CHEST, command="greenrfm …", made="Made <now>."))


def test_what_is_worth_most_comes_first(labels: Path) -> None:
    selection = chosen(labels)
    assert [item.study_id for item in selection.items] == [
        "disputed",
        "hedged",
        "failed",
        "rare",
        "plain",
        "other",
        "hostile",
    ]
    assert (selection.disputed, selection.uncertain, selection.failed, selection.studies) == (1, 1, 1, 7)
    assert [item.study_id for item in chosen(labels, 2).items] == ["disputed", "hedged"]


def test_what_a_person_decided_comes_last_and_a_stale_decision_first(labels: Path) -> None:
    decided = chosen(labels, overrides=Overrides([decision("disputed", "emphysema", A)]))
    assert decided.items[-1].study_id == "disputed"
    assert (decided.decided, decided.disputed) == (1, 0)
    stale = chosen(labels, overrides=Overrides([decision("other", "emphysema", A, "Another wording.")]))
    assert stale.items[0].study_id == "other"
    assert "was decided" in " ".join(page(stale).text)


@given(st.lists(st.sampled_from(list(State)), min_size=1, max_size=6), st.integers(0, 5))
def test_deciding_never_raises_the_worth_of_a_look(states: list[State], place: int) -> None:
    present = {str(number): 3 for number in range(6)}
    opinions = [Opinion(str(number), state) for number, state in enumerate(states)]
    place %= len(opinions)
    word = Override(P, "A. Reader", "2026-01-02T12:00:00Z")
    decided = [
        Opinion(each.key, each.said, override=word if number == place else None) for number, each in enumerate(opinions)
    ]
    assert study_worth(decided, present) <= study_worth(opinions, present)


def test_a_denial_beside_silence_is_no_dispute() -> None:
    assert not Opinion("emphysema", A, {"votes": {"lexicon": "absent", "llm": "not_mentioned"}}).is_disputed
    assert Opinion("emphysema", U, {"votes": {"lexicon": "present", "llm": "not_mentioned"}}).is_disputed


def test_the_page_shows_reports_as_they_are_and_runs_nothing_of_them(labels: Path) -> None:
    read = page(chosen(labels))
    assert sorted(read.reports) == sorted(REPORTS.values())
    assert len(read.of("script")) == 1
    assert all(not name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert not any({"src", "style", "action"} & attributes.keys() for _, attributes in read.tags)
    assert not read.of("link")
    assert not read.of("b", "reader")


def test_its_policy_allows_its_own_script_and_style_only(labels: Path) -> None:
    text = render_page(chosen(labels), CHEST, command="greenrfm …", made="Made now.")
    [policy] = [each["content"] for each in Reader(text).of("meta") if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'")
    assert "unsafe" not in policy
    assert "http" not in text.replace("http-equiv", "")
    for kind in ("script", "style"):
        [inline] = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_evidence_is_marked_with_its_state_in_sign_and_colour(labels: Path) -> None:
    read = page(chosen(labels))
    marks = {(each["class"], each["data-signs"], each["data-findings"]) for each in read.of("mark")}
    assert marks == {("present", "+", "emphysema"), ("uncertain", "?", "emphysema"), ("present", "+", "bronchiectasis")}
    words = " ".join(read.text)
    for expected in ("lexicon", "llm", "labelers disagree on 1 finding", "not labelled: the answer was <cut> off"):
        assert expected in words
    assert len(read.of("div", "finding")) == len(CHEST.keys) * len(REPORTS)


@given(
    st.text(max_size=80),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), st.sampled_from([P, A, U])), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_any_report_with_any_evidence_is_shown_whole(report: str, spans: list[tuple[int, int, State]]) -> None:
    # A parser of HTML turns these into others by its own rules, marked or not.
    report = report.replace("\r", " ").replace("\x00", " ")
    opinions = []
    for key, (first, second, state) in zip(CHEST.keys, spans, strict=False):
        start, end = sorted((min(first, len(report)), min(second, len(report))))
        row = {"start": start, "end": end, "sentence": report[start:end], "labeler": "lexicon", "rule": "<i>"}
        opinions.append(Opinion(key, state, row if end > start else {}))
    present = dict.fromkeys(CHEST.keys, 1)
    item = Item("<s>", report, tuple(opinions), Worth())
    [shown] = page(Selection([item], present, 1)).reports
    assert shown == report


def test_a_report_that_changed_since_is_shown_without_marks(labels: Path) -> None:
    lines = [["study_id", "patient_id", "report"], *([k, k, "New. " + v] for k, v in REPORTS.items())]
    write_csv(labels.with_name("cohort.csv"), lines)
    read = page(chosen(labels))
    assert not read.of("mark")
    assert "has changed since it was labelled" in " ".join(read.text)
    assert sorted(read.reports) == sorted("New. " + report for report in REPORTS.values())
    assert len(read.of("script")) == 1


def test_the_reviewers_name_is_shown_as_it_is(labels: Path) -> None:
    name = "A. Reader <script>alert(1)</script>&amp;"
    given = Override(A, name, "2026-01-02T12:00:00Z")
    held = Decision("plain", "emphysema", given, report_digest(REPORTS["plain"]))
    stale = Decision("other", "emphysema", given, report_digest("Another wording."))
    read = page(chosen(labels, overrides=Overrides([held, stale])))
    assert "".join(read.text).count(name) == 2
    assert len(read.of("script")) == 1


def test_the_command_writes_a_page_and_applies_what_it_saved(greenrfm: Command, labels: Path) -> None:
    folder, out = labels.parent, labels.with_name("review.html")
    command = ("labels", "review", folder / "cohort.csv", labels, "--findings", "chest-ct-18")
    answer = greenrfm(*command, "--out", out, "--limit", "3", "--json")
    assert answer.code == 0
    expected = {"shown": 3, "studies": 7, "disagreements": 1, "uncertain": 1, "failed": 1, "decided": 0}
    assert answer.json["page"].items() >= expected.items()
    studies = Reader(out.read_text("utf-8")).of("section", "study")
    assert [each["data-study"] for each in studies] == ["disputed", "hedged", "failed"]
    # What the page's script writes.
    saved = folder / "saved.csv"
    line = ["disputed", "emphysema", "absent", 'Ö. "Reader"', "2026-01-02T12:00:00Z", studies[0]["data-report"] or ""]
    write_csv(saved, [list(COLUMNS), line])
    answer = greenrfm(*command, "--apply", saved)
    assert answer.code == 0
    assert "1 differ" in answer.out
    table = LabelTable.read(labels).select(["emphysema"])
    assert table.rows(["disputed"]).tolist() == [[0]]
    with labels.with_name("labels.overrides.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream))[1] == line
    both = greenrfm(*command, "--apply", saved, "--out", out, "--json").json
    assert (both["applied"]["decided"], both["page"]["decided"], both["page"]["disagreements"]) == (1, 1, 0)


def test_stale_unknown_and_incomplete_decisions_are_said_without_quoting(greenrfm: Command, labels: Path) -> None:
    saved = labels.with_name("saved.csv")
    decisions = [
        decision("plain", "emphysema", A, "Old."),
        decision("gone", "emphysema", A, "Old."),
        decision("failed", "emphysema", A),
    ]
    Overrides(decisions).write(saved)
    command = ("labels", "review", labels.with_name("cohort.csv"), labels, "--findings", "chest-ct-18")
    answer = greenrfm(*command, "--apply", saved)
    assert answer.code == 0
    assert len(answer.err.splitlines()) == 3
    assert not any(report in answer.err + answer.out for report in REPORTS.values())


def test_review_refuses_what_would_do_harm_or_nothing(greenrfm: Command, labels: Path) -> None:
    command = ("labels", "review", labels.with_name("cohort.csv"), labels, "--findings", "chest-ct-18")
    before = labels.read_bytes()
    assert greenrfm(*command).code == 2
    answer = greenrfm(*command, "--out", labels)
    assert (answer.code, labels.read_bytes()) == (2, before)
    write_csv(labels.with_name("other.csv"), [["study_id", "patient_id", "report"], ["plain", "p", "Text."]])
    answer = greenrfm("labels", "review", labels.with_name("other.csv"), *command[3:], "--out", "review.html")
    assert answer.code == 1
    assert "name its own cohort" in one_line(answer)


def test_review_never_writes_over_the_cohort(greenrfm: Command, labels: Path) -> None:
    cohort = labels.with_name("cohort.csv")
    before, page_of_cohort = cohort.read_bytes(), labels.with_name("cohort.html")
    page_of_cohort.hardlink_to(cohort)
    for table, out in ((labels, page_of_cohort), (cohort, labels.with_name("review.html"))):
        answer = greenrfm("labels", "review", cohort, table, "--findings", "chest-ct-18", "--out", out)
        assert answer.code == 1
        assert "is the cohort itself" in one_line(answer)
    assert cohort.read_bytes() == before


def test_a_cell_filled_in_by_hand_is_not_taken_for_the_labelers_word(greenrfm: Command, labels: Path) -> None:
    table = LabelTable.read(labels)
    states = table.states.copy()
    states[table.study_ids.index("plain"), table.keys.index("hiatal_hernia")] = State.PRESENT
    LabelTable(table.study_ids, table.keys, states).write(labels)
    cohort, out = labels.with_name("cohort.csv"), labels.with_name("review.html")
    answer = greenrfm("labels", "review", cohort, labels, "--findings", "chest-ct-18", "--out", out)
    assert answer.code == 1
    assert "do not fit (study plain)" in one_line(answer)
    assert not out.exists()


def test_comparing_states_counts_policies_and_what_was_not_scored(greenrfm: Command, tmp_path: Path) -> None:
    write_csv(tmp_path / "gold.csv", [["study_id", "nodule"], ["a", "1"], ["b", "0"], ["c", "1"], ["d", "1"]])
    write_csv(tmp_path / "labels.csv", [["study_id", "nodule"], ["a", "1"], ["b", "1"], ["c", ""]])
    command = ("labels", "compare", tmp_path / "gold.csv", tmp_path / "labels.csv")
    refused = greenrfm(*command)
    assert (refused.code, "no row for study d" in one_line(refused)) == (1, True)
    result = greenrfm(*command, "--unlabelled", "exclude", "--json").json
    nodule = result["findings"]["nodule"]
    assert [nodule[name] for name in ("tp", "fp", "fn", "tn", "excluded_predicted")] == [1, 1, 1, 0, 1]
    assert (result["unlabelled"], nodule["coverage"]) == (1, 0.75)
    text = greenrfm(*command, "--unlabelled", "exclude").out
    for expected in (
        "tp",
        "not mentioned counts as: absent",
        "uncertain counts as: exclude",
        "scored: 75.0 %",
        "not scored: 1 studies",
        "95 % intervals",
    ):
        assert expected in text
