"""Running the command line in tests: in this process, in a child Python, on a tiny bundle and a tiny cohort."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from greenrfm.bundle import Bundle
from greenrfm.commands.main import run
from greenrfm.volumes import Volume, write_volume
from make_tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).resolve().parents[1]
REPORTS = {
    "s1": "There is a nodule in the right upper lobe. No pleural effusion.",
    "s2": "Moderate pleural effusion on the left. No lung nodule.",
    "s3": "Severe centrilobular emphysema.",
}


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def greenrfm(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs one command line in this process."""

    def command(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return command


def child(*arguments: str | Path, cwd: Path, prologue: str = "") -> Answer:
    """Run one command line in a Python of its own, after the code `prologue`."""
    code = f"{prologue}\nfrom greenrfm.commands.main import main\nmain()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "train"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment,
        timeout=60,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def blocked(*packages: str) -> str:
    """Return code after which importing these packages fails."""
    return f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(packages)!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def chest(seed: int) -> Volume:
    """Return a soft-tissue body with air-filled lungs and a few dense spots in air, 96 × 96 × 96 mm."""
    random = np.random.default_rng(seed)
    array = random.normal(40, 20, (48, 48, 24))
    array[12:36, 6:20, 2:22] = array[12:36, 28:42, 2:22] = -850 + 60 * seed
    array[[0, 1, -2, -1]] = array[:, [0, 1, -2, -1]] = -1000
    for _ in range(4 * seed):
        i, j, k = random.integers(4, 20, 3)
        array[i : i + 6, j : j + 6, k : k + 3] = 300
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = (-48, -48, 100)
    return Volume(array.astype(np.int16), affine)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle, for demonstration."""
    return make_tiny_bundle(tmp_path_factory.mktemp("commands") / "tiny", "demonstration")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Return a cohort.csv of three patients with volumes and reports."""
    return make_cohort(tmp_path)


def make_cohort(folder: Path) -> Path:
    lines = [["study_id", "patient_id", "image", "report", "modality", "study_date", "split"]]
    for number, (study, report) in enumerate(REPORTS.items(), start=1):
        write_volume(chest(number), folder / f"{study}.nii.gz")
        lines.append([study, f"p{number}", f"{study}.nii.gz", report, "CT", f"2024-01-0{number}", "test"])
    path = folder / "cohort.csv"
    write_csv(path, lines)
    return path


def write_csv(path: Path, lines: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)


def one_line(answer: Answer) -> str:
    """Return what stderr says, which must be one line and no traceback."""
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert "Traceback" not in lines[0]
    return lines[0]


@pytest.fixture
def mistakes(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with faulty files; `tiny` is the bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(bundle.folder)
    write_volume(chest(1), tmp_path / "good.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:2000])
    (tmp_path / "note.txt").write_text("no volume")
    (tmp_path / "empty").mkdir()
    write_csv(tmp_path / "unknown.csv", [["study_id", "patient_id", "imgae"], ["a", "p", "x.nii"]])
    write_csv(tmp_path / "twice.csv", [["study_id", "patient_id", "image"], ["a", "p", "x.nii"], ["a", "p", "y.nii"]])
    write_csv(tmp_path / "lost.csv", [["study_id", "patient_id", "image", "report"], ["a", "p", "x.nii", "Normal."]])
    write_csv(tmp_path / "mute.csv", [["study_id", "patient_id", "image"], ["a", "p", "good.nii.gz"]])
    write_csv(tmp_path / "labels.csv", [["study_id", "lung_nodule"], ["a", "1"]])
    write_csv(tmp_path / "other.csv", [["study_id", "gallstone"], ["a", "1"]])
    write_csv(tmp_path / "scores.csv", [["study_id", "lung_nodule"], ["a", "1.5"]])
    return tmp_path
