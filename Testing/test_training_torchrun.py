"""The public command line under torchrun: two processes, one bundle, and Ctrl-C that loses nothing.

What two processes promise against one. Every process draws crops of its own and, on CPUs, batch normalisation sees
only its own share: so the run below draws whole fields without augmentation, and the one process that it is compared
with computes the batch in the same halves (micro_batch). Weights are then the same but for rounding. Running
statistics are not: those of the first process's halves are kept, where one process takes all halves in turn.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from command_line import write_csv
from greenrfm.bundle import Bundle
from greenrfm.cohort import write_cohort
from greenrfm.commands.main import run
from greenrfm.training.checkpoints import Position
from greenrfm.training.metrics import read_metrics
from test_training import KEYS, cohort_of

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform == "win32", reason="gloo and signals to a group of processes as on Unix"),
]
BATCH, STEPS = 8, 48
RECIPE: dict[str, Any] = {
    "name": "two",
    "description": "Vision alone, small enough for a test; nothing is random but the order and the first weights.",
    "preprocessing": {
        "spacing": [3.0, 3.0, 4.0], "size": [20, 20, 20], "crop": [20, 20, 20],
        "intensity": "window", "window": [-1000.0, 200.0], "shift": 400.0, "scale": 600.0,
    },
    "network": {"width": 4, "stem": [4, 4, 4], "vision_weights": "random"},
    "labels": {"uncertain": "mask", "not_mentioned": "mask"},
    "augmentation": {"offset": 0.0, "gain": 0.0, "mirror": False},
    "stage1_vision": {"epochs": 12, "batch": BATCH, "rate": 1e-2, "encoder_rate": 1e-3, "clip": 1.0},
}  # fmt: skip
FINDINGS = {
    "name": "two", "title": "Two findings", "modality": "CT", "body_part": "chest",
    "findings": [{"key": key, "name": key.replace("_", " ").capitalize()} for key in KEYS],
}  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a run under torchrun ended: what both processes and torchrun itself said."""

    code: int
    out: str
    err: str
    checkpoints: tuple[str, ...]


def arguments(folder: Path, out: str, recipe: str = "two.yaml") -> list[str]:
    return [
        "train", str(folder / "cohort.csv"), "--labels", str(folder / "labels.csv"), "--findings",
        str(folder / "findings.yaml"), "--recipe", str(folder / recipe), "--cache", str(folder / "cache"),
        "--out", str(folder / out),
    ]  # fmt: skip


def torchrun(folder: Path, *more: str, interrupt_at: str = "") -> Ended:
    """Train in two processes; once a line of progress begins with `interrupt_at`, press Ctrl-C."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    child = subprocess.Popen(
        [*command, "-m", "greenrfm", *arguments(folder, "run"), *more],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    said = []
    try:
        assert child.stderr is not None
        for line in child.stderr:
            said.append(line)
            if interrupt_at and line.startswith(interrupt_at):
                child.send_signal(signal.SIGINT)
                interrupt_at = ""
        out, _ = child.communicate(timeout=120)
    finally:
        child.kill()
    checkpoints = sorted((folder / "run").glob("checkpoints/*/*"))
    return Ended(child.returncode, out, "".join(said), tuple(path.name for path in checkpoints))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun")
    cohort, labels = cohort_of(folder, 40, (20, 20, 20))
    write_cohort(cohort, folder / "cohort.csv")
    rows = labels.rows(labels.study_ids)
    write_csv(
        folder / "labels.csv",
        [["study_id", *KEYS], *([name, *map(str, row)] for name, row in zip(labels.study_ids, rows, strict=True))],
    )
    (folder / "findings.yaml").write_text(yaml.safe_dump(FINDINGS))
    (folder / "two.yaml").write_text(yaml.safe_dump(RECIPE))
    halves = RECIPE | {"stage1_vision": RECIPE["stage1_vision"] | {"micro_batch": BATCH // 2}}
    (folder / "halves.yaml").write_text(yaml.safe_dump(halves))
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> Bundle:
    """Return what one process trains, half a batch at a time."""
    assert run(arguments(folder, "one", "halves.yaml")) == 0
    return Bundle.load(folder / "one" / "bundle")


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> Ended:
    return torchrun(folder, interrupt_at="stage 1 vision")


@pytest.fixture(scope="module")
def resumed(folder: Path, interrupted: Ended) -> Ended:
    return torchrun(folder, "--resume")


def test_ctrl_c_saves_in_two_processes_and_ends(folder: Path, interrupted: Ended):
    assert interrupted.code != 0
    (name,) = interrupted.checkpoints
    content = torch.load(folder / "run" / "checkpoints" / "stage_1_vision" / name, weights_only=True)
    assert 0 < Position(**content["position"]).step < STEPS
    assert len(content["random"]) == 2  # of both processes
    assert interrupted.err.count("interrupted; files that were finished are kept") == 1
    assert "greenrfm/" not in interrupted.err.replace("-m greenrfm", "")  # torchrun's traceback, none of ours


def test_resumed_it_ends_with_one_bundle_and_one_voice(folder: Path, interrupted: Ended, resumed: Ended):
    assert resumed.code == 0, resumed.err
    assert resumed.out.count("bundle: ") == 1
    assert list(folder.glob("run/**/manifest.json")) == [folder / "run" / "bundle" / "manifest.json"]
    lines = [line for line in (interrupted.err + resumed.err).splitlines() if line.startswith("stage 1 vision")]
    assert len(lines) == len(set(lines)) <= 12  # a tenth each: no step was told by both processes
    epochs = [line["epoch"] for line in read_metrics(folder / "run" / "metrics.jsonl") if line["kind"] == "epoch"]
    assert epochs == list(range(1, 13))


def test_two_processes_have_the_weights_of_one(folder: Path, one: Bundle, resumed: Ended):
    first, second = (torch.load(folder / out / "stage1_vision.pt", weights_only=True) for out in ("one", "run"))
    assert first.keys() == second.keys()
    for name, value in first.items():
        if "running_" not in name and "num_batches" not in name:
            torch.testing.assert_close(
                second[name], value, rtol=1e-3, atol=2e-4, msg=lambda text, name=name: name + text
            )


def test_two_processes_have_nearly_the_scores_of_one(folder: Path, one: Bundle, resumed: Ended):
    two = Bundle.load(folder / "run" / "bundle")
    np.testing.assert_allclose(two.weight, one.weight, atol=2e-4)
    areas = [[bundle.manifest.metrics["findings"][key]["auroc"] for key in KEYS] for bundle in (one, two)]
    np.testing.assert_allclose(areas[0], areas[1], atol=0.1)
