"""What people decided, put into labels.csv and its evidence without labelling anew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from greenrfm.cohort import Cohort
from greenrfm.distill.evidence_file import evidence_path
from greenrfm.distill.labels_files import Labels, failures_path, write_failures
from greenrfm.distill.overrides import Overrides, load, override_study, overrides_path
from greenrfm.files import replacing
from greenrfm.findings import FindingSet, LabelTable, State
from greenrfm.locks import Lock


@dataclass(frozen=True)
class Applied:
    """What applying decisions did.

    `held` findings carry a person's word, which differs from the labeler's on `changed` of them.
    Not applied: `stale` (study, finding), decided on another wording of the report; `unknown_studies`,
    which the cohort lacks. `by_hand` counts studies that only people labelled; `incomplete` are failed
    studies for which some findings are still undecided.
    """

    held: int
    changed: int
    stale: tuple[tuple[str, str], ...]
    unknown_studies: tuple[str, ...]
    by_hand: int
    incomplete: tuple[str, ...]


def apply_decisions(labels: Path, cohort: Cohort, finding_set: FindingSet, decisions: Overrides) -> Applied:
    """Add decisions to those kept beside labels.csv, and rewrite it and its evidence as `override_study` says.

    The decisions are written first: killed at any point, doing it again, or distilling again, ends the same.
    Raises UserError if a run is writing these labels, or if the files cannot be read or do not fit each
    other; nothing is changed then.
    """
    way_out = "wait until that greenrfm distill has ended"
    lock = Lock(labels.with_suffix(".journal.lock"), f"labels {labels}", way_out)
    try:
        with Labels(labels, cohort, finding_set) as old:
            kept = Overrides((*load(labels, finding_set).decisions, *decisions.decisions))
            # What does not fit must be found before anything is written.
            for study in cohort:
                old.said(study.study_id)
            kept.write(overrides_path(labels))
            return _rewrite(labels, old, kept)
    finally:
        lock.release()


def _rewrite(path: Path, old: Labels, kept: Overrides) -> Applied:
    keys = old.finding_set.keys
    table: dict[str, list[State]] = {}
    failures: dict[str, str] = {}
    held = changed = by_hand = 0
    stale: list[tuple[str, str]] = []
    incomplete: list[str] = []
    with replacing(evidence_path(path)) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            for study in old.cohort:
                study_id = study.study_id
                overrides = kept.of(study_id, study.report)
                stale += [(study_id, key) for key in kept.stale(study_id, study.report)]
                held += len(overrides)
                states, rows = old.said(study_id)
                final = override_study(study_id, keys, states, rows, overrides)
                if final is None:
                    incomplete += [study_id] if overrides else []
                    failures |= {study_id: reason} if (reason := old.failure(study_id)) else {}
                    continue
                by_hand += states is None
                changed += sum(states is None or states[key] is not each.state for key, each in overrides.items())
                table[study_id] = list(final[0].values())
                stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in final[1])
        # Windows does not replace a file that is open.
        old.evidence.close()
    values = np.array(list(table.values()), np.int8).reshape(len(table), len(keys))
    LabelTable(tuple(table), keys, values).write(path)
    write_failures(failures_path(path), failures)
    known = {study.study_id for study in old.cohort}
    unknown = tuple(study for study in kept.study_ids if study not in known)
    return Applied(held, changed, tuple(stale), unknown, by_hand, tuple(incomplete))
