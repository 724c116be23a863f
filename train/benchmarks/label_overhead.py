"""What the LLM labeler costs per report beside the server's own time.

    python train/benchmarks/label_overhead.py ../shared/data/reports_CT-CLIP_train/train.csv

The CSV has a column `report_text`. Testing/llm_server.py answers over real HTTP from a process of its
own, 20 ms after the question (no language model is faster), and says how long it took; one thread
asks, one report at a time. Printed are the medians of wall time minus the server's, and of this
process's CPU time, part of which the server's time hides, without and with de-identification, first
for reports as they come and then again, when their sentences are known to the lexicon. Run it on an
idle machine: the two processes need a core each.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import time
from pathlib import Path

import requests

from greenrfm.commands.demo.clock import processor
from greenrfm.distill import Unlabelled
from greenrfm.distill.deidentify import deidentify
from greenrfm.distill.llm import Endpoint, Form, LlmLabeler
from greenrfm.findings import load_finding_set

TESTING = Path(__file__).resolve().parents[2] / "Testing"
TIMES = "/times"
DELAY_S = 0.02


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--reports", type=int, default=400, help="how many of them")
    arguments = parser.parse_args()
    with arguments.csv.open(encoding="utf-8-sig", newline="") as stream:
        reports = [line["report_text"] for line in csv.DictReader(stream)][: arguments.reports]
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            base = f"http://127.0.0.1:{int(server.stdout.readline())}"
            letters = statistics.median(map(len, reports))
            print(f"{processor()}, N = {len(reports)}, median {letters:.0f} letters")
            print(f"{'':34s}{'median':>8s}{'90 %':>8s}{'CPU':>8s}  ms")
            for name, redact in (("as they are", None), ("de-identified", deidentify)):
                labeler = LlmLabeler(
                    load_finding_set("chest-ct-18"),
                    Endpoint(f"{base}/v1", "tiny"),
                    form=Form.JSON_SCHEMA,
                    context_tokens=16_384,
                    deidentify=redact,
                )
                labeler.label(reports[0])
                requests.post(f"{base}/control", json={"delay": DELAY_S}, timeout=10)
                for again in ("", ", again"):
                    measure(labeler, reports, base, name + again)
        finally:
            server.kill()


def measure(labeler: LlmLabeler, reports: list[str], base: str, name: str) -> None:
    """Label the reports and print what that took beside the server; reports asked for twice count whole."""
    session = requests.Session()
    session.trust_env = False
    session.get(base + TIMES, timeout=10)
    walls, cpus, failed = [], [], 0
    for report in reports:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            labeler.label(report)
        except Unlabelled:
            failed += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        time.sleep(0.002)  # the server notes its time after the last byte
        walls.append(1e3 * (wall - sum(session.get(base + TIMES, timeout=10).json())))
        cpus.append(1e3 * cpu)
    high = sorted(walls)[int(0.9 * len(walls))]
    note = f", {failed} failed" if failed else ""
    print(f"{name:34s}{statistics.median(walls):8.2f}{high:8.2f}{statistics.median(cpus):8.2f}{note}", flush=True)


def serve() -> None:
    """Run the tests' server, which from now on also tells its own times."""
    sys.path.insert(0, str(TESTING))
    import llm_server

    times: list[float] = []

    class Timed(llm_server.Handler):
        """Notes how long each chat request took, from its first line to the answer's last byte."""

        def do_POST(self) -> None:
            start = time.perf_counter()
            super().do_POST()
            if self.path.endswith("completions"):
                times.append(time.perf_counter() - start)

        def do_GET(self) -> None:
            if self.path == TIMES:
                said = list(times)
                times.clear()
                return self.send(200, said)
            return super().do_GET()

    llm_server.Handler = Timed  # type: ignore[misc]
    sys.argv = [sys.argv[0], "chest-ct-18", "0"]
    llm_server.main()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
