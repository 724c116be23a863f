"""Runs in processes of their own: killed at random points, two at once, a hundred thousand reports."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from greenrfm.distill.journal import Journal
from greenrfm.distill.run import distill_reports
from greenrfm.findings import LabelTable
from some_labelers import MadeUp, outputs, reports, run

ROOT = Path(__file__).resolve().parents[1]
STUDIES, FAILING, KILLS = 1200, (5, 600, 1199), 25
CHILD = f"""
import os, sys
from pathlib import Path
from some_labelers import MadeUp, reports, run
from greenrfm.errors import UserError

folder, workers = Path(sys.argv[1]), int(sys.argv[2])
log = os.open(folder / "asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Slow(MadeUp):
    def label(self, report):
        os.write(log, report.split()[-4 if "FAIL" in report else -3].encode() + b"\\n")
        return super().label(report)

print("ready", flush=True)
try:
    run(Slow(0.004), reports({STUDIES}, {FAILING}), folder, workers=workers)
except UserError as error:
    sys.exit(str(error))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a child and wait until it says that it is ready."""
    path = os.pathsep.join((str(ROOT / "train"), str(ROOT / "Testing")))
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n", child.stderr and child.stderr.read()
    return child


def end(child: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = child.communicate(timeout=120)
    return child.returncode, out + err


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_at_random_points_a_run_loses_nothing_and_labels_nothing_twice(tmp_path: Path) -> None:
    chance, kills = random.Random(0), 0
    while True:
        child = start(CHILD, tmp_path, workers := chance.choice((1, 2, 4)))
        try:
            child.wait(chance.uniform(0, 0.25) if kills < KILLS else None)
        except subprocess.TimeoutExpired:
            child.kill()
            kills += 1
        code, said = end(child)
        if code != -signal.SIGKILL:
            break
    assert code == 0, said
    assert kills >= 20, f"only {kills} kills met a run that went on: label more studies"
    studies = reports(STUDIES, FAILING)
    run(MadeUp(), studies, tmp_path / "undisturbed", workers=workers)
    assert outputs(tmp_path) == outputs(tmp_path / "undisturbed")
    lines = (tmp_path / "labels.journal.jsonl").read_bytes().splitlines()
    labelled = Counter(json.loads(line)["study_id"] for line in lines[1:] if b'"failed"' not in line)
    assert labelled == Counter(study for study, report in studies if "FAIL" not in report)
    # Asked again: only what was under way when a kill came, at most as many as there were workers.
    asked = len((tmp_path / "asked").read_bytes().splitlines())
    again = asked - STUDIES - len(FAILING) * kills
    print(f"{kills} kills, {asked} reports asked for {STUDIES}, {max(again, 0)} of them under way at a kill")
    assert again <= 4 * kills
    left = {path.name for path in tmp_path.iterdir()} - {"asked", "undisturbed"}
    assert {name for name in left if not name.startswith(".")} == {
        "labels.csv", "labels.evidence.jsonl", "labels.failed.csv", "labels.journal.jsonl", "labels.journal.lock"
    }  # fmt: skip


# The n-th time that a file is opened for writing, replaced or removed, the process is gone.
KILLED_AT = """
import builtins, io, os, signal
steps = int(sys.argv[3])

def counted(call):
    def step(*arguments, **options):
        global steps
        writes = call is not builtins_open or any(m in str(arguments[1:] or options) for m in "wa")
        steps -= writes
        if writes and steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return step

builtins_open = io.open
io.open = counted(builtins_open)
os.replace, os.unlink = counted(os.replace), counted(os.unlink)
"""
BRIEF = CHILD.replace(str(STUDIES), "4").replace(str(FAILING), "(2,)")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_killed_at_each_step_of_writing_the_outputs_a_run_is_mended_by_the_next(tmp_path: Path) -> None:
    studies = reports(4, (2,))
    run(MadeUp(), studies, tmp_path / "undisturbed")
    codes = []
    for steps in range(30):
        folder = tmp_path / str(steps)
        folder.mkdir()
        codes.append(end(start(BRIEF.replace('print("ready"', KILLED_AT + 'print("ready"'), folder, 2, steps))[0])
        if codes[-1] == 0:
            break
        run(MadeUp(), studies, folder)
        assert outputs(folder) == outputs(tmp_path / "undisturbed")
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert codes[-1] == 0
    assert len(codes) > 5


def test_of_two_runs_on_one_output_the_second_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    first = start(CHILD, tmp_path, 4)
    while not (tmp_path / "labels.journal.jsonl").exists():
        time.sleep(0.01)
    began = time.monotonic()
    code, said = end(start(CHILD, tmp_path, 4))
    assert code == 1
    assert f"open elsewhere (process {first.pid}); wait until that greenrfm command has ended" in said
    assert "Traceback" not in said
    print(f"refused after {time.monotonic() - began:.1f} s, Python's start included")
    code, said = end(first)
    assert code == 0, said
    run(MadeUp(), reports(STUDIES, FAILING), tmp_path / "undisturbed")
    assert outputs(tmp_path) == outputs(tmp_path / "undisturbed")


def test_of_two_runs_that_begin_together_one_goes_on(tmp_path: Path) -> None:
    both = [start(BRIEF, tmp_path, 2) for _ in range(2)]
    ends = sorted(end(child) for child in both)
    assert ends[0][0] == 0
    # The other one was refused, or came when all was done.
    assert ends[1][0] == 0 or "open elsewhere" in ends[1][1]
    run(MadeUp(), reports(4, (2,)), tmp_path / "undisturbed")
    assert outputs(tmp_path) == outputs(tmp_path / "undisturbed")


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
@pytest.mark.parametrize("limit", [100, 2500, 3333])
def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(limit: int, tmp_path: Path) -> None:
    code = BRIEF.replace("4, (2,)", "9, (2,)").replace('print("ready"', FULL + 'print("ready"')
    code = code.replace("except UserError as error", "except OSError as error")
    returned, said = end(start(code, tmp_path, 2, limit))
    assert returned == 1
    assert "File too large" in said
    assert "Traceback" not in said
    studies = reports(9, (2,))
    run(MadeUp(), studies, tmp_path)
    run(MadeUp(), studies, tmp_path / "undisturbed")
    assert outputs(tmp_path) == outputs(tmp_path / "undisturbed")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's own peak")
def test_many_reports_need_little_memory(tmp_path: Path) -> None:
    count = int(os.environ.get("GREENRFM_MANY_REPORTS", "10000"))
    code = f"""
import re, sys
from pathlib import Path
from some_labelers import MadeUp, run

class Forgetful(MadeUp):
    def label(self, report):
        self.calls.clear()
        return super().label(report)

print("ready", flush=True)
studies = [(f"study-{{n:08}}", f"Made-up report number {{n}}. " * 90) for n in range({count})]
run(Forgetful(), studies, Path(sys.argv[1]), workers=8)
# Not ru_maxrss, which begins with that of the process that started this one.
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""
    returned, said = end(start(code, tmp_path))
    assert returned == 0, said
    megabytes = float(said)
    print(f"{count} reports of 2.5 kB: {megabytes:.0f} MB at most")
    # Of 100,000 less than 1 GB: what does not grow with their number, and 10 kB for each.
    assert megabytes < 100 + count * 0.0085
    assert len(LabelTable.read(tmp_path / "labels.csv").study_ids) == count


def test_the_overhead_beside_the_labelers_own_time_is_small(tmp_path: Path) -> None:
    studies, own, each = reports(400), list[float](), list[float]()
    for attempt in range(3):
        labeler = MadeUp()
        began = time.perf_counter()
        for _, report in studies:
            labeler.label(report)
        own.append(time.perf_counter() - began)
        began = time.perf_counter()
        with Journal(tmp_path / f"{attempt}.csv") as journal:
            distill_reports(labeler, studies, journal, workers=8)
        each.append(time.perf_counter() - began)
    overhead = (statistics.median(each) - statistics.median(own)) / len(studies)
    print(f"overhead {1e3 * overhead:.2f} ms per report, outputs included ({len(studies)} reports, 8 workers)")
    assert overhead < 0.005
