"""How well the lexicon labeler reads real chest CT reports: F1 per finding and reports per CPU second.

    python train/benchmarks/lexicon_reports.py ../shared/data/reports_CT-CLIP_train/train.csv

The CSV has a column `report_text` and one of 0/1 per finding, headed by the finding's name, as the
labelled reports of CT-CLIP have (CC BY-NC-SA 4.0; not part of this project). Uncertain and not
mentioned count as 0. The phrases were developed on the first half of a shuffle with seed 0; the
second half is the one to quote, and is not to be looked into: `--development` leaves it out.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path

import numpy as np
from labelled_reports import read_labelled
from numpy.typing import NDArray

from greenrfm.distill import LexiconLabeler, label_reports
from greenrfm.findings import State, load_finding_set


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--development", action="store_true", help="only the half that phrases may be developed on")
    arguments = parser.parse_args()
    path = arguments.csv
    finding_set = load_finding_set("chest-ct-18")
    texts, gold = read_labelled(path, finding_set.keys)
    reports = [(str(number), text) for number, text in enumerate(texts)]
    order = list(range(len(texts)))
    random.Random(0).shuffle(order)
    halves = {"development": order[: len(order) // 2], "held out": order[len(order) // 2 :]}
    if arguments.development:
        del halves["held out"]

    scores, errors, speeds = {}, {}, {}
    for name, rows in halves.items():
        labeler = LexiconLabeler(finding_set)  # a new one: no sentence is remembered from the other half
        start = time.process_time()
        table, _ = label_reports(labeler, [reports[row] for row in rows])
        speeds[name] = len(rows) / (time.process_time() - start)
        called = table.states == State.PRESENT
        scores[name] = f1(gold[rows], called)
        errors[name] = (called & ~gold[rows]).sum(axis=0), (~called & gold[rows]).sum(axis=0)

    print(f"N = {len(texts)} reports; F1 per finding (positives; wrongly called +, wrongly not called -)")
    print(f"{'':38s}" + "".join(f"{f'{name}, n={len(rows)}':>26s}" for name, rows in halves.items()))
    for column, key in enumerate(finding_set.keys):
        cells = ""
        for name, rows in halves.items():
            more, less = (count[column] for count in errors[name])
            cells += f"{f'{scores[name][column]:.3f} ({gold[rows, column].sum()}; +{more} -{less})':>26s}"
        print(f"{key:38s}{cells}")
    print(f"{'macro F1':38s}" + "".join(f"{scores[name].mean():>26.3f}" for name in halves))
    print(f"{'reports per CPU second':38s}" + "".join(f"{speeds[name]:>26.0f}" for name in halves))
    runs = []
    for _ in range(3):
        labeler, start = LexiconLabeler(finding_set), time.process_time()
        label_reports(labeler, reports)
        runs.append(len(reports) / (time.process_time() - start))
    print(f"all {len(reports)} by one new labeler, median of {len(runs)}: {statistics.median(runs):.0f} per CPU second")


def f1(gold: NDArray[np.bool_], called: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return F1 per column of two arrays (reports, findings)."""
    hits: NDArray[np.float64] = 2.0 * (gold & called).sum(axis=0)
    counts: NDArray[np.float64] = np.maximum(gold.sum(axis=0) + called.sum(axis=0), 1.0)
    return hits / counts


if __name__ == "__main__":
    main()
