"""The commands on tables: distill, labels, evaluate, cohort, phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import REPORTS, Command, one_line, write_csv
from greenrfm.bundle import Bundle
from greenrfm.findings import LabelTable


def test_distilling_writes_labels_and_evidence_and_prints_no_report(greenrfm: Command, cohort: Path) -> None:
    labels = cohort.with_name("labels.csv")
    answer = greenrfm("distill", cohort, "--findings", "chest-ct-18", "--labeler", "lexicon", "--out", labels)
    assert answer.code == 0
    table = LabelTable.read(labels)
    assert table.study_ids == tuple(REPORTS)
    assert table.select(["lung_nodule", "pleural_effusion", "emphysema"]).states.tolist() == [
        [1, 0, -2],
        [0, 1, -2],
        [-2, -2, 1],
    ]
    evidence = [json.loads(line) for line in labels.with_name("labels.evidence.jsonl").read_text("utf-8").splitlines()]
    assert {(row["study_id"], row["finding"]) for row in evidence} >= {("s1", "lung_nodule"), ("s3", "emphysema")}
    assert "lobe" not in answer.out + answer.err
    assert "centrilobular" not in answer.out + answer.err


def test_labels_are_compared_by_the_policy_that_is_asked_for(greenrfm: Command, tmp_path: Path) -> None:
    write_csv(tmp_path / "gold.csv", [["study_id", "nodule"], ["a", "1"], ["b", "0"], ["c", "1"], ["d", ""]])
    write_csv(tmp_path / "labels.csv", [["study_id", "nodule"], ["a", "1"], ["b", "0"], ["c", ""], ["d", "-1"]])
    command = ("labels", "compare", tmp_path / "gold.csv", tmp_path / "labels.csv")
    assert greenrfm(*command, "--json").json["macro"]["recall"] == pytest.approx(0.5)
    assert greenrfm(*command, "--json", "--not-mentioned", "exclude").json["macro"]["recall"] == 1
    assert "nodule" in greenrfm(*command).out


def test_scores_are_evaluated(greenrfm: Command, tmp_path: Path) -> None:
    states, values = "111000", (0.9, 0.8, 0.3, 0.4, 0.2, 0.1)
    write_csv(tmp_path / "labels.csv", [["study_id", "nodule"], *([f"s{n}", s] for n, s in enumerate(states))])
    write_csv(tmp_path / "scores.csv", [["study_id", "nodule"], *([f"s{n}", str(v)] for n, v in enumerate(values))])
    command = ("evaluate", "scores", tmp_path / "scores.csv", tmp_path / "labels.csv")
    result = greenrfm(*command, "--json").json
    assert result["macro"]["auroc"] == pytest.approx(8 / 9)
    assert result["n"] == 6
    assert "0.889" in greenrfm(*command).out


def test_retrieval_stands_beside_its_chance(greenrfm: Command, bundle: Bundle, cohort: Path) -> None:
    answer = greenrfm("evaluate", "retrieval", bundle.folder, cohort, "--json")
    assert answer.code == 0
    result = answer.json
    assert (result["n"], result["split"]) == (3, "test")
    assert result["chance_recall_at_1"] == pytest.approx(1 / 3)
    assert result["ks"] == [1]
    assert result["recall_at_1"] == result["honest"]["text_to_image"]["recall_at_1"]
    text = greenrfm("evaluate", "retrieval", bundle.folder, cohort, "--split", "all").out
    assert "chance recall" in text
    assert "0.333" in text


def test_a_cohort_is_checked(greenrfm: Command, cohort: Path) -> None:
    answer = greenrfm("cohort", "check", cohort, "--json")
    assert answer.code == 0
    assert answer.json["studies"] == 3
    assert answer.json["splits"] == {"test": 3}
    cohort.with_name("s3.nii.gz").unlink()
    answer = greenrfm("cohort", "check", cohort)
    assert answer.code == 1
    assert "1 problem" in one_line(answer)
    assert "s3.nii.gz does not exist" in answer.out


def test_phantoms_are_a_cohort_that_passes_the_check(
    greenrfm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("--studies", "3", "--matrix", "32", "--workers", "1", "--seed", "5", "--json")
    answer = greenrfm("phantoms", "chest", "--out", "made", *settings)
    assert answer.code == 0
    assert answer.json["studies"] == 3
    assert greenrfm("cohort", "check", "made/cohort.csv").code == 0
    assert len(LabelTable.read(tmp_path / "made" / "truth.csv").study_ids) == 3
