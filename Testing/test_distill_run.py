"""A run over a cohort: what it writes, how it goes on, and what ends it. All reports are made up."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenrfm.distill import Evidence, Labelled, LexiconLabeler, Unlabelled, Usage
from greenrfm.distill.cost import Meter, Price
from greenrfm.distill.journal import Journal
from greenrfm.distill.journal_lines import Entry, Header
from greenrfm.distill.overrides import Decision, Override, Overrides, report_digest
from greenrfm.distill.parallel import in_parallel
from greenrfm.distill.run import STAGE
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable, State, load_finding_set
from some_labelers import CHEST, MadeUp, outputs, reports, run


def evidence(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "labels.evidence.jsonl").read_text("utf-8").splitlines()]


def failures(folder: Path) -> list[list[str]]:
    with (folder / "labels.failed.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_a_run_writes_a_row_per_study_and_a_line_per_finding_mentioned(tmp_path: Path) -> None:
    studies = [("b", "Emphysema. No pleural effusion."), ("a", ""), ("c", "Possible emphysema.")]
    summary = run(LexiconLabeler(CHEST), studies, tmp_path)
    table = LabelTable.read(tmp_path / "labels.csv", CHEST.keys)
    assert table.study_ids == ("b", "a", "c")
    assert table.select(["emphysema", "pleural_effusion"]).states.tolist() == [[1, 0], [-2, -2], [-1, -2]]
    rows = evidence(tmp_path)
    assert [(row["study_id"], row["finding"], row["state"]) for row in rows] == [
        ("b", "emphysema", "present"),
        ("b", "pleural_effusion", "absent"),
        ("c", "emphysema", "uncertain"),
    ]
    for row in rows:
        assert dict(studies)[row["study_id"]][row["start"] : row["end"]] == row["sentence"]
        assert (row["labeler"], row["model"], len(row["date"])) == ("lexicon", "", 10)
        assert row["version"]
        assert row["rule"]
    assert (summary.outputs.labelled, summary.outputs.failed, summary.outputs.unfinished) == (3, 0, 0)
    assert summary.outputs.counts["emphysema"] == {"present": 1, "absent": 0, "uncertain": 1, "not_mentioned": 1}
    assert not (tmp_path / "labels.failed.csv").exists()


def test_votes_stand_in_the_evidence_where_labelers_differ(tmp_path: Path) -> None:
    run(MadeUp(), reports(20), tmp_path)
    rows = evidence(tmp_path)
    assert {row["state"] for row in rows if "votes" in row} == {"uncertain"}
    assert next(row["votes"] for row in rows if "votes" in row) == {"lexicon": "present", "llm": "absent"}


def test_the_outputs_are_the_same_for_any_number_of_workers_and_in_the_order_of_the_cohort(tmp_path: Path) -> None:
    studies = reports(60, failing=(7, 31))
    kept = []
    for workers in (1, 3, 16):
        run(MadeUp(0.001), studies, tmp_path / str(workers), workers=workers)
        kept.append(outputs(tmp_path / str(workers)))
    assert kept[0] == kept[1] == kept[2]
    labelled = LabelTable.read(tmp_path / "3" / "labels.csv").study_ids
    assert labelled == tuple(study for study, report in studies if "FAIL" not in report)


def test_a_failed_study_has_no_row_but_a_reason_and_is_tried_again(tmp_path: Path) -> None:
    studies = reports(5, failing=(2,))
    summary = run(MadeUp(), studies, tmp_path)
    assert (summary.outputs.labelled, summary.outputs.failed) == (4, 1)
    assert failures(tmp_path) == [["study_id", "reason"], ["s00002", "the server answered 500"]]
    assert "s00002" not in (tmp_path / "labels.csv").read_text("utf-8")
    again = MadeUp()
    run(again, studies, tmp_path, retry_failed=False)
    assert again.calls == []
    run(again, studies, tmp_path)
    assert again.calls == [studies[2][1]]

    class Mended(MadeUp):
        def label(self, report: str) -> Labelled:
            return super().label(report.replace("FAIL", "    "))

    summary = run(Mended(), studies, tmp_path)
    assert (summary.outputs.labelled, summary.outputs.failed) == (5, 0)
    assert not (tmp_path / "labels.failed.csv").exists()
    assert summary.usage == Usage(5 * 100 + 2 * 10, 5 * 50, 5 + 2 * 3)


def test_a_second_run_labels_only_what_is_new_or_changed(tmp_path: Path) -> None:
    studies = reports(6)
    run(MadeUp(), studies[:4], tmp_path)
    changed = [*studies[:2], (studies[2][0], "Another nodule of 3 mm."), *studies[3:]]
    again = MadeUp()
    run(again, changed, tmp_path, workers=2)
    assert sorted(again.calls) == sorted(report for _, report in changed[2:3] + changed[4:])
    run(MadeUp(), changed, tmp_path / "anew")
    assert outputs(tmp_path) == outputs(tmp_path / "anew")


def test_studies_that_left_the_cohort_leave_the_outputs(tmp_path: Path) -> None:
    run(MadeUp(), reports(6), tmp_path)
    run(MadeUp(), reports(6)[3:], tmp_path)
    assert LabelTable.read(tmp_path / "labels.csv").study_ids == ("s00003", "s00004", "s00005")


def test_an_empty_report_mentions_nothing_and_is_shown_to_no_labeler(tmp_path: Path) -> None:
    labeler = MadeUp()
    run(labeler, [("a", ""), ("b", " \n")], tmp_path)
    assert labeler.calls == []
    assert (LabelTable.read(tmp_path / "labels.csv").states == State.NOT_MENTIONED).all()


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("name", "consensus", "labeler llm → consensus"),
        ("model", "bigger", "model made-up → bigger"),
        ("version", "2", "version of the labeler 1 → 2"),
        ("finding_set", CHEST.subset(CHEST.keys[:3]), "finding set chest-ct-18"),
    ],
)
def test_labels_of_two_kinds_never_stand_in_one_table(attribute: str, value: object, says: str, tmp_path: Path) -> None:
    studies = reports(3)
    run(MadeUp(), studies, tmp_path)
    before = outputs(tmp_path)
    other = MadeUp()
    setattr(other, attribute, value)
    with pytest.raises(UserError, match=says) as error:
        run(other, studies, tmp_path)
    assert "--fresh" in str(error.value)
    assert outputs(tmp_path) == before
    assert other.calls == []


def test_fresh_throws_the_earlier_labels_away(tmp_path: Path) -> None:
    run(MadeUp(), reports(4), tmp_path)
    other = MadeUp(name="other")
    summary = run(other, reports(2), tmp_path, fresh=True)
    assert len(other.calls) == 2
    assert summary.usage.requests == 2
    assert {row["labeler"] for row in evidence(tmp_path)} == {"other"}


def test_the_form_of_a_servers_answers_is_kept_and_may_differ(tmp_path: Path) -> None:
    run(MadeUp(), reports(1), tmp_path, form="json_schema")
    with Journal(tmp_path / "labels.csv") as journal:
        assert journal.form == "json_schema"
    run(MadeUp(), reports(2), tmp_path, form="comma")


class Faulty(MadeUp):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def label(self, report: str) -> Labelled:
        right = super().label(report)
        return Labelled(self.answer(dict(right.findings), report), right.usage) if "5 mm" in report else right


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            lambda found, report: found | {"lung_nodule": Evidence(State.PRESENT, 0, len(report) + 1)},
            "not in the report",
        ),
        (lambda found, report: found | {"lung_nodule": Evidence(State.ABSENT, 4, 4)}, "not in the report"),
        (lambda found, report: found | {"lung_nodule": Evidence(State.ABSENT, -3, 4)}, "not in the report"),
        (lambda found, report: found | {"gout": Evidence(State.ABSENT, 0, 4)}, "every finding"),
        (lambda found, report: {key: found[key] for key in CHEST.keys[:17]}, "every finding"),
        (lambda found, report: report[9999], "broke down (IndexError)"),
    ],
)
def test_a_labeler_is_checked_and_a_wrong_answer_is_no_label(answer: Any, says: str, tmp_path: Path) -> None:
    summary = run(Faulty(answer), reports(8), tmp_path, workers=2)
    assert (summary.outputs.labelled, summary.outputs.failed) == (7, 1)
    assert says in failures(tmp_path)[1][1]


class Ends(MadeUp):
    """Raises `error` at the `at`-th call."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__()
        self.error, self.at, self.lock = error, at, threading.Lock()

    def label(self, report: str) -> Labelled:
        with self.lock:
            answer = super().label(report)
        if len(self.calls) >= self.at:
            raise self.error
        return answer


@pytest.mark.parametrize("workers", [1, 4])
def test_an_error_of_the_whole_run_ends_it_and_keeps_what_is_done(workers: int, tmp_path: Path) -> None:
    studies = reports(200)
    labeler = Ends(UserError("the server refuses the key"), 20)
    with pytest.raises(UserError, match=r"the server refuses the key \(\d+ of 200 studies are labelled and kept\)"):
        run(labeler, studies, tmp_path, workers=workers)
    assert 20 <= len(labeler.calls) < 20 + workers
    kept = LabelTable.read(tmp_path / "labels.csv").study_ids
    assert 20 - workers <= len(kept) < 20
    again = MadeUp()
    run(again, studies, tmp_path, workers=workers)
    assert len(again.calls) == 200 - len(kept)
    run(MadeUp(), studies, tmp_path / "at once")
    assert outputs(tmp_path) == outputs(tmp_path / "at once")


def test_an_interrupt_writes_what_is_done(tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        if done == 7:
            raise KeyboardInterrupt

    for workers in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(MadeUp(), reports(30), tmp_path / str(workers), workers=workers, progress=interrupt)
        assert len(LabelTable.read(tmp_path / str(workers) / "labels.csv").study_ids) == 7


def test_the_budget_of_all_runs_ends_the_run_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    studies, price = reports(50), Price(1000, 2000)  # a report costs 100 × 0.001 + 50 × 0.002 = 0.2
    first = run(MadeUp(), studies, tmp_path, meter=Meter(price, 1.0))
    assert first.over_budget
    assert (first.outputs.labelled, first.outputs.unfinished, first.cost) == (5, 45, pytest.approx(1.0))
    idle = MadeUp()
    assert run(idle, studies, tmp_path, meter=Meter(price, 1.0)).over_budget
    assert idle.calls == []
    second = run(MadeUp(), studies, tmp_path, workers=3, meter=Meter(price, 3.0))
    assert 15 <= second.outputs.labelled < 15 + 3
    last = run(MadeUp(), studies, tmp_path, meter=Meter(price, 100))
    assert not last.over_budget
    assert (last.outputs.labelled, last.cost) == (50, pytest.approx(10))
    run(MadeUp(), studies, tmp_path / "at once")
    assert outputs(tmp_path) == outputs(tmp_path / "at once")


def test_what_failed_before_comes_last(tmp_path: Path) -> None:
    studies = reports(6, failing=(0, 2))
    run(MadeUp(), studies[:3], tmp_path)
    again = MadeUp()
    run(again, studies, tmp_path)
    assert again.calls == [studies[n][1] for n in (3, 4, 5, 0, 2)]


class Metered(MadeUp):
    """Counts its requests itself, ten per report, and ends with `error` after them."""

    def __init__(self, meter: Meter, error: Exception | None = None) -> None:
        super().__init__()
        self.meter, self.error = meter, error

    def label(self, report: str) -> Labelled:
        for _ in range(10):
            self.meter.check()
            self.meter.add(Usage(100, 50, 1))
        if self.error:
            raise self.error
        return Labelled(super().label(report).findings, Usage(1000, 500, 10))


@pytest.mark.parametrize("workers", [1, 4])
def test_usage_is_counted_once_and_kept_where_a_report_gets_no_entry(workers: int, tmp_path: Path) -> None:
    price = Price(1000, 2000)  # a request costs 0.2
    meter = Meter(price, 5.0)
    meter.add(Usage(10, 0, 1))  # to find out the form
    summary = run(Metered(meter), reports(20), tmp_path, workers=workers, meter=meter)
    assert summary.over_budget
    assert 26 <= summary.usage.requests <= 25 + workers
    assert (summary.usage, summary.cost) == (meter.usage, pytest.approx(price.of(meter.usage)))
    with Journal(tmp_path / "labels.csv") as journal:
        assert journal.usage == summary.usage
    more = Meter(price, 99.0, summary.usage)
    with pytest.raises(UserError, match="gone"):
        run(Metered(more, UserError("gone")), reports(20), tmp_path, meter=more)
    with Journal(tmp_path / "labels.csv") as journal:
        assert journal.usage == more.usage
        assert journal.usage.requests == summary.usage.requests + 10


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), -1.0])
def test_a_budget_is_an_amount(budget: float) -> None:
    with pytest.raises(ValueError, match="finite amount"):
        Meter(Price(1, 1), budget)
    with pytest.raises(ValueError, match="needs a price"):
        Meter(None, 1.0)


def test_failed_attempts_cost_too(tmp_path: Path) -> None:
    summary = run(MadeUp(), reports(4, failing=(0, 1, 2, 3)), tmp_path, meter=Meter(Price(1000, 0)))
    assert summary.cost == pytest.approx(4 * 10 / 1000)


def test_progress_tells_rate_failures_tokens_and_cost(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int, Any]] = []

    def note(stage: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        steps.append((stage, done, total, metrics))

    run(MadeUp(), reports(3), tmp_path)
    run(MadeUp(), reports(6, failing=(4,)), tmp_path, progress=note, meter=Meter(Price(1, 1)))
    assert [step[:3] for step in steps] == [(STAGE, done, 6) for done in (3, 4, 5, 6)]
    assert set(steps[-1][3]) == {"reports/s", "failed", "tokens", "cost"}
    assert steps[-1][3]["failed"] == 1
    assert steps[-1][3]["tokens"] == 5 * 150 + 10


def test_a_persons_word_goes_before_the_labelers_in_every_run(tmp_path: Path) -> None:
    studies = reports(4, failing=(2,))
    digests = {study: report_digest(report) for study, report in studies}
    word = Override(State.PRESENT, "Dr. R.", "2026-01-02T03:04:05+00:00")
    decisions = [Decision("s00001", "emphysema", word, digests["s00001"])]
    decisions += [Decision("s00002", key, word, digests["s00002"]) for key in CHEST.keys]
    decisions += [Decision("s00003", "emphysema", word, "of another report")]
    for labeler, fresh in ((MadeUp(), False), (MadeUp(), False), (MadeUp(name="other"), True)):
        summary = run(labeler, studies, tmp_path, overrides=Overrides(decisions), fresh=fresh)
        assert (summary.outputs.labelled, summary.outputs.failed) == (4, 0)
        assert (summary.outputs.overridden, summary.outputs.stale) == (1 + len(CHEST.keys), 1)
        table = LabelTable.read(tmp_path / "labels.csv")
        assert table.select(["emphysema"]).rows(["s00001"]).tolist() == [[1]]
        assert (table.rows(["s00002"]) == State.PRESENT).all()
        overridden = {(row["study_id"], row["finding"]) for row in evidence(tmp_path) if "override" in row}
        assert overridden == {("s00001", "emphysema"), *(("s00002", key) for key in CHEST.keys)}


def test_a_study_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="twice"):
        run(MadeUp(), [*reports(2), *reports(1)], tmp_path)


def test_a_second_run_on_the_same_output_is_refused_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "labels.csv"):
        with pytest.raises(UserError, match=r"open elsewhere \(process \d+\); wait"):
            Journal(tmp_path / "labels.csv", fresh=True)
        Journal(tmp_path / "other.csv").close()
    run(MadeUp(), reports(1), tmp_path)


@pytest.mark.parametrize("name", ["labels", "labels.jsonl", "folder.csv"])
def test_an_output_that_cannot_be_one_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="must be a file"):
        Journal(tmp_path / name)


def test_a_journal_that_was_not_begun_changes_nothing(tmp_path: Path) -> None:
    Journal(tmp_path / "labels.csv").close()
    assert not (tmp_path / "labels.journal.jsonl").exists()
    run(MadeUp(), reports(2), tmp_path)
    before = (tmp_path / "labels.journal.jsonl").read_bytes()
    Journal(tmp_path / "labels.csv", fresh=True).close()  # as where the server cannot be reached
    assert (tmp_path / "labels.journal.jsonl").read_bytes() == before


def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "labels.journal.jsonl"
    for text in ("my notes\nmore\n", '{"journal": 99, "new": 1}\n{}\n'):
        path.write_text(text)
        with pytest.raises(UserError, match="no journal"):
            Journal(tmp_path / "labels.csv")
        assert path.read_text() == text


def test_a_journal_cut_at_any_byte_goes_on_to_the_same_labels(tmp_path: Path) -> None:
    studies = reports(4, failing=(1,))
    run(MadeUp(), studies, tmp_path)
    whole, right = (tmp_path / "labels.journal.jsonl").read_bytes(), outputs(tmp_path)
    for cut in range(0, len(whole), 11):
        (tmp_path / "labels.journal.jsonl").write_bytes(whole[:cut])
        run(MadeUp(), studies, tmp_path)
        assert outputs(tmp_path) == right, cut
        lines = (tmp_path / "labels.journal.jsonl").read_bytes().splitlines()
        labelled = [json.loads(line)["study_id"] for line in lines[1:] if b"failed" not in line]
        assert sorted(labelled) == ["s00000", "s00002", "s00003"], cut


def test_damage_inside_a_journal_costs_only_the_studies_it_hit(tmp_path: Path) -> None:
    studies = reports(6)
    run(MadeUp(), studies, tmp_path)
    path, right = tmp_path / "labels.journal.jsonl", outputs(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * len(lines[2]) + b"\n"
    lines[4] = b'{"study_id": "s00003", "report": 1}\n'
    lines[5] = lines[5].replace(b"present", b"perhaps")
    path.write_bytes(b"".join(lines))
    again = MadeUp()
    run(again, studies, tmp_path)
    assert len(again.calls) == 3
    assert outputs(tmp_path) == right


def test_no_word_of_a_report_stands_in_journal_or_failures(tmp_path: Path) -> None:
    run(LexiconLabeler(CHEST), [("a", "Xanthous emphysema in the quirky apex.")], tmp_path / "lexicon")
    run(MadeUp(), reports(9, failing=(3,)), tmp_path / "llm")
    for path in (*tmp_path.glob("*/*.journal.jsonl"), tmp_path / "llm" / "labels.failed.csv"):
        text = path.read_text("utf-8")
        assert not any(word in text for word in ("Xanthous", "quirky", "Herd", "结节", "Nodule of")), path


EVIDENCE = st.builds(
    Evidence,
    st.sampled_from(State),
    st.integers(0, 9999),
    st.integers(0, 9999),
    st.text(max_size=20),
    st.lists(st.tuples(st.text(max_size=9), st.sampled_from(State)), max_size=3).map(tuple),
)


@given(
    st.builds(
        Entry,
        st.text(),
        st.text(max_size=16),
        st.text(max_size=10),
        st.dictionaries(st.sampled_from(CHEST.keys), EVIDENCE),
        st.builds(Usage, *[st.integers(0, 10**9)] * 3),
        st.just(""),
    )
)
def test_an_entry_is_one_line_and_comes_back_as_it_was(entry: Entry) -> None:
    line = entry.line()
    assert line.count(b"\n") == 1
    assert Entry.parse(line) == entry
    for cut in (1, len(line) // 2, len(line) - 2):
        with pytest.raises(ValueError, match=r"\w"):
            Entry.parse(line[:cut])


@given(
    st.binary(max_size=40) | st.sampled_from([b"[]", b"1", b'"a"', b"{}", b'{"study_id":"a","report":"","date":""}'])
)
def test_no_other_line_is_an_entry(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Entry.parse(line)


def test_the_same_names_with_other_synonyms_are_another_finding_set(tmp_path: Path) -> None:
    headers = []
    for synonym in ("costal lesion", "rib destruction"):
        path = tmp_path / "own.yaml"
        path.write_text(f"name: own\nmodality: CT\nfindings:\n  - key: rib_lesion\n    synonyms: [{synonym}]\n")
        headers.append(Header.of(LexiconLabeler(load_finding_set(path))))
    assert headers[0].findings != headers[1].findings


def test_few_items_are_under_way_and_all_come_back() -> None:
    taken, lock, most = 0, threading.Lock(), [0]

    def items() -> Any:
        nonlocal taken
        for number in range(300):
            taken += 1
            yield number

    got = 0
    for _ in in_parallel(lambda number: number, items(), 5):
        got += 1
        with lock:
            most[0] = max(most[0], taken - got)
    assert got == 300
    assert most[0] <= 10


@pytest.mark.parametrize("workers", [1, 4])
def test_what_the_work_raises_comes_back(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda number: 1 // number, range(5, -5, -1), workers))


def test_leaving_the_work_early_waits_for_nothing() -> None:
    began = time.monotonic()
    work = in_parallel(lambda number: time.sleep(30 * (number > 0)), range(9), 3)
    next(work)
    work.close()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1", "0,0"])
def test_a_price_is_two_numbers(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Price.parse(text)
    assert Price.parse("0.15,0.60").of(Usage(2_000_000, 1_000_000)) == pytest.approx(0.9)


def test_a_reason_is_one_line(tmp_path: Path) -> None:
    class Wordy(MadeUp):
        def label(self, report: str) -> Labelled:
            raise Unlabelled("first\nsecond\n")

    run(Wordy(), reports(1), tmp_path)
    assert failures(tmp_path)[1] == ["s00000", "first second"]
