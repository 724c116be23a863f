"""`greenrfm read` and `greenrfm bundle`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from command_line import REPORTS, Command, blocked, chest, child, one_line, write_csv
from greenrfm.bundle import Bundle
from greenrfm.evaluation import ScoreTable
from greenrfm.reading import Reader
from greenrfm.volumes import Volume, read_volume, write_volume
from make_tiny_bundle import make_tiny_bundle


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_every_file_format_gives_the_same_reading(
    suffix: str, greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(2), tmp_path / f"scan{suffix}")
    answer = greenrfm("read", bundle.folder, tmp_path / f"scan{suffix}", "--json", "--threads", "1")
    assert answer.code == 0
    (entry,) = answer.json
    expected = Reader(bundle, threads=1).read(chest(2), study_id="scan").to_dict()
    assert entry["study"] == "scan"
    assert set(entry) >= {"study", "findings", "warnings", "notice", "bundle", "prior"}
    assert [finding["call"] for finding in entry["findings"]] == [f["call"] for f in expected["findings"]]
    np.testing.assert_allclose(
        [finding["probability"] for finding in entry["findings"]],
        [finding["probability"] for finding in expected["findings"]],
        atol=1e-4,
    )


def test_the_notice_stands_above_the_scores(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    write_volume(chest(1), tmp_path / "scan.nii.gz")
    out = greenrfm("read", bundle.folder, tmp_path / "scan.nii.gz").out
    order = [out.index(text) for text in ("Not for diagnostic use", "mean nothing", "Lung nodule")]
    assert order == sorted(order)
    research = make_tiny_bundle(tmp_path / "research")
    out = greenrfm("read", research.folder, tmp_path / "scan.nii.gz").out
    assert "Not for diagnostic use" in out
    assert "phantoms" not in out


def test_warnings_stand_between_notice_and_scores(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    odd = Volume((chest(1).array // 20 + 100).astype(np.int16), chest(1).affine)
    write_volume(odd, tmp_path / "odd.nii.gz")
    out = greenrfm("read", bundle.folder, tmp_path / "odd.nii.gz", "--overrule").out
    assert out.index("mean nothing") < out.index("Warning: ") < out.index("Lung nodule")
    withheld = greenrfm("read", bundle.folder, tmp_path / "odd.nii.gz").out
    assert "Scores withheld: " in withheld
    assert "Lung nodule" not in withheld


def test_one_unreadable_volume_does_not_stop_the_others(greenrfm: Command, mistakes: Path) -> None:
    write_volume(chest(2), mistakes / "second.nrrd")
    answer = greenrfm("read", "tiny", "good.nii.gz", "cut.nii.gz", "second.nrrd", "--json", "--out", "out")
    assert answer.code == 1
    assert [entry["study"] for entry in answer.json] == ["good", "second"]
    said = [line for line in answer.err.splitlines() if not line.startswith("read: ")]
    assert len(said) == 1
    assert "cut.nii.gz" in said[0]
    assert ScoreTable.read(mistakes / "out" / "scores.csv").study_ids == ("good", "second")


def test_out_holds_what_json_prints_and_scores_that_evaluation_reads(
    greenrfm: Command, bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--json", "--out", tmp_path / "out")
    assert answer.code == 0
    assert json.loads((tmp_path / "out" / "readings.json").read_text(encoding="utf-8")) == answer.json
    scores = ScoreTable.read(tmp_path / "out" / "scores.csv", bundle.findings.keys)
    assert scores.study_ids == tuple(REPORTS)
    assert scores.patient_ids == ("p1", "p2", "p3")
    expected = [[finding["probability"] for finding in entry["findings"]] for entry in answer.json]
    np.testing.assert_array_equal(scores.probabilities, expected)


def test_heat_maps_are_one_file_per_finding_whose_mean_is_the_score(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(2), tmp_path / "scan.nii.gz")
    answer = greenrfm("read", bundle.folder, tmp_path / "scan.nii.gz", "--json", "--heatmaps", tmp_path / "heat")
    calibration = bundle.manifest.calibration
    means = []
    for key in bundle.findings.keys:
        heat = read_volume(tmp_path / "heat" / "scan" / f"{key}.nii.gz")
        assert heat.shape == (8, 8, 8)
        means.append(heat.array.mean())
    probabilities = [finding["probability"] for finding in answer.json[0]["findings"]]
    np.testing.assert_allclose(calibration.probability(means), probabilities, atol=1e-4)


def test_volumes_of_one_name_in_two_folders_are_told_apart(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    for folder in ("left", "right"):
        write_volume(chest(1), tmp_path / folder / "ct.nii.gz")
    answer = greenrfm("read", bundle.folder, tmp_path / "left/ct.nii.gz", tmp_path / "right/ct.nii.gz", "--json")
    assert [entry["study"] for entry in answer.json] == ["left-ct", "right-ct"]


def test_a_study_id_that_no_file_system_takes_stays_inside_the_folder(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(1), tmp_path / "scan.nii.gz")
    rows = [["../../escape", "p1", "scan.nii.gz"], ["a/b", "p2", "scan.nii.gz"], ["a_b", "p3", "scan.nii.gz"]]
    write_csv(tmp_path / "cohort.csv", [["study_id", "patient_id", "image"], *rows])
    heat = tmp_path / "deep" / "er" / "heat"
    assert greenrfm("read", bundle.folder, "--cohort", tmp_path / "cohort.csv", "--heatmaps", heat).code == 0
    assert len(list(heat.iterdir())) == 3
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"er"}


def test_reading_distilling_and_searching_need_no_training_package(
    bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    without = blocked("torch", "transformers", "pandas", "scipy", "sklearn", "monai", "onnx", "matplotlib")
    library, labels = tmp_path / "library", tmp_path / "labels.csv"
    for arguments in (
        ("read", bundle.folder, cohort.with_name("s1.nii.gz"), "--heatmaps", tmp_path / "heat", "--out", tmp_path),
        ("distill", cohort, "--findings", "chest-ct-18", "--out", labels),
        ("library", "add", library, cohort, "--bundle", bundle.folder, "--labels", labels),
        ("library", "search", library, "--bundle", bundle.folder, "--text", "lung nodule", "--json"),
    ):
        answer = child(*arguments, cwd=tmp_path, prologue=without)
        assert answer.code == 0, answer.err
    assert len(answer.json) == 3


def test_every_real_ct_is_read(greenrfm: Command, bundle: Bundle, shared_data: Path) -> None:
    from test_shared_volumes import CT

    paths = [shared_data / name for name, *_ in CT]
    answer = greenrfm("read", bundle.folder, *paths, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json) == len({entry["study"] for entry in answer.json}) == len(paths)
    for entry in answer.json:
        assert "mean nothing" in entry["notice"]
        assert all(0 <= finding["probability"] <= 1 for finding in entry["findings"])


def test_a_bundle_is_checked_and_described(greenrfm: Command, bundle: Bundle) -> None:
    checks = greenrfm("bundle", "check", bundle.folder, "--json").json
    assert all(check["ok"] for check in checks)
    facts = greenrfm("bundle", "info", bundle.folder, "--json").json
    assert facts["hash"] == bundle.hash
    assert facts["intended_use"] == "demonstration"
    assert "mean nothing" in greenrfm("bundle", "info", bundle.folder).out


def test_a_bundle_that_was_changed_fails_its_check(greenrfm: Command, tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "changed").folder
    content = bytearray((folder / "tokenizer.json").read_bytes())
    content[-2] ^= 1
    (folder / "tokenizer.json").write_bytes(bytes(content))
    answer = greenrfm("bundle", "check", folder)
    assert answer.code == 1
    assert "fails files" in one_line(answer)
    assert "FAILED  files" in answer.out
