"""`greenrfm cancel` from another process: the training saves, says so, and goes on with --resume."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from command_line import write_csv
from greenrfm.cohort import write_cohort
from greenrfm.commands.main import run
from test_training import KEYS, cohort_of
from test_training_torchrun import FINDINGS, RECIPE, arguments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cohort, labels = cohort_of(tmp_path, 24, (20, 20, 20))
    write_cohort(cohort, tmp_path / "cohort.csv")
    rows = zip(labels.study_ids, labels.rows(labels.study_ids), strict=True)
    write_csv(tmp_path / "labels.csv", [["study_id", *KEYS], *([name, *map(str, row)] for name, row in rows)])
    (tmp_path / "findings.yaml").write_text(yaml.safe_dump(FINDINGS))
    longer = RECIPE | {"stage1_vision": RECIPE["stage1_vision"] | {"epochs": 100_000}}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(longer))
    return tmp_path


def test_a_cancelled_training_saves_and_ends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "greenrfm", *arguments(folder, "run")], stderr=subprocess.PIPE, text=True
    )
    try:
        metrics = folder / "run" / "metrics.jsonl"
        # Some lines: steps were taken. The display's first line comes after a minute.
        while not (metrics.exists() and metrics.read_text().count("\n") > 3):
            assert child.poll() is None
            time.sleep(0.1)
        assert run(["cancel", str(folder / "run")]) == 0
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 1
    assert "cancelled" in said.splitlines()[-1]
    assert said.rstrip().endswith("go on with --resume")
    assert list((folder / "run").glob("checkpoints/*/*"))
    assert not (folder / "run" / "cancel").exists()
    capsys.readouterr()
    assert run(["cancel", str(folder / "run")]) == 1
    assert "no training runs" in capsys.readouterr().err


def test_a_folder_without_a_run_cannot_be_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cancel", str(tmp_path)]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
