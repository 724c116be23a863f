"""Kill a process that adds cases to a library, again and again, and look what is left.

    python train/benchmarks/library_kill.py /tmp/killed --cases 10000

A child process adds the cases in batches and says after each how many are safe; after a random time it gets SIGKILL.
The library is then opened: every acknowledged case must be there, with its report and latent, and none twice. Then the
next child goes on, until all are in. The last line counts kills and failures.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.library import Case, CaseLibrary

SIZE = 768


def main() -> None:
    """Add, kill, look, until all cases are in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--longest", type=float, default=6.0, help="seconds after which a child is killed at the latest"
    )
    parser.add_argument("--add-from", type=int, default=-1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.add_from >= 0:
        add(arguments.library, arguments.add_from, arguments.cases)
        return
    chance, kills, safe, slowest = random.Random(arguments.seed), 0, 0, 0.0
    CaseLibrary.create(arguments.library, bundle_hash="b" * 64, dimension=SIZE, keys=()).close()
    while safe < arguments.cases:
        command = [sys.executable, __file__, str(arguments.library), "--cases", str(arguments.cases)]
        child = subprocess.Popen([*command, "--add-from", str(safe)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        if child.stdout.readline() == "open\n":
            timer = threading.Timer(chance.uniform(0, arguments.longest), child.send_signal, [signal.SIGKILL])
            timer.start()
        for line in child.stdout:
            safe = int(line)
        timer.cancel()
        code = child.wait()
        if code not in (0, -signal.SIGKILL):
            sys.exit(f"the child ended with {code}")
        kills += code == -signal.SIGKILL
        begin = time.perf_counter()
        look(arguments.library, safe)
        slowest = max(slowest, time.perf_counter() - begin)
        print(f"{kills} kills, {safe} acknowledged and there", flush=True)
    print(f"{arguments.cases} cases through {kills} kills: nothing lost, nothing twice; slowest look {slowest:.1f} s")


def add(folder: Path, first: int, count: int) -> None:
    """Add the cases from `first` on and say how many are safe."""
    with CaseLibrary.open(folder) as library:
        print("open", flush=True)
        library.add_many(cases(first, count), lambda done: print(first + done, flush=True))


def cases(first: int, count: int) -> Iterator[tuple[Case, NDArray[np.float32]]]:
    """Yield made cases with their latents."""
    for number in range(first, count):
        report = f"Report {number}. " + "The heart is of normal size. " * 10
        yield Case(f"study-{number}", f"patient-{number}", {}, report, b"png", "CT", "", ""), latent_of(number)


def latent_of(number: int) -> NDArray[np.float32]:
    """Return the latent of a case: made from its number."""
    return np.random.default_rng(number).standard_normal(SIZE, np.float32)


def look(folder: Path, safe: int) -> None:
    """Open the library and compare all of it; exit with a sentence where something is wrong."""
    with CaseLibrary.open(folder) as library:
        studies = library.study_ids()
        found = [hit for hit, _ in library._store.index.query(np.ones(SIZE, np.float32), len(studies) + 10)]
        if len(studies) != len(set(studies)) or len(found) != len(set(found)) or len(found) != len(studies):
            sys.exit(f"twice: {len(studies)} folders, {len(found)} points")
        missing = {f"study-{number}" for number in range(safe)} - set(studies)
        if missing:
            sys.exit(f"lost: {len(missing)} acknowledged cases")
        for number in random.Random(safe).sample(range(safe), min(safe, 200)):
            case, latent = library.get(f"study-{number}"), latent_of(number)
            best = library.search(latent, 1)[0]
            if best.case != case or not case.report.startswith(f"Report {number}."):
                sys.exit(f"study-{number} is not what was added")


if __name__ == "__main__":
    main()
