"""`greenrfm evaluate scores`: where thresholds come from, what counts once, three calls, calibration."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from command_line import Command, blocked, child, one_line, write_csv
from greenrfm.bundle import Bundle
from greenrfm.cohort import read_cohort
from greenrfm.errors import UserError
from greenrfm.evaluation import (
    ScoreTable,
    evaluate_classification,
    evaluate_scores,
    perfect_ece,
    pooled_calibration,
    precision_recall_points,
    thresholds_from_validation,
)
from greenrfm.evaluation.operating import stated_thresholds, threshold_at_specificity
from greenrfm.evaluation.ranking import sensitivity_at_specificity, specificity_at_sensitivity
from greenrfm.findings import LabelTable, State

Table = TypeVar("Table")
STATES = "1110001100"
SCORES = (0.9, 0.8, 0.3, 0.4, 0.2, 0.1, 0.7, 0.6, 0.35, 0.05)


def write_pair(folder: Path, *, patient: bool = True, **columns: list[str]) -> tuple[Path, Path]:
    """Write ten volumes of one finding, two per patient, with further columns."""
    about = {"patient_id": [f"p{row // 2}" for row in range(10)]} if patient else {}
    about.update(columns)
    rows = [[f"s{row}", *(cells[row] for cells in about.values()), str(value)] for row, value in enumerate(SCORES)]
    write_csv(folder / "scores.csv", [["study_id", *about, "nodule"], *rows])
    write_csv(folder / "labels.csv", [["study_id", "nodule"], *([f"s{n}", state] for n, state in enumerate(STATES))])
    return folder / "scores.csv", folder / "labels.csv"


def write_calls(folder: Path) -> Path:
    """Write calls.csv as `greenrfm read` does: present from 0.5, absent below 0.25."""
    rows = []
    for row, value in enumerate(SCORES):
        call = "present" if value >= 0.5 else "absent" if value < 0.25 else "indeterminate"
        rows.append([f"s{row}", "nodule", str(value), call, "0.5", "0.25"])
    header = ["study_id", "finding", "probability", "call", "present_from", "absent_below"]
    write_csv(folder / "calls.csv", [header, *rows])
    return folder / "calls.csv"


# Points of the ROC curve


@pytest.mark.parametrize("seed", range(6))
def test_a_point_of_the_roc_curve_is_the_best_that_a_threshold_reaches(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = rng.random(60) < 0.4
    scores = rng.integers(0, 25, 60) / 25 + 0.2 * positive
    once = np.ones((1, 60))
    false_alarms, hits, _ = metrics.roc_curve(positive, scores, drop_intermediate=False)
    for stated in (0.0, 0.5, 0.8, 0.9, 0.95, 1.0):
        best = hits[1 - false_alarms >= stated - 1e-12].max()
        assert sensitivity_at_specificity(positive, scores, once, stated)[0] == pytest.approx(best)
        best = (1 - false_alarms)[hits >= stated - 1e-12].max()
        assert specificity_at_sensitivity(positive, scores, once, stated)[0] == pytest.approx(best)


def test_points_by_hand_with_a_tie_that_no_threshold_can_split() -> None:
    # From high to low: present; present and absent tied; absent; present; absent, absent.
    positive = np.array([1, 1, 0, 0, 1, 0, 0], bool)
    scores = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4])
    once = np.ones((1, 7))
    assert sensitivity_at_specificity(positive, scores, once, 1.0)[0] == pytest.approx(1 / 3)
    assert sensitivity_at_specificity(positive, scores, once, 0.75)[0] == pytest.approx(2 / 3)
    assert sensitivity_at_specificity(positive, scores, once, 0.74)[0] == pytest.approx(2 / 3)
    assert sensitivity_at_specificity(positive, scores, once, 0.5)[0] == 1
    assert specificity_at_sensitivity(positive, scores, once, 1.0)[0] == 0.5
    assert np.isnan(sensitivity_at_specificity(np.ones(7, bool), scores, once, 0.5)[0])


def test_the_precision_recall_curve_encloses_the_average_precision() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(50) < 0.3
    scores = rng.integers(0, 20, 50) / 20
    recall, precision = precision_recall_points(positive, scores)
    area = float(np.sum(np.diff(recall) * precision[1:]))
    assert area == pytest.approx(metrics.average_precision_score(positive, scores))


# Thresholds come from elsewhere


def test_without_thresholds_the_files_own_calls_judge_and_otherwise_one_half_and_it_says_which(tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    assert evaluate_scores(scores, labels, bootstraps=0)["thresholds_from"] == "probability 0.5"
    own = evaluate_scores(write_calls(tmp_path), labels, bootstraps=0)
    assert own["thresholds_from"] == "the calls in the scores file"
    assert own["findings"]["nodule"]["threshold"] is None


def test_a_validation_threshold_reaches_its_specificity_there_and_is_judged_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    (tmp_path / "v").mkdir()
    truth = rng.random(200) < 0.4
    probabilities = np.clip(rng.normal(0.35, 0.15, 200) + 0.3 * truth, 0, 1)
    studies = tuple(f"v{row}" for row in range(200))
    ScoreTable(studies, ("nodule",), probabilities[:, None]).write(tmp_path / "v/scores.csv")
    LabelTable(studies, ("nodule",), truth[:, None].astype(np.int8)).write(tmp_path / "v/labels.csv")
    for stated in (0.5, 0.9, 0.97, 1.0):
        chosen = thresholds_from_validation(tmp_path / "v/scores.csv", tmp_path / "v/labels.csv", stated)
        threshold = chosen.present["nodule"]
        assert np.mean(probabilities[~truth] < threshold) >= stated
        lower = probabilities[~truth & (probabilities < threshold)].max()
        assert np.mean(probabilities[~truth] < lower) < stated
    scores, labels = write_pair(tmp_path)
    judged = evaluate_scores(scores, labels, thresholds=chosen, bootstraps=0)
    assert judged["findings"]["nodule"]["threshold"] == threshold
    assert "validation" in judged["thresholds_from"]


def test_a_threshold_for_a_specificity_by_hand() -> None:
    absent = np.array([0.1, 0.2, 0.3, 0.4])
    assert threshold_at_specificity(absent, 0.0) == 0
    assert 0.3 < threshold_at_specificity(absent, 0.75) < 0.300001
    assert 0.4 < threshold_at_specificity(absent, 1.0) < 0.400001
    assert threshold_at_specificity(np.array([1.0]), 1.0) == 1


def test_thresholds_from_the_studies_that_are_measured_are_refused(greenrfm: Command, tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    answer = greenrfm("evaluate", "scores", scores, labels, "--validation", scores, labels)
    assert answer.code == 1
    assert "study s0" in one_line(answer)
    (tmp_path / "v").mkdir()
    write_csv(tmp_path / "v/scores.csv", [["study_id", "patient_id", "nodule"], ["v1", "p3", "0.5"]])
    write_csv(tmp_path / "v/labels.csv", [["study_id", "nodule"], ["v1", "0"]])
    answer = greenrfm(
        "evaluate", "scores", scores, labels, "--validation", tmp_path / "v/scores.csv", tmp_path / "v/labels.csv"
    )
    assert answer.code == 1
    assert "a patient" in one_line(answer)
    assert "p3" not in answer.err


def test_thresholds_are_read_from_a_file_and_a_faulty_one_is_one_sentence(tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    path = tmp_path / "thresholds.csv"
    write_csv(path, [["finding", "present", "absent"], ["nodule", "0.65", "0.25"]])
    judged = evaluate_scores(scores, labels, thresholds=stated_thresholds(path), bootstraps=0)["findings"]["nodule"]
    assert (judged["threshold"], judged["absent_below"]) == (0.65, 0.25)
    for text in ("", "finding\nnodule\n", "finding,present\nnodule,high\n", "finding,present\nnodule,1.5\n",
                 "finding,present,absent\nnodule,0.2,0.6\n", "finding,present\nnodule,.5\nnodule,.6\n"):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError) as caught:
            stated_thresholds(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        stated_thresholds(tmp_path / "none.csv")


def test_a_bundle_brings_its_own_thresholds_and_says_its_rule(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    keys, limits = bundle.findings.keys, bundle.manifest.thresholds
    rng = np.random.default_rng(5)
    studies = tuple(f"s{row}" for row in range(20))
    ScoreTable(studies, keys, rng.random((20, len(keys)))).write(tmp_path / "scores.csv")
    LabelTable(studies, keys, (rng.random((20, len(keys))) < 0.5).astype(np.int8)).write(tmp_path / "labels.csv")
    command = ("evaluate", "scores", tmp_path / "scores.csv", tmp_path / "labels.csv")
    result = greenrfm(*command, "--thresholds", bundle.folder, "--json").json
    assert [result["findings"][key]["threshold"] for key in keys] == list(limits.present)
    assert limits.rule in result["thresholds_from"]
    assert greenrfm(*command, "--thresholds", bundle.folder, "--validation", "a", "b").code == 2


def test_measuring_alone_draws_nothing(tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    answer = child(
        "evaluate", "scores", scores, labels, cwd=tmp_path, prologue=blocked("matplotlib", "jinja2", "torch")
    )
    assert answer.code == 0, answer.err
    assert "nodule" in answer.out


# Three calls


def test_indeterminate_counts_as_not_present_and_the_decided_ones_stand_beside_it(tmp_path: Path) -> None:
    # Calls: + + ? ? - - + + ? -   truth: 1 1 1 0 0 0 1 1 0 0
    result = evaluate_scores(write_calls(tmp_path), write_pair(tmp_path)[1], bootstraps=0)["findings"]["nodule"]
    assert result["coverage"] == pytest.approx(7 / 10)
    assert result["sensitivity"] == pytest.approx(4 / 5)
    assert result["specificity"] == 1
    assert result["sensitivity_decided"] == 1
    assert result["specificity_decided"] == 1
    assert result["f1"] == pytest.approx(2 * 4 / (2 * 4 + 0 + 1))


def test_two_thresholds_make_the_same_calls_as_the_file_that_says_them(tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    write_csv(tmp_path / "t.csv", [["finding", "present", "absent"], ["nodule", "0.5", "0.25"]])
    by_limits = evaluate_scores(scores, labels, thresholds=stated_thresholds(tmp_path / "t.csv"), bootstraps=0)
    by_calls = evaluate_scores(write_calls(tmp_path), labels, bootstraps=0)
    for name in ("coverage", "sensitivity", "sensitivity_decided", "specificity_decided", "f1", "auroc", "ece"):
        assert by_limits["macro"][name] == by_calls["macro"][name], name


def test_a_model_that_decides_nothing_has_no_decided_sensitivity(tmp_path: Path) -> None:
    states = np.array([[1], [0]], np.int8)
    unsure = np.full((2, 1), State.UNCERTAIN, np.int8)
    result = evaluate_classification(np.array([[0.6], [0.4]]), states, ["x"], calls=unsure, bootstraps=0)["findings"]
    assert result["x"]["coverage"] == 0
    assert result["x"]["sensitivity"] == 0
    assert result["x"]["sensitivity_decided"] is None


# What counts once


def test_volumes_reports_and_patients_are_each_stated(greenrfm: Command, tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path, report_id=["r1", "r1", "r2", "", "", "r3", "r4", "r4", "r4", "r1"])
    every = greenrfm("evaluate", "scores", scores, labels, "--json").json
    # r1 of p0 and r1 of p4 are two reports, so are r4 of p3 and of p4; s3 and s4 have one each.
    assert (every["volumes"], every["reports"], every["patients"], every["n"]) == (10, 8, 5, 10)
    assert every["unit"] == "volume"
    once = greenrfm("evaluate", "scores", scores, labels, "--per", "report", "--json").json
    assert (once["volumes"], once["reports"], once["n"], once["unit"]) == (10, 8, 8, "report")
    first = [row for row in range(10) if row not in (1, 7)]
    expected = metrics.roc_auc_score([STATES[row] == "1" for row in first], [SCORES[row] for row in first])
    assert once["macro"]["auroc"] == pytest.approx(expected)
    text = greenrfm("evaluate", "scores", scores, labels).out
    assert "10 volumes, reports: 8; every volume counts" in text


def test_a_cohort_says_which_volumes_share_a_report(greenrfm: Command, tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path, patient=False)
    header = ["study_id", "patient_id", "report", "study_date", "accession"]
    rows = [[f"s{row}", f"p{row // 4}", "No  nodule.", "", ""] for row in range(10)]
    rows[1][3] = "20200101"  # the same words on another day are another report
    rows[2][2] = "No\nnodule."  # the same words in other lines are not
    rows[8][4], rows[9][4] = "A1", "A2"
    write_csv(tmp_path / "cohort.csv", [header, *rows])
    result = greenrfm("evaluate", "scores", scores, labels, "--cohort", tmp_path / "cohort.csv", "--json").json
    assert (result["reports"], result["patients"], result["resampled"]) == (5, 3, "patients")
    write_csv(tmp_path / "cohort.csv", [header, *rows[:9]])
    with pytest.raises(UserError, match="no study s9"):
        evaluate_scores(scores, labels, cohort=read_cohort(tmp_path / "cohort.csv"))


def test_one_per_report_is_refused_where_nothing_says_what_a_report_is(greenrfm: Command, tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    answer = greenrfm("evaluate", "scores", scores, labels, "--per", "report")
    assert answer.code == 1
    assert "report_id" in one_line(answer)
    assert greenrfm("evaluate", "scores", scores, labels, "--json").json["reports"] is None


def test_the_interval_resamples_patients_and_not_volumes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(40) < 0.5
    values = np.clip(rng.normal(0.4, 0.2, 40) + 0.2 * truth, 0, 1)
    studies = tuple(f"s{row}" for row in range(200))
    LabelTable(studies, ("nodule",), np.repeat(truth, 5)[:, None].astype(np.int8)).write(tmp_path / "labels.csv")

    def width(patients: tuple[str, ...]) -> float:
        path = tmp_path / "scores.csv"
        ScoreTable(studies, ("nodule",), np.repeat(values, 5)[:, None], patients).write(path)
        result = evaluate_scores(path, tmp_path / "labels.csv", bootstraps=400)
        pooled = result["pooled"]["intervals"]["brier"]
        low, high = result["macro"]["intervals"]["auroc"]
        assert (high - low) / (pooled[1] - pooled[0]) > 0
        return float(high - low)

    # Five volumes of a patient are worth one: sqrt(5) is how much too narrow they make it if they count as five.
    honest = width(tuple(f"p{row // 5}" for row in range(200)))
    assert width(()) < 0.6 * honest


# Calibration


def test_pooled_calibration_by_hand() -> None:
    probabilities = np.array([[0.05, 0.95], [0.15, 0.92], [0.04, 0.5]])
    states = np.array([[0, 1], [1, 0], [-2, -1]], np.int8)
    got = pooled_calibration(probabilities, states, ["a", "b", "c"], bootstraps=20)
    assert got["pairs"] == 4
    # Bins: 0.05 absent; 0.15 present; 0.95 present and 0.92 absent.
    assert got["ece"] == pytest.approx((0.05 + 0.85 + abs(1 - 0.95 - 0.92)) / 4)
    assert got["brier"] == pytest.approx((0.05**2 + 0.85**2 + 0.05**2 + 0.92**2) / 4)
    assert [(point["n"], point["share"]) for point in got["points"]] == [(1, 0), (1, 1), (2, 0.5)]
    assert got["prevalence"] == 0.5
    nothing = pooled_calibration(probabilities, np.full((3, 2), -1, np.int8))
    assert (nothing["pairs"], nothing["ece"], nothing["points"]) == (0, None, [])
    json.dumps([got, nothing], allow_nan=False)


def test_a_perfectly_calibrated_model_lies_within_its_own_simulation_and_an_overconfident_one_above() -> None:
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(60):
        probabilities = rng.beta(0.8, 1.5, (100, 12))
        states = (rng.random(probabilities.shape) < probabilities).astype(np.int8)
        got = pooled_calibration(probabilities, states, bootstraps=0, simulations=200)
        low, high = got["perfect"]["interval"]
        inside += low <= got["ece"] <= high
    assert 52 <= inside <= 60  # 95 % of 60 is 57
    wrong = pooled_calibration(probabilities**2, states, bootstraps=0, simulations=200)
    assert wrong["ece"] > wrong["perfect"]["interval"][1]
    assert wrong["perfect"]["as_large"] == 0


def test_the_ece_of_a_perfect_model_in_one_bin_is_that_of_a_binomial() -> None:
    # All say 0.5: ECE = |K/N - 1/2| with K binomial, whose mean is about sqrt(1 / (2 pi N)).
    simulated = perfect_ece(np.full(400, 0.5), simulations=4000)
    assert simulated.mean() == pytest.approx(np.sqrt(1 / (2 * np.pi * 400)), rel=0.05)
    assert np.array_equal(simulated, perfect_ece(np.full(400, 0.5), simulations=4000))


def test_a_finding_of_one_class_is_said_and_never_a_half(greenrfm: Command, tmp_path: Path) -> None:
    write_csv(
        tmp_path / "labels.csv", [["study_id", "cyst", "nodule"], ["a", "0", "1"], ["b", "0", "0"], ["c", "", ""]]
    )
    write_csv(tmp_path / "scores.csv", [["study_id", "cyst", "nodule"], *([n, ".2", ".4"] for n in "abc")])
    result = greenrfm("evaluate", "scores", tmp_path / "scores.csv", tmp_path / "labels.csv", "--json").json
    assert result["findings"]["cyst"]["auroc"] is None
    assert result["findings"]["cyst"]["sensitivity_at_specificity"] is None
    assert result["macro"]["left_out"] == {"cyst": "no study has it present"}
    assert (result["findings"]["cyst"]["n"], result["findings"]["cyst"]["positives"]) == (2, 0)
    text = greenrfm("evaluate", "scores", tmp_path / "scores.csv", tmp_path / "labels.csv").out
    assert "Not measured, left out of the mean: cyst, no study has it present." in text


# The page


def test_the_folder_has_a_page_that_stands_alone_and_every_plot_twice(greenrfm: Command, tmp_path: Path) -> None:
    scores, labels = write_pair(tmp_path)
    answer = greenrfm("evaluate", "scores", scores, labels, "--out", tmp_path / "out")
    assert answer.code == 0
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "5 present, 5 absent" not in page  # drawn, not written
    for name in ("reliability", "roc", "precision_recall"):
        assert (tmp_path / f"out/{name}.svg").read_bytes().startswith(b"<?xml")
        assert (tmp_path / f"out/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert page.count("data:image/svg+xml;base64,") == 3
    written = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert written == greenrfm("evaluate", "scores", scores, labels, "--json").json


# Readers

CELL = st.one_of(
    st.sampled_from(
        ["0.5", "1", "0", "present", "indeterminate", "nan", "-1", "1e-3", "", "study_id", "p1", "1.5", "s1"]
    ),
    st.text(max_size=6),
)
HEADERS = st.one_of(
    st.sampled_from(
        [
            ["study_id", "nodule"],
            ["study_id", "patient_id", "nodule", "cyst"],
            ["study_id", "report_id", "nodule"],
            ["study_id", "finding", "probability", "call"],
            ["study_id", "finding", "probability", "call", "patient_id"],
        ]
    ),
    st.lists(CELL, max_size=4),
)


def as_csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    header = draw(HEADERS)
    width = st.just(len(header)) if draw(st.booleans()) else st.integers(0, 6)
    rows = draw(st.lists(width.flatmap(lambda n: st.lists(CELL, min_size=n, max_size=n)), max_size=5))
    return as_csv([header, *rows])


@given(st.one_of(tables(), st.binary(max_size=200)))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_scores_or_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    scores = read_or_refuse(ScoreTable.read, path)
    if scores is not None:
        assert np.all((scores.probabilities >= 0) & (scores.probabilities <= 1))
        assert len(set(scores.study_ids)) == len(scores.study_ids)
    labels = read_or_refuse(LabelTable.read, path)
    if labels is not None:
        assert np.isin(labels.states, [1, 0, -1, -2]).all()


def read_or_refuse(reader: Callable[[Path], Table], path: Path) -> Table | None:
    """Return the table, or None if the file is refused in one sentence that names it."""
    try:
        return reader(path)
    except UserError as error:
        said = str(error)
    assert str(path) in said
    assert "\n" not in said.replace(repr("\n"), "")
    return None


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["a", "b,c", 'd"e']), st.sampled_from(["", "r"])),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scores_that_are_written_are_read_as_they_were(
    tmp_path: Path, rows: list[tuple[float, float, str, str]]
) -> None:
    values: NDArray[np.float64] = np.array([row[:2] for row in rows])
    studies = tuple(f"s {number}" for number in range(len(rows)))
    table = ScoreTable(studies, ("x", "y"), values, tuple(row[2] for row in rows), tuple(row[3] for row in rows))
    table.write(tmp_path / "scores.csv")
    again = ScoreTable.read(tmp_path / "scores.csv")
    assert (again.study_ids, again.keys, again.patient_ids, again.report_ids) == (
        table.study_ids,
        table.keys,
        table.patient_ids,
        table.report_ids,
    )
    np.testing.assert_array_equal(again.probabilities, table.probabilities)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("s1,nodule,0.5,maybe", "a call is one of present, absent, indeterminate"),
        ("s1,nodule,2,present", "not a number from 0 to 1"),
        ("s1,nodul,0.5,present", "unknown finding 'nodul'; did you mean 'nodule'"),
        ("s0,nodule,0.5,present", "twice for 'nodule'"),
        ("s1,cyst,0.5,present", "no line for study s0 and 'cyst'"),
        (",nodule,0.5,present", "study_id is empty"),
    ],
)
def test_faulty_calls_are_one_sentence(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "calls.csv"
    path.write_text(f"study_id,finding,probability,call\ns0,nodule,0.5,present\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        ScoreTable.read(path, ("nodule", "cyst"))
    assert sentence in str(caught.value)
    path.write_text("study_id,finding,probability\ns0,nodule,0.5\n", encoding="utf-8")
    with pytest.raises(UserError, match="no column 'call'"):
        ScoreTable.read(path)
