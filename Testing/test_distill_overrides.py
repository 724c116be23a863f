"""What people decided survives new runs, is never applied to another report, and keeps its history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import write_csv
from greenrfm.cohort import read_cohort
from greenrfm.distill import Labelled, LexiconLabeler, Unlabelled
from greenrfm.distill.apply_overrides import Applied, apply_decisions
from greenrfm.distill.journal import Journal
from greenrfm.distill.overrides import COLUMNS, Decision, Override, Overrides, load, overrides_path, read, report_digest
from greenrfm.distill.run import distill_reports
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable, State, load_finding_set

CHEST = load_finding_set("chest-ct-18").subset(("emphysema", "lung_nodule", "pleural_effusion"))
REPORTS = {
    "s1": "Emphysema. No pleural effusion.",
    "s2": "Possible emphysema.",
    "s3": "Unreadable for the labeler.",
    "s4": "A lung nodule is seen.",
}
NOON, LATER = "2026-01-02T12:00:00Z", "2026-01-02T12:00:01Z"


class Shy(LexiconLabeler):
    """The lexicon, but it gives up on one report."""

    def label(self, report: str) -> Labelled:
        if "Unreadable" in report:
            raise Unlabelled("it gave up")
        return super().label(report)


def decision(
    study: str, finding: str, state: State, date: str = NOON, who: str = "A. Reader", report: str = ""
) -> Decision:
    return Decision(study, finding, Override(state, who, date), report_digest(report or REPORTS[study]))


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Return labels.csv of the four reports, one of which failed."""
    write_csv(tmp_path / "cohort.csv", [["study_id", "patient_id", "report"], *([k, k, v] for k, v in REPORTS.items())])
    distill(tmp_path / "labels.csv")
    return tmp_path / "labels.csv"


def distill(labels: Path) -> None:
    studies = [(study.study_id, study.report) for study in read_cohort(labels.with_name("cohort.csv"))]
    with Journal(labels) as journal:
        distill_reports(Shy(CHEST), studies, journal, overrides=load(labels, CHEST))


def apply(labels: Path, *decisions: Decision) -> Applied:
    return apply_decisions(labels, read_cohort(labels.with_name("cohort.csv")), CHEST, Overrides(decisions))


def states(labels: Path) -> dict[str, list[int]]:
    table = LabelTable.read(labels)
    return dict(zip(table.study_ids, table.states.tolist(), strict=True))


def rows(labels: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = labels.with_name("labels.evidence.jsonl").read_text("utf-8").splitlines()
    return {(row["study_id"], row["finding"]): row for row in map(json.loads, lines)}


def outputs(labels: Path) -> list[bytes]:
    names = ("labels.csv", "labels.evidence.jsonl", "labels.failed.csv")
    return [path.read_bytes() if (path := labels.with_name(name)).exists() else b"" for name in names]


def test_a_decision_changes_labels_and_evidence_and_says_what_was(labels: Path) -> None:
    done = apply(
        labels,
        decision("s2", "emphysema", State.PRESENT),
        decision("s4", "lung_nodule", State.NOT_MENTIONED),
        decision("s1", "lung_nodule", State.UNCERTAIN),
        decision("s1", "emphysema", State.PRESENT),
    )
    assert (done.held, done.changed, done.stale, done.by_hand) == (4, 3, (), 0)
    assert states(labels) == {"s1": [1, -1, 0], "s2": [1, -2, -2], "s4": [-2, -2, -2]}
    evidence = rows(labels)
    changed = evidence["s2", "emphysema"]
    assert changed["override"] == {"state": "present", "by": "A. Reader", "date": NOON, "was": "uncertain"}
    assert (changed["state"], changed["sentence"]) == ("present", "Possible emphysema.")
    removed = evidence["s4", "lung_nodule"]
    assert (removed["state"], removed["override"]["was"]) == ("not_mentioned", "present")
    alone = evidence["s1", "lung_nodule"]
    assert (alone["labeler"], alone["sentence"], alone["override"]["was"]) == ("", "", "not_mentioned")
    assert "override" not in evidence["s1", "pleural_effusion"]


def test_decisions_survive_a_new_run_which_writes_the_same_bytes(labels: Path) -> None:
    apply(
        labels,
        decision("s2", "emphysema", State.ABSENT),
        decision("s4", "pleural_effusion", State.PRESENT),
        *(decision("s3", key, State.ABSENT) for key in CHEST.keys),
    )
    before = outputs(labels)
    distill(labels)
    assert outputs(labels) == before
    for path in (labels, labels.with_name("labels.evidence.jsonl"), labels.with_name("labels.journal.jsonl")):
        path.unlink()
    distill(labels)
    assert outputs(labels) == before


def test_applying_twice_changes_nothing_more(labels: Path) -> None:
    decisions = [decision("s2", "emphysema", State.ABSENT), decision("s1", "lung_nodule", State.PRESENT)]
    apply(labels, *decisions)
    before = outputs(labels), overrides_path(labels).read_bytes()
    apply(labels, *decisions)
    assert (outputs(labels), overrides_path(labels).read_bytes()) == before


def test_the_newest_decision_holds_and_the_others_stay_as_history(labels: Path) -> None:
    apply(labels, decision("s2", "emphysema", State.PRESENT, LATER, "B. Reader"))
    apply(labels, decision("s2", "emphysema", State.ABSENT, NOON))
    row = rows(labels)["s2", "emphysema"]
    assert (row["state"], row["override"]["by"], row["override"]["was"]) == ("present", "B. Reader", "uncertain")
    assert len(load(labels, CHEST)) == 2
    # The same moment in another zone, and of one second the later line.
    held = Overrides(
        [
            decision("s2", "emphysema", State.ABSENT, "2026-01-02T14:00:00+01:00"),
            decision("s2", "emphysema", State.PRESENT, "2026-01-02T13:00:00Z"),
            decision("s2", "emphysema", State.UNCERTAIN, "2026-01-02T12:30:00Z"),
        ]
    ).of("s2", REPORTS["s2"])
    assert held["emphysema"].state is State.PRESENT


def test_a_decision_on_another_wording_is_named_and_not_applied(labels: Path) -> None:
    done = apply(labels, decision("s2", "emphysema", State.PRESENT, report="An earlier wording."))
    assert done.stale == (("s2", "emphysema"),)
    assert states(labels)["s2"] == [-1, -2, -2]
    kept = load(labels, CHEST)
    assert kept.of("s2", REPORTS["s2"]) == {}
    assert kept.stale("s2", REPORTS["s2"])["emphysema"].state is State.PRESENT
    assert kept.of("s2", "An earlier wording.")["emphysema"].state is State.PRESENT
    # Decided anew, it is stale no more.
    assert apply(labels, decision("s2", "emphysema", State.ABSENT, LATER)).stale == ()


def test_a_failed_study_gets_labels_once_a_person_decided_every_finding(labels: Path) -> None:
    first = apply(labels, decision("s3", "emphysema", State.PRESENT))
    assert first.incomplete == ("s3",)
    assert "s3" not in states(labels)
    assert "it gave up" in labels.with_name("labels.failed.csv").read_text()
    others = [decision("s3", key, State.NOT_MENTIONED) for key in CHEST.keys[1:]]
    second = apply(labels, *others)
    assert (second.incomplete, second.by_hand) == ((), 1)
    assert states(labels)["s3"] == [1, -2, -2]
    assert list(states(labels)) == ["s1", "s2", "s3", "s4"]
    assert rows(labels)["s3", "emphysema"]["override"]["was"] is None
    assert not labels.with_name("labels.failed.csv").exists()


def test_a_decision_on_a_study_that_the_cohort_lacks_is_kept_and_named(labels: Path) -> None:
    done = apply(labels, decision("gone", "emphysema", State.PRESENT, report="Text."))
    assert done.unknown_studies == ("gone",)
    assert len(load(labels, CHEST)) == 1


def test_killed_between_evidence_and_labels_it_can_be_applied_again(labels: Path) -> None:
    first = [decision("s2", "emphysema", State.PRESENT), decision("s4", "emphysema", State.ABSENT)]
    old = labels.read_bytes()
    apply(labels, *first)
    whole = outputs(labels)
    labels.write_bytes(old)
    apply(labels, *first)
    assert outputs(labels) == whole


def test_labels_that_do_not_fit_their_evidence_are_refused_and_nothing_is_written(labels: Path) -> None:
    labels.write_text(labels.read_text().replace("s1,1,", "s1,0,"))
    before = outputs(labels)
    with pytest.raises(UserError, match="do not fit"):
        apply(labels, decision("s2", "emphysema", State.PRESENT))
    assert outputs(labels) == before
    assert not overrides_path(labels).exists()


def test_decisions_are_not_applied_while_a_run_writes(labels: Path) -> None:
    with Journal(labels), pytest.raises(UserError, match="wait until"):
        apply(labels, decision("s2", "emphysema", State.PRESENT))
    assert apply(labels, decision("s2", "emphysema", State.PRESENT)).held == 1


def test_overrides_are_written_and_read_as_they_are(tmp_path: Path) -> None:
    strange = decision("s1", "emphysema", State.NOT_MENTIONED, who='Öz, "Ş."')
    whole = Overrides([strange, strange, decision("s2", "lung_nodule", State.UNCERTAIN)])
    whole.write(tmp_path / "overrides.csv")
    assert read(tmp_path / "overrides.csv", CHEST).decisions == whole.decisions == (strange, whole.decisions[1])


GOOD = ["s1", "emphysema", "present", "A. Reader", NOON, "0123456789abcdef"]


@pytest.mark.parametrize(
    ("place", "cell", "message"),
    [
        (1, "emphysemia", "did you mean 'emphysema'"),
        (2, "1", "a state is one of"),
        (3, " ", "must be filled"),
        (4, "yesterday", "ISO 8601"),
        (4, "2026-01-02", "with its zone"),
        (5, "", "must be filled"),
    ],
)
def test_a_line_that_is_no_decision_is_one_sentence(tmp_path: Path, place: int, cell: str, message: str) -> None:
    path = tmp_path / "overrides.csv"
    write_csv(path, [list(COLUMNS), GOOD, [*GOOD[:place], cell, *GOOD[place + 1 :]]])
    with pytest.raises(UserError, match=message) as caught:
        read(path, CHEST)
    assert "line 3" in str(caught.value)


def test_a_file_that_holds_no_decisions_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "overrides.csv"
    with pytest.raises(UserError, match="do not exist"):
        read(path, CHEST)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        read(path, CHEST)
    write_csv(path, [["study_id", "finding"], GOOD[:2]])
    with pytest.raises(UserError, match="must begin with"):
        read(path, CHEST)
    write_csv(path, [list(COLUMNS), GOOD[:4]])
    with pytest.raises(UserError, match="4 cells"):
        read(path, CHEST)
