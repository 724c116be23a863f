"""How many honest answers the cross-check with the lexicon refuses: manual labels as the answer of a model.

    python train/benchmarks/cross_check.py ../shared/data/reports_CT-CLIP_train/train.csv

The CSV is that of lexicon_reports.py. A person's labels stand for a model that errs nowhere: PRESENT
where the label is 1; where it is 0, ABSENT if the lexicon reads a denial and NOT_MENTIONED otherwise.
Each refusal is a report that a perfect model would have to leave to a person.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from pathlib import Path

from greenrfm.distill import LexiconLabeler
from greenrfm.distill.evidence import NOTHING, Evidence
from greenrfm.distill.llm.crosscheck import CrossCheck
from greenrfm.findings import State, load_finding_set


def main() -> None:
    """Print the share of refused answers and why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    finding_set = load_finding_set("chest-ct-18")
    with parser.parse_args().csv.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    names = {name.lower().replace(" ", "_"): name for name in lines[0]}
    labeler, refused = LexiconLabeler(finding_set), Counter[str]()
    for line in lines:
        report = line["report_text"]
        said = labeler.label(report).findings
        answer = {
            key: Evidence(State.PRESENT, 0, 1)
            if line[names[key]] == "1"
            else said[key]
            if said[key].state is State.ABSENT
            else NOTHING
            for key in finding_set.keys
        }
        if fault := CrossCheck(labeler, report).fault(answer, (0, len(report))):
            refused[fault] += 1
    print(f"N = {len(lines)} reports; refused {refused.total()} ({refused.total() / len(lines):.1%})")
    for fault, count in refused.most_common():
        print(f"{count:5d}  {fault}")


if __name__ == "__main__":
    main()
