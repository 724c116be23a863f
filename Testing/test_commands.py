"""The command line: help, exit codes, one sentence per mistake, progress."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from command_line import ROOT, Command, blocked, child, one_line
from greenrfm.commands.show import BarDisplay, LineDisplay

COMMANDS = (
    "demo",
    "cohort check",
    "distill",
    "labels compare",
    "phantoms chest",
    "phantoms knee",
    "train",
    "cancel",
    "cache info",
    "cache verify",
    "cache prune",
    "bundle check",
    "bundle info",
    "bundle import",
    "bundle half",
    "bundle tune",
    "read",
    "library add",
    "library search",
    "library info",
    "library delete",
    "library export",
    "library import",
    "library rebuild",
    "evaluate scores",
    "evaluate retrieval",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, greenrfm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    answer = greenrfm(*name.split(), "--help")
    assert answer.code == 0
    assert f"Example: greenrfm {name}" in answer.out
    assert answer.err == ""


def test_help_needs_nothing_but_typer_and_rich(tmp_path: Path) -> None:
    answer = child("--help", cwd=tmp_path, prologue=blocked("numpy", "SimpleITK", "onnxruntime", "torch", "yaml"))
    assert answer.code == 0, answer.err
    assert all(name.split()[0] in answer.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("raed", "did you mean 'read'"),
        ("--verbose", "--verbose"),
        ("read", "BUNDLE"),
        ("read tiny", "either volumes or --cohort"),
        ("read tiny a.nii --cohort cohort.csv", "either volumes or --cohort"),
        ("read tiny a.nii b.nii --series 1.2.3", "--series"),
        ("read tiny a.nii --field big", "--field"),
        ("read tiny a.nii --threads 0", "--threads"),
        ("library search lib --bundle tiny", "--image, --text or both"),
        ("distill cohort.csv --findings chest-ct-18", "--out"),
        ("distill cohort.csv --findings chest-ct-18 --labeler oracle --out l.csv", "--labeler"),
        ("phantoms chest --studies 0 --out p", "--studies"),
        ("labels compare a.csv b.csv --uncertain maybe", "--uncertain"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: str, says: str, greenrfm: Command) -> None:
    answer = greenrfm(*arguments.split())
    assert answer.code == 2
    assert says.lower() in one_line(answer).lower()
    assert "--help" in answer.err
    assert answer.out == ""


def test_a_group_without_a_command_shows_its_help(greenrfm: Command) -> None:
    answer = greenrfm("library")
    assert answer.code == 2
    assert "search" in answer.out + answer.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("read tiny missing.nii", "missing.nii"),
        ("read tiny cut.nii.gz", "damaged or cut off"),
        ("read tiny note.txt", "note.txt"),
        ("read tiny empty", "empty"),
        ("read empty good.nii.gz", "no bundle in empty"),
        ("read tiny good.nii.gz good.nii.gz", "given twice"),
        ("read tiny --cohort missing.csv", "missing.csv"),
        ("read tiny --cohort unknown.csv", "did you mean 'image'"),
        ("read tiny --cohort twice.csv", "study a twice"),
        ("read tiny --cohort lost.csv", "x.nii"),
        ("read tiny good.nii.gz --heatmaps note.txt/heat", "note.txt"),
        ("cohort check twice.csv", "study a twice"),
        ("cohort check note.txt", "no column 'study_id'"),
        ("distill lost.csv --findings chest-ct-81 --out l.csv", "did you mean 'chest-ct-18'"),
        ("distill mute.csv --findings chest-ct-18 --out l.csv", "no report"),
        ("labels compare missing.csv labels.csv", "missing.csv"),
        ("labels compare labels.csv other.csv", "lung_nodule"),
        ("phantoms chest --studies 1 --out .", "not empty"),
        ("train lost.csv --labels labels.csv --recipe lite --out run", "--findings"),
        ("train lost.csv --labels labels.csv --findings chest-ct-18 --recipe lite --out run", "no column"),
        ("bundle check missing", "no bundle in missing"),
        ("bundle info note.txt", "no bundle in note.txt"),
        ("library info empty", "empty"),
        ("library search missing --bundle tiny --text nodule", "missing"),
        ("library add lib mute.csv --bundle tiny --labels other.csv", "none of the bundle's findings"),
        ("evaluate scores scores.csv labels.csv", "from 0 to 1"),
        ("evaluate scores missing.csv labels.csv", "missing.csv"),
        ("evaluate retrieval tiny lost.csv", "split 'test'"),
        ("evaluate retrieval tiny mute.csv --split all", "no report"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_1(arguments: str, says: str, greenrfm: Command, mistakes: Path) -> None:
    answer = greenrfm(*arguments.split())
    assert answer.code == 1
    assert says in one_line(answer)
    assert answer.out == ""


@pytest.mark.parametrize(
    "arguments", ["read tiny cut.nii.gz", "cohort check unknown.csv", "cohort check twice.csv", "read tiny missing.nii"]
)
def test_a_mistake_is_one_sentence_in_a_real_process_too(arguments: str, mistakes: Path) -> None:
    answer = child(*arguments.split(), cwd=mistakes)
    assert answer.code == 1
    one_line(answer)
    assert answer.out == ""


def test_an_unknown_recipe_is_refused(greenrfm: Command, cohort: Path) -> None:
    pytest.importorskip("pydantic")
    labels = cohort.with_name("labels.csv")
    assert greenrfm("distill", cohort, "--findings", "chest-ct-18", "--out", labels).code == 0
    answer = greenrfm("train", cohort, "--labels", labels, "--recipe", "light", "--out", cohort.with_name("run"))
    assert answer.code == 1
    assert "did you mean 'lite'" in one_line(answer)


def test_a_missing_package_is_named_with_the_way_to_install_it(tmp_path: Path) -> None:
    answer = child("evaluate", "scores", "s.csv", "l.csv", cwd=tmp_path, prologue=blocked("scipy"))
    assert answer.code == 1
    assert "'scipy'" in one_line(answer)
    assert "greenrfm[train]" in answer.err


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one child is a POSIX matter")
def test_an_interruption_is_one_sentence_and_exit_130(tmp_path: Path) -> None:
    settings = ["--studies", "200", "--out", "out", "--matrix", "32", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "greenrfm", "phantoms", "chest", *settings],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "train")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("generate studies: 10 %")
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in rest


def test_a_log_gets_ten_lines_per_stage_with_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with LineDisplay() as show:
        for done in range(1001):
            show("stage 1 vision", done, 1000, {"loss": 0.5})
        show("export", 3, 3)
        show("export", 3, 3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[4].startswith("stage 1 vision: 50 % (500/1000), loss 0.5, ")
    assert lines[9:] == ["stage 1 vision: 100 % (1000/1000), loss 0.5", "export: 100 % (3/3)"]


def test_a_slow_stage_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with LineDisplay(clock=lambda: now) as show:
        for done in range(5):
            show("label reports", done, 1000)
            now += 25
    assert capsys.readouterr().err.splitlines() == ["label reports: 0 % (3/1000), 415 min 25 s left"]


def test_a_bar_shows_percent_and_metrics_and_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with BarDisplay(Console(file=screen, force_terminal=True, width=120)) as show:
        show("train", 0, 4)
        show("train", 2, 4, {"loss": 0.25})
        show.say("a result")
        print("[]")
        show("train", 4, 4, {"loss": 0.125})
        show("export", 0, 2)
    assert capsys.readouterr().out == "a result\n[]\n"
    assert "100%" in screen.getvalue()
    assert "loss 0.125" in screen.getvalue()
    assert "export" in screen.getvalue()
