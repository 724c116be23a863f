"""How many honest answers the cross-check with the lexicon refuses: manual labels as the answer of a model.

    python train/benchmarks/cross_check.py ../shared/data/reports_CT-CLIP_train/train.csv

The CSV is that of lexicon_reports.py. A person's labels stand for a model that errs nowhere: PRESENT
where the label is 1; where it is 0, ABSENT if the lexicon reads a denial and NOT_MENTIONED otherwise.
Each refusal is a report that a perfect model would have to leave to a person.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from labelled_reports import read_labelled

from greenrfm.distill import LexiconLabeler
from greenrfm.distill.evidence import NOTHING, Evidence
from greenrfm.distill.llm.crosscheck import CrossCheck
from greenrfm.findings import State, load_finding_set

# Where it stands does not matter to the check unless it is ABSENT.
PRESENT = Evidence(State.PRESENT, 0, 1)


def main() -> None:
    """Print the share of refused answers and why."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    finding_set = load_finding_set("chest-ct-18")
    reports, gold = read_labelled(parser.parse_args().csv, finding_set.keys)
    labeler, refused = LexiconLabeler(finding_set), Counter[str]()
    for report, labels in zip(reports, gold, strict=True):
        said = labeler.label(report).findings
        answer = {
            key: PRESENT if label else said[key] if said[key].state is State.ABSENT else NOTHING
            for key, label in zip(finding_set.keys, labels, strict=True)
        }
        if fault := CrossCheck(labeler, report).fault(answer, (0, len(report))):
            refused[fault] += 1
    print(f"N = {len(reports)} reports; refused {refused.total()} ({refused.total() / len(reports):.1%})")
    for fault, count in refused.most_common():
        print(f"{count:5d}  {fault}")


if __name__ == "__main__":
    main()
