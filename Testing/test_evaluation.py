"""The measures against scikit-learn, brute force and closed forms; the intervals against simulation."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn import metrics

from greenrfm.errors import UserError
from greenrfm.evaluation import (
    Localisation,
    ScoreTable,
    as_text,
    auroc,
    compare_labels,
    evaluate_classification,
    evaluate_scores,
    hit_rate,
    intervals,
    localise,
    mean_average_precision,
    recall_at_k,
    reliability_points,
    roc_points,
    share_label_measures,
)
from greenrfm.evaluation.classification import MEASURES
from greenrfm.evaluation.localisation import coverage
from greenrfm.evaluation.ranking import weighted_auroc, weighted_average_precision
from greenrfm.evaluation.ties import average_precision
from greenrfm.findings import LabelTable, State

Floats = NDArray[np.float64]


def cohort(seed: int, studies: int = 80, findings: int = 3) -> tuple[Floats, NDArray[np.int8], tuple[str, ...]]:
    """Return probabilities with ties, states of all four kinds, and keys."""
    rng = np.random.default_rng(seed)
    truth = rng.random((studies, findings)) < 0.3
    probabilities = np.round(1 / (1 + np.exp(-(rng.normal(size=truth.shape) + 1.5 * truth - 1))), 2)
    states = truth.astype(np.int8)
    states[rng.random(truth.shape) < 0.1] = State.UNCERTAIN
    states[rng.random(truth.shape) < 0.1] = State.NOT_MENTIONED
    return probabilities, states, tuple(f"finding_{number}" for number in range(findings))


# Classification


@pytest.mark.parametrize("seed", range(5))
def test_every_measure_agrees_with_scikit_learn_on_the_known_entries(seed: int) -> None:
    probabilities, states, keys = cohort(seed)
    result = evaluate_classification(probabilities, states, keys, thresholds=0.4, bootstraps=0)
    for column, key in enumerate(keys):
        known = states[:, column] >= 0
        truth, score = states[known, column], probabilities[known, column]
        call = score >= 0.4
        got = result["findings"][key]
        assert got["n"] == known.sum()
        assert got["excluded"] == (~known).sum()
        assert got["auroc"] == pytest.approx(metrics.roc_auc_score(truth, score))
        assert got["average_precision"] == pytest.approx(metrics.average_precision_score(truth, score))
        assert got["f1"] == pytest.approx(metrics.f1_score(truth, call))
        assert got["sensitivity"] == pytest.approx(metrics.recall_score(truth, call))
        assert got["specificity"] == pytest.approx(metrics.recall_score(truth, call, pos_label=0))
        assert got["brier"] == pytest.approx(metrics.brier_score_loss(truth, score))
    for name in MEASURES:
        assert result["macro"][name] == pytest.approx(np.mean([result["findings"][key][name] for key in keys]))


def test_a_weight_is_the_same_as_that_many_copies() -> None:
    rng = np.random.default_rng(0)
    truth, score = rng.random(60) < 0.4, rng.integers(0, 15, 60) / 15
    weights = rng.integers(0, 4, 60)
    truth_copied, score_copied = np.repeat(truth, weights), np.repeat(score, weights)
    row = weights[None].astype(float)
    assert weighted_auroc(truth, score, row)[0] == pytest.approx(metrics.roc_auc_score(truth_copied, score_copied))
    assert weighted_average_precision(truth, score, row)[0] == pytest.approx(
        metrics.average_precision_score(truth_copied, score_copied)
    )


@st.composite
def ranked(draw: st.DrawFn) -> tuple[NDArray[np.bool_], Floats]:
    scores = draw(st.lists(st.integers(-20, 20), min_size=2, max_size=40))
    positive = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    positive[0], positive[1] = True, False
    return np.array(positive), np.array(scores, dtype=float)


@given(ranked())
@settings(deadline=None)
def test_auroc_is_the_share_of_pairs_in_order_and_knows_only_the_order(case: tuple[NDArray[np.bool_], Floats]) -> None:
    positive, scores = case
    value = auroc(positive, scores)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert value == pytest.approx(np.mean(pairs))
    assert auroc(positive, scores**3 + 7) == value
    assert auroc(positive, np.arctan(scores / 5)) == value
    assert value is not None
    assert auroc(~positive, scores) == pytest.approx(1 - value)
    assert auroc(positive, -scores) == pytest.approx(1 - value)
    assert value == pytest.approx(metrics.roc_auc_score(positive, scores))


def test_a_finding_with_one_class_is_none_and_left_out_of_macro_by_name() -> None:
    probabilities, states, keys = cohort(1, findings=4)
    states[:, 2] = np.where(states[:, 2] == State.PRESENT, State.NOT_MENTIONED, states[:, 2])
    states[:, 3] = State.UNCERTAIN
    result = evaluate_classification(probabilities, states, keys, bootstraps=50)
    first, second = (result["findings"][key]["auroc"] for key in keys[:2])
    one_class, empty = result["findings"]["finding_2"], result["findings"]["finding_3"]
    assert one_class["auroc"] is one_class["average_precision"] is one_class["f1"] is one_class["sensitivity"] is None
    assert one_class["intervals"]["auroc"] is None
    assert one_class["specificity"] is not None
    assert all(empty[name] is None for name in MEASURES)
    assert result["macro"]["left_out"] == {
        "finding_2": "no study has it present",
        "finding_3": "no study has it present or absent",
    }
    assert result["macro"]["findings"] == 2
    assert result["macro"]["auroc"] == pytest.approx((first + second) / 2)
    text = as_text(result, ("auroc", "brier"))
    assert "left out of macro: finding_2" in text
    assert "nan" not in json.dumps(result).lower()


def test_nothing_evaluable_gives_none_not_a_number() -> None:
    result = evaluate_classification(np.full((4, 1), 0.5), np.ones((4, 1), np.int8), ["cyst"], bootstraps=20)
    assert result["macro"]["auroc"] is None
    assert result["macro"]["intervals"]["auroc"] is None


def test_masked_entries_change_nothing() -> None:
    probabilities, states, keys = cohort(2)
    other = probabilities.copy()
    other[states < 0] = 1 - other[states < 0]
    assert evaluate_classification(probabilities, states, keys, bootstraps=30) == evaluate_classification(
        other, states, keys, bootstraps=30
    )


def test_ece_is_the_mean_gap_of_the_reliability_bins() -> None:
    probabilities, states, keys = cohort(3, findings=1)
    known = states[:, 0] >= 0
    truth, score = states[known, 0] == 1, probabilities[known, 0]
    points = reliability_points(truth, score)
    expected = sum(count * abs(share - mean) for mean, share, count in points) / known.sum()
    got = evaluate_classification(probabilities, states, keys, bootstraps=0)["findings"][keys[0]]["ece"]
    assert got == pytest.approx(expected)
    assert sum(count for _, _, count in points) == known.sum()


def test_roc_points_enclose_the_auroc() -> None:
    probabilities, states, _ = cohort(4, findings=1)
    false_positive_rate, sensitivity = roc_points(states[:, 0] == 1, probabilities[:, 0])
    expected = auroc(states[:, 0] == 1, probabilities[:, 0])
    assert metrics.auc(false_positive_rate, sensitivity) == pytest.approx(expected)
    with pytest.raises(ValueError, match="with and without"):
        roc_points(np.ones(3, dtype=bool), np.arange(3.0))


def test_shapes_and_values_that_do_not_fit_are_refused() -> None:
    probabilities, states, keys = cohort(0)
    with pytest.raises(ValueError, match="3 findings"):
        evaluate_classification(probabilities[:, :2], states, keys)
    with pytest.raises(ValueError, match="outside"):
        evaluate_classification(probabilities * np.nan, states, keys)
    with pytest.raises(ValueError, match="patient ids"):
        evaluate_classification(probabilities, states, keys, patient_ids=["a"])
    with pytest.raises(ValueError, match="no study"):
        evaluate_classification(np.empty((0, 3)), np.empty((0, 3), np.int8), keys)


# Intervals


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    probabilities, states, keys = cohort(5)

    def interval(seed: int) -> list[float]:
        result = evaluate_classification(probabilities, states, keys, bootstraps=100, seed=seed)
        return list(result["macro"]["intervals"]["auroc"])

    assert interval(1) == interval(1) != interval(2)


def test_copies_of_a_patients_study_do_not_narrow_the_interval() -> None:
    probabilities, states, keys = cohort(6, studies=60, findings=1)
    patients = [f"p{row}" for row in range(60)]

    def width(repeats: int, ids: list[str] | None) -> float:
        result = evaluate_classification(
            np.tile(probabilities, (repeats, 1)), np.tile(states, (repeats, 1)), keys, patient_ids=ids, bootstraps=400
        )
        low, high = result["findings"][keys[0]]["intervals"]["auroc"]
        return float(high - low)

    honest, copied, naive = width(1, patients), width(4, patients * 4), width(4, None)
    assert copied == pytest.approx(honest, rel=0.02)
    assert naive < 0.65 * honest


def test_one_patient_has_no_interval() -> None:
    probabilities, states, keys = cohort(7)
    result = evaluate_classification(probabilities, states, keys, patient_ids=["p"] * len(states))
    assert result["macro"]["auroc"] is not None
    assert result["macro"]["intervals"]["auroc"] is None


def test_intervals_cover_the_true_auroc_about_as_often_as_they_say() -> None:
    true_auroc = norm.cdf(1.2 / math.sqrt(2))
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(150):
        truth = np.arange(100) < 35
        score = 1 / (1 + np.exp(-(rng.normal(size=100) + 1.2 * truth)))
        result = evaluate_classification(score[:, None], truth[:, None].astype(np.int8), ["x"], bootstraps=200)
        low, high = result["findings"]["x"]["intervals"]["auroc"]
        covered += low <= true_auroc <= high
    # 95 % nominal; 150 repeats have a standard error of 2 %.
    assert 0.88 <= covered / 150 <= 0.99


def naive_measures(positive: NDArray[np.bool_], score: Floats, low: float, high: float) -> dict[str, float]:
    """Return the measures of the studies as they stand there, copies and all, by scikit-learn and by counting."""
    called, decided = score >= high, (score >= high) | (score < low)
    found, free = called[positive], ~called[~positive]
    bins = np.minimum((score * 10).astype(int), 9)
    values = {
        "f1": metrics.f1_score(positive, called, zero_division=0) if positive.any() else np.nan,
        "sensitivity": found.mean() if positive.any() else np.nan,
        "specificity": free.mean() if (~positive).any() else np.nan,
        "coverage": decided.mean(),
        "brier": np.mean((score - positive) ** 2),
        "ece": sum(abs((positive - score)[bins == index].sum()) for index in range(10)) / len(score),
    }
    for name, chosen, right in (("sensitivity", positive, called), ("specificity", ~positive, ~called)):
        sure = decided & chosen
        values[f"{name}_decided"] = right[sure].mean() if sure.any() else np.nan
    if positive.all() or not positive.any():
        names = ("auroc", "average_precision", "sensitivity_at_specificity", "specificity_at_sensitivity")
        return {**values, **dict.fromkeys(names, np.nan)}
    alarms, hits, _ = metrics.roc_curve(positive, score, drop_intermediate=False)
    return {
        **values,
        "auroc": metrics.roc_auc_score(positive, score),
        "average_precision": metrics.average_precision_score(positive, score),
        "sensitivity_at_specificity": hits[1 - alarms >= 0.9 - 1e-9].max(),
        "specificity_at_sensitivity": (1 - alarms)[hits >= 0.9 - 1e-9].max(),
    }


def test_intervals_are_those_of_copying_the_drawn_patients_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    resamples, studies, patients = 60, 90, 40
    probabilities, states, keys = cohort(10, studies, 3)
    # The last finding is so rare that some resamples have none.
    states[:, 2] = State.ABSENT
    states[:2, 2] = State.PRESENT
    patient_of = np.r_[np.arange(patients), np.random.default_rng(1).integers(0, patients, studies - patients)]
    ids = [f"p{patient:02}" for patient in patient_of]
    low, high = dict.fromkeys(keys, 0.25), dict.fromkeys(keys, 0.5)
    monkeypatch.setattr(intervals, "_BLOCK", 7 * studies)  # several blocks, the last one smaller
    told: list[int] = []
    result = evaluate_classification(
        probabilities,
        states,
        keys,
        patient_ids=ids,
        thresholds=high,
        absent_below=low,
        bootstraps=resamples,
        seed=3,
        progress=lambda stage, done, total, metrics=None: told.append(done),
    )
    assert told == [*range(7, resamples, 7), resamples]

    draws = np.random.default_rng(3).multinomial(patients, np.full(patients, 1 / patients), size=resamples)
    lacking = 0
    for column, key in enumerate(keys):
        naive: dict[str, list[float]] = {}
        for drawn in draws:
            copied = np.repeat(np.arange(studies), drawn[patient_of])
            copied = copied[states[copied, column] >= 0]
            positive = states[copied, column] == State.PRESENT
            lacking += not positive.any()
            for name, value in naive_measures(positive, probabilities[copied, column], 0.25, 0.5).items():
                naive.setdefault(name, []).append(value)
        for name, values in naive.items():
            got = result["findings"][key]["intervals"][name]
            assert got == pytest.approx(np.nanquantile(values, [0.025, 0.975]), abs=1e-12), (key, name)
    assert lacking > 3


def test_150_studies_12_findings_500_resamples_take_less_than_3_seconds() -> None:
    probabilities, states, keys = cohort(8, 150, 12)
    start = time.process_time()
    evaluate_classification(probabilities, states, keys, patient_ids=[f"p{n // 2}" for n in range(150)], bootstraps=500)
    assert time.process_time() - start < 3


# scores.csv


def write_pair(folder: Path) -> tuple[Path, Path, ScoreTable]:
    probabilities, states, keys = cohort(9)
    studies = tuple(f"s{row}" for row in range(len(states)))
    table = ScoreTable(studies, keys, probabilities / 3, tuple(f"p{row // 2}" for row in range(len(states))))
    table.write(folder / "scores.csv")
    LabelTable(studies[::-1], keys, states[::-1]).write(folder / "labels.csv")
    return folder / "scores.csv", folder / "labels.csv", table


def test_scores_survive_the_file_to_the_last_digit(tmp_path: Path) -> None:
    path, _, table = write_pair(tmp_path)
    again = ScoreTable.read(path, table.keys)
    assert again.study_ids == table.study_ids
    assert again.patient_ids == table.patient_ids
    np.testing.assert_array_equal(again.probabilities, table.probabilities)


def test_evaluate_scores_matches_rows_by_id_and_keeps_the_json_contract(tmp_path: Path) -> None:
    path, labels, table = write_pair(tmp_path)
    result = evaluate_scores(path, labels, bootstraps=50)
    states = LabelTable.read(labels).rows(table.study_ids)
    known = states[:, 0] >= 0
    expected = metrics.roc_auc_score(states[known, 0], table.probabilities[known, 0])
    assert result["n"] == len(table.study_ids)
    assert result["patients"] == len(set(table.patient_ids))
    assert result["resampled"] == "patients"
    assert result["findings"]["finding_0"]["auroc"] == pytest.approx(expected)
    assert isinstance(result["macro"]["auroc"], float)
    assert json.loads(json.dumps(result)) == result


def test_thresholds_never_come_from_the_labels_they_are_judged_on(tmp_path: Path) -> None:
    path, labels, _ = write_pair(tmp_path)
    table = LabelTable.read(labels)
    flipped = np.where(table.states >= 0, 1 - table.states, table.states).astype(np.int8)
    LabelTable(table.study_ids, table.keys, flipped).write(tmp_path / "flipped.csv")
    given = {"finding_0": 0.1, "finding_1": 0.2, "finding_2": 0.3}
    for thresholds, expected in ((0.5, dict.fromkeys(given, 0.5)), (given, given)):
        for file in (labels, tmp_path / "flipped.csv"):
            result = evaluate_scores(path, file, thresholds=thresholds, bootstraps=0)
            assert {key: values["threshold"] for key, values in result["findings"].items()} == expected
    with pytest.raises(UserError, match="no threshold for 'finding_1'"):
        evaluate_scores(path, labels, thresholds={"finding_0": 0.1}, bootstraps=0)


def test_fewer_scores_than_labels_are_stated(tmp_path: Path) -> None:
    _, labels, table = write_pair(tmp_path)
    ScoreTable(table.study_ids[:40], ("finding_1",), table.probabilities[:40, 1:2]).write(tmp_path / "few.csv")
    result = evaluate_scores(tmp_path / "few.csv", labels, bootstraps=20)
    assert result["n"] == 40
    assert result["labels_without_scores"] == 40
    assert result["not_scored"] == ["finding_0", "finding_2"]
    assert result["resampled"].startswith("studies")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("study_id,finding_0,findng_1\na,0.1,0.2\n", "unknown column 'findng_1'; did you mean 'finding_1'"),
        ("study_id,finding_0,comment\na,0.1,0.2\n", "unknown column 'comment'"),
        ("study_id,finding_0\na,0.1\na,0.2\n", "study a twice"),
        ("study_id,finding_0,finding_0\na,0.1,0.2\n", "'finding_0' twice"),
        ("study_id,finding_0\na,high\n", "line 2, column 'finding_0': not a number"),
        ("study_id,finding_0\na,\n", "not a number"),
        ("study_id,finding_0\na,nan\n", "not a number"),
        ("study_id,finding_0\na,1.2\n", "not a number from 0 to 1"),
        ("study_id,finding_0\na,0.1,0.2\n", "3 cells, the header has 2"),
        ("study_id,patient_id,finding_0\na,,0.2\n", "patient_id is empty"),
        ("study_id,finding_0\n,0.2\n", "study_id is empty"),
        ("study_id,patient_id\na,p\n", "no column with a finding"),
        ("study_id,finding_0\n", "no study"),
        ("finding_0\n0.3\n", "must begin with"),
        ("", "must begin with"),
    ],
)
def test_a_faulty_scores_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        ScoreTable.read(path, ("finding_0", "finding_1"))
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_unlabelled_studies_are_one_sentence(tmp_path: Path) -> None:
    path, labels, table = write_pair(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        evaluate_scores(tmp_path / "none.csv", labels)
    with pytest.raises(UserError, match="cannot be read"):
        evaluate_scores(path, tmp_path / "none.csv")
    ScoreTable((*table.study_ids[:-1], "stranger"), table.keys, table.probabilities).write(path)
    with pytest.raises(UserError, match="1 studies without a row"):
        evaluate_scores(path, labels)


# Retrieval


def test_recall_equals_brute_force_when_nothing_ties() -> None:
    rng = np.random.default_rng(0)
    queries, candidates = rng.integers(0, 12, 20), rng.integers(0, 12, 30)
    similarity = rng.normal(size=(20, 30))
    result = recall_at_k(similarity, queries.tolist(), candidates.tolist(), (1, 3, 10), bootstraps=50)
    findable = [row for row in range(20) if queries[row] in candidates]
    for k in (1, 3, 10):
        top = [candidates[np.argsort(-similarity[row])[:k]] for row in findable]
        expected = np.mean([queries[row] in found for row, found in zip(findable, top, strict=True)])
        assert result[f"recall_at_{k}"] == pytest.approx(expected)
    assert result["queries"] == len(findable)
    assert result["without_match"] == 20 - len(findable)


def test_chance_is_k_over_n_for_one_match_and_hypergeometric_for_several() -> None:
    names = [str(number) for number in range(40)]
    single = recall_at_k(np.eye(40), names, names, (1, 5, 100), bootstraps=0)
    assert single["recall_at_1"] == 1
    assert [single[f"chance_recall_at_{k}"] for k in (1, 5, 100)] == pytest.approx([1 / 40, 5 / 40, 1])
    several = recall_at_k(np.zeros((1, 6)), ["a"], ["a", "b", "a", "c", "d", "e"], (2,), bootstraps=0)
    draws = list(itertools.combinations(range(6), 2))
    expected = np.mean([0 in draw or 2 in draw for draw in draws])
    assert several["chance_recall_at_2"] == pytest.approx(expected)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
@settings(max_examples=40, deadline=None)
def test_tied_similarities_are_worth_the_mean_over_their_orders(levels: list[int], data: st.DataObject) -> None:
    right = data.draw(st.lists(st.booleans(), min_size=len(levels), max_size=len(levels)))
    right[0] = True
    scores, relevant = np.array(levels, float), np.array(right)
    orders = {tuple(sorted(order, key=lambda i: -levels[i])) for order in itertools.permutations(range(len(levels)))}
    # Every order of the tied candidates is equally likely, so the set holds each exactly once.
    for k in range(1, len(levels) + 1):
        recall = np.mean([relevant[list(order[:k])].any() for order in orders])
        groups = ["yes" if match else f"no{number}" for number, match in enumerate(right)]
        got = recall_at_k(scores[None], ["yes"], groups, (k,), bootstraps=0)
        assert got[f"recall_at_{k}"] == pytest.approx(recall)
        precisions = [_brute_average_precision(relevant[list(order)], k) for order in orders]
        assert average_precision(scores, relevant, k) == pytest.approx(np.mean(precisions))


def _brute_average_precision(relevant: NDArray[np.bool_], k: int) -> float:
    found = [relevant[: place + 1].mean() for place in range(k) if relevant[place]]
    return float(sum(found) / min(k, relevant.sum()))


def test_a_constant_similarity_scores_exactly_chance() -> None:
    groups = [str(number // 2) for number in range(30)]
    result = recall_at_k(np.ones((30, 30)), groups, groups, (1, 5), bootstraps=0)
    assert result["recall_at_5"] == pytest.approx(result["chance_recall_at_5"])
    relevant = np.array(groups)[:, None] == np.array(groups)[None]
    precision = mean_average_precision(np.ones((30, 30)), relevant, ~np.eye(30, dtype=bool), bootstraps=0)
    assert precision["map"] == pytest.approx(precision["chance_map"])


def test_average_precision_without_ties_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    scores, relevant = rng.normal(size=50), rng.random(50) < 0.2
    assert average_precision(scores, relevant) == pytest.approx(metrics.average_precision_score(relevant, scores))
    assert average_precision(scores, np.zeros(50, dtype=bool)) is None


def test_the_interval_of_recall_resamples_groups_of_queries() -> None:
    rng = np.random.default_rng(2)
    names = [str(number) for number in range(60)]
    similarity = rng.normal(size=(60, 60)) + 2 * np.eye(60)
    single = recall_at_k(similarity, names, names, (5,), bootstraps=400)
    tripled = recall_at_k(np.tile(similarity, (3, 1)), names * 3, names, (5,), bootstraps=400)
    low, high = single["intervals"]["recall_at_5"]
    assert low < single["recall_at_5"] < high
    assert tripled["intervals"]["recall_at_5"] == pytest.approx([low, high], abs=0.02)


def test_retrieval_refuses_what_it_cannot_measure() -> None:
    with pytest.raises(ValueError, match="no query has a match"):
        recall_at_k(np.ones((1, 2)), ["a"], ["b", "c"])
    with pytest.raises(ValueError, match="not a finite"):
        recall_at_k(np.full((1, 1), np.nan), ["a"], ["a"])
    with pytest.raises(ValueError, match="similarity"):
        recall_at_k(np.ones((2, 1)), ["a"], ["a"])


def test_an_image_never_finds_itself_or_its_own_patient() -> None:
    rng = np.random.default_rng(3)
    states = (rng.random((40, 2)) < 0.4).astype(np.int8)
    patients = [f"p{row // 2}" for row in range(40)]
    other = np.array(patients)[:, None] != np.array(patients)[None]
    similarity = rng.normal(size=(40, 40))
    same = similarity + 1e6 * ~other
    got = share_label_measures(similarity, states, ["a", "b"], patients, bootstraps=20)
    assert share_label_measures(same, states, ["a", "b"], patients, bootstraps=20) == got
    rows = np.flatnonzero(states[:, 0] == 1)
    top = [[i for i in np.argsort(-similarity[row]) if other[row, i]][:5] for row in rows]
    assert got["findings"]["a"]["precision_at_5"] == pytest.approx(np.mean([states[found, 0].mean() for found in top]))
    assert got["findings"]["a"]["queries"] == len(rows)
    relevant = states[rows, 0][:, None] * states[:, 0][None] == 1
    expected = mean_average_precision(similarity[rows], relevant, other[rows], bootstraps=0)
    assert got["findings"]["a"]["map"] == pytest.approx(expected["map"])
    assert got["findings"]["a"]["chance_map"] == pytest.approx(expected["chance_map"])
    assert got["macro"]["map"] == pytest.approx(np.mean([got["findings"][key]["map"] for key in "ab"]))


def test_images_ordered_by_their_labels_share_them() -> None:
    states = np.tile(np.array([[1, 0], [0, 1], [0, 0]], np.int8), (6, 1))
    similarity = (states[:, None] == states[None]).all(axis=2).astype(float)
    got = share_label_measures(similarity, states, ["a", "b"], [str(n) for n in range(18)], (5,), bootstraps=0)
    assert got["macro"]["precision_at_5"] == got["macro"]["map"] == got["labels"]["jaccard_at_5"] == 1
    assert got["macro"]["chance_precision_at_5"] == pytest.approx(5 / 17)


# Label tables


def tables(seed: int = 0) -> tuple[LabelTable, LabelTable]:
    rng = np.random.default_rng(seed)
    states = rng.choice([1, 0, -1, -2], size=(120, 3), p=[0.3, 0.4, 0.1, 0.2]).astype(np.int8)
    noisy = np.where(rng.random(states.shape) < 0.2, rng.choice([1, 0, -1, -2], size=states.shape), states)
    studies = tuple(f"s{row}" for row in range(120))
    keys = ("cyst", "nodule", "effusion")
    order = rng.permutation(120)
    predicted = LabelTable(tuple(studies[i] for i in order), keys[::-1], noisy.astype(np.int8)[order][:, ::-1])
    return LabelTable(studies, keys, states), predicted


@pytest.mark.parametrize("not_mentioned", ["absent", "present", "exclude"])
@pytest.mark.parametrize("uncertain", ["absent", "present", "exclude"])
def test_label_agreement_is_that_of_scikit_learn_under_each_policy(not_mentioned: Any, uncertain: Any) -> None:
    gold, predicted = tables()
    result = compare_labels(gold, predicted, not_mentioned=not_mentioned, uncertain=uncertain, bootstraps=30)
    meaning = {"absent": 0, "present": 1, "exclude": None}
    means = {1: 1, 0: 0, -1: meaning[uncertain], -2: meaning[not_mentioned]}
    for column, key in enumerate(gold.keys):
        called = predicted.select([key]).rows(gold.study_ids)[:, 0]
        pairs = [(means[int(a)], means[int(b)]) for a, b in zip(gold.states[:, column], called, strict=True)]
        scored = [(a, b) for a, b in pairs if a is not None and b is not None]
        truth, call = zip(*scored, strict=True)
        got = result["findings"][key]
        assert got["precision"] == pytest.approx(metrics.precision_score(truth, call))
        assert got["recall"] == pytest.approx(metrics.recall_score(truth, call))
        assert got["f1"] == pytest.approx(metrics.f1_score(truth, call))
        assert got["kappa"] == pytest.approx(metrics.cohen_kappa_score(truth, call))
        assert got["tp"] + got["fp"] + got["fn"] + got["tn"] == len(scored)
        assert got["excluded_gold"] + got["excluded_predicted"] == 120 - len(scored)
    assert result["policy"] == {"not_mentioned": not_mentioned, "uncertain": uncertain}
    low, high = result["macro"]["intervals"]["f1"]
    assert low < result["macro"]["f1"] < high
    assert "uncertain counts as" in as_text(result, ("f1", "kappa"))


def test_a_labeler_that_is_uncertain_of_everything_hard_is_seen_by_its_coverage() -> None:
    gold = LabelTable(("a", "b", "c", "d"), ("cyst",), np.array([[1], [0], [1], [0]], np.int8))
    shy = LabelTable(gold.study_ids, gold.keys, np.array([[1], [0], [-1], [-1]], np.int8))
    result = compare_labels(gold, shy, bootstraps=0)
    assert result["macro"]["f1"] == 1
    assert result["macro"]["coverage"] == 0.5
    assert result["findings"]["cyst"]["excluded_predicted"] == 2


def test_a_finding_in_neither_table_has_no_f1_and_an_invented_one_has_zero() -> None:
    studies = ("a", "b", "c")
    gold = LabelTable(studies, ("none", "invented", "found"), np.array([[0, 0, 1], [0, 0, 0], [0, 0, 1]], np.int8))
    predicted = LabelTable(studies, gold.keys, np.array([[0, 1, 1], [0, 0, 0], [0, 0, 1]], np.int8))
    result = compare_labels(gold, predicted, bootstraps=0)
    assert [result["findings"][key]["f1"] for key in gold.keys] == [None, 0, 1]
    assert result["macro"]["f1"] == 0.5
    assert result["macro"]["findings"]["f1"] == 2


def test_labels_that_cannot_be_compared_are_one_sentence() -> None:
    gold, predicted = tables()
    with pytest.raises(UserError, match="no column 'nodule'"):
        compare_labels(gold, predicted.select(["cyst", "effusion"]))
    with pytest.raises(UserError, match="no row for study"):
        compare_labels(gold, LabelTable(("s0",), gold.keys, gold.states[:1]))
    with pytest.raises(UserError, match="no policy 'ignore'"):
        compare_labels(gold, predicted, uncertain="ignore")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="patient of study s0"):
        compare_labels(gold, predicted, patient_ids={})
    more = compare_labels(gold.select(["cyst"]), predicted, bootstraps=0)
    assert more["not_compared"] == ["effusion", "nodule"]


# Localisation

# A map of 4 x 5 x 3 cells of 24 x 24 x 48 mm over a mask of 3 mm voxels, in oblique-free LPS.
CELL = np.array([[0, 24.0, 0, -40.0], [24.0, 0, 0, 10.0], [0, 0, 48.0, 100.0], [0, 0, 0, 1]])
SHAPE = (4, 5, 3)


def mask_grid() -> tuple[NDArray[np.bool_], Floats]:
    """Return an empty mask whose voxels tile the cells exactly: 8 x 8 x 16 voxels of 3 mm a cell."""
    affine = CELL @ np.diag([1 / 8, 1 / 8, 1 / 16, 1])
    affine[:3, 3] = CELL[:3, 3] + CELL[:3, :3] @ (np.array([1 / 8, 1 / 8, 1 / 16]) / 2 - 0.5)
    return np.zeros((32, 40, 48), dtype=bool), affine


def stored(array: NDArray[Any], affine: Floats, order: tuple[int, ...], flips: tuple[bool, ...]) -> tuple[Any, Floats]:
    """Return the same mask in another axis order and direction, its affine following."""
    moved, turned = array.transpose(order), affine[:, [*order, 3]].copy()
    for axis, flip in enumerate(flips):
        if flip:
            turned[:, 3] += turned[:, axis] * (moved.shape[axis] - 1)
            turned[:, axis] *= -1
            moved = np.flip(moved, axis)
    return moved, turned


@given(
    st.tuples(st.integers(0, 31), st.integers(0, 39), st.integers(0, 47)),
    st.permutations(range(3)),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(max_examples=60, deadline=None)
def test_one_voxel_meets_exactly_the_cell_it_lies_in_however_the_mask_is_stored(
    voxel: tuple[int, int, int], order: list[int], flips: tuple[bool, bool, bool]
) -> None:
    mask, affine = mask_grid()
    mask[voxel] = True
    share = coverage(SHAPE, CELL, *stored(mask, affine, tuple(order), flips))
    assert np.argwhere(share > 0).tolist() == [[voxel[0] // 8, voxel[1] // 8, voxel[2] // 16]]
    assert share.max() == pytest.approx(1 / 1024)


def test_coverage_of_a_random_box_is_the_volume_both_share() -> None:
    rng = np.random.default_rng(0)
    half = np.array([12, 12, 24])
    for _ in range(20):
        # A mask of one box: exact overlap by hand in LPS, where the cells' axes are permuted (CELL) too.
        low, size = rng.uniform([-60, 0, 60], [40, 80, 150]), rng.uniform(5, 60, 3)
        voxels = np.array([3, 4, 5])
        affine = np.diag([*(size / voxels), 1.0])
        affine[:3, 3] = low + size / voxels / 2
        share = coverage(SHAPE, CELL, np.ones(voxels), affine)
        for index in np.ndindex(*SHAPE):
            centre = (CELL @ [*index, 1])[:3]
            both = np.clip(np.minimum(centre + half, low + size) - np.maximum(centre - half, low), 0, None)
            assert share[index] == pytest.approx(np.prod(both) / (24 * 24 * 48), abs=2e-3)


def test_hit_and_chance_of_a_heat_map_do_not_depend_on_the_masks_orientation() -> None:
    mask, affine = mask_grid()
    truth, body = mask.copy(), mask.copy()
    truth[10:20, 3:6, 20:30] = True
    body[8:, :, :32] = True
    heat = np.zeros(SHAPE)
    heat[2, 0, 1] = 1
    body_cells, met = 3 * 5 * 2, 2
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            turned, turned_affine = stored(truth, affine, order, flips)
            got = localise(heat, CELL, turned, turned_affine, body, affine)
            assert (got.hit, got.body_cells) == (1, body_cells)
            assert got.chance == pytest.approx(met / body_cells)
    heat[3, 4, 2] = 2
    assert localise(heat, CELL, truth, affine, body).hit == 0


def test_a_box_that_only_touches_the_finding_misses_it() -> None:
    mask, affine = mask_grid()
    mask[8:16, 8:16, 16:32] = True
    body = np.ones_like(mask)
    for index in np.ndindex(*SHAPE):
        heat = np.zeros(SHAPE)
        heat[index] = 1
        assert localise(heat, CELL, mask, affine, body).hit == (index == (1, 1, 1))
    # Affines in single precision, as NIfTI stores them, must not turn a touch into a hit.
    odd = np.diag([0.7 / 3, 0.7 / 3, 1.1 / 3, 1])
    odd[:3, 3] = -251.3, 103.7, -1203.9
    rough = (odd @ affine).astype(np.float32).astype(np.float64)
    assert not np.array_equal(rough, odd @ affine)
    assert np.argwhere(coverage(SHAPE, odd @ CELL, mask, rough) > 0).tolist() == [[1, 1, 1]]


def test_chance_is_also_that_of_the_inner_cells_a_reader_is_shown() -> None:
    mask, affine = mask_grid()
    mask[8:16, 8:16, 16:32] = True  # fills cell (1, 1, 1)
    inner = np.zeros(SHAPE, bool)
    inner[1:-1, 1:-1, 1:-1] = True
    found = localise(np.ones(SHAPE), CELL, mask, affine, np.ones_like(mask), inner=inner)
    assert (found.chance, found.chance_inner) == (pytest.approx(1 / 60), pytest.approx(1 / 6))
    everywhere = localise(np.ones(SHAPE), CELL, mask, affine, np.ones_like(mask))
    assert everywhere.chance_inner == everywhere.chance
    with pytest.raises(ValueError, match="body"):
        localise(np.ones(SHAPE), CELL, mask, affine, np.ones_like(mask), inner=np.zeros(SHAPE))


def test_a_constant_map_scores_the_share_of_cells_that_meet() -> None:
    mask, affine = mask_grid()
    mask[0, 0, 0] = True
    assert localise(np.ones(SHAPE), CELL, mask, affine, np.ones_like(mask)).hit == pytest.approx(1 / 60)


def test_localisation_refuses_what_it_cannot_measure() -> None:
    mask, affine = mask_grid()
    body = np.ones_like(mask)
    with pytest.raises(ValueError, match="empty"):
        localise(np.ones(SHAPE), CELL, mask, affine, body)
    mask[0, 0, 0] = True
    with pytest.raises(ValueError, match="body"):
        localise(np.ones(SHAPE), CELL, mask, affine, np.zeros_like(mask))
    with pytest.raises(ValueError, match="finite"):
        localise(np.full(SHAPE, np.nan), CELL, mask, affine, body)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(0.2), -math.sin(0.2)], [math.sin(0.2), math.cos(0.2)]]
    with pytest.raises(ValueError, match="not parallel"):
        localise(np.ones(SHAPE), CELL, mask, turn @ affine, body)
    # Oblique together, as a tilted volume and its own map are, is fine.
    assert localise(np.ones(SHAPE), turn @ CELL, mask, turn @ affine, body).hit == pytest.approx(1 / 60)


def test_hit_rate_stands_beside_chance_with_intervals() -> None:
    results = [Localisation(float(n % 4 > 0), 0.1, 0.2, 50) for n in range(40)]
    got = hit_rate(results, [f"p{n // 2}" for n in range(40)], bootstraps=200)
    assert (got["n"], got["patients"]) == (40, 20)
    assert got["hit_rate"] == 0.75
    assert got["above_chance"] == pytest.approx(0.65)
    assert (got["chance"], got["chance_inner"]) == (pytest.approx(0.1), pytest.approx(0.2))
    assert got["intervals"]["above_chance"][0] > 0
