"""Which heat maps the page shows: the first by study id, never the best-looking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from greenrfm.commands.demo.heldout import HeatMapHits, HeldOut
from greenrfm.commands.demo.pictures import overlay
from greenrfm.findings import State
from greenrfm.phantoms.cohort import truth_masks
from greenrfm.progress import Progress
from greenrfm.volumes import read_volume

TRUE_POSITIVE = "first study that has it and is called"


@dataclass(frozen=True)
class Example:
    """One heat map on the page: `why` it was chosen, and the picture as a data URI."""

    study_id: str
    finding: str
    why: str
    probability: float
    called: bool
    hit: float
    picture: str

    @property
    def is_failure(self) -> bool:
        """Return whether it was chosen because something went wrong."""
        return self.why != TRUE_POSITIVE


def choose(held_out: HeldOut, hits: HeatMapHits) -> list[tuple[int, str, str]]:
    """Return (row of the study, finding key, why): one true positive per finding, then the first two failures.

    Of each finding it is the first held-out study by id that has it and is called. Then come the first
    study whose heat map misses its finding and the first whose finding is not called, of those not shown.
    """
    called = held_out.called
    present = held_out.truth == State.PRESENT
    chosen: list[tuple[int, str, str]] = []
    for column, key in enumerate(held_out.keys):
        rows = np.flatnonzero(present[:, column] & called[:, column])
        if len(rows):
            chosen.append((int(rows[0]), key, TRUE_POSITIVE))
    missed = [index for index in hits.each if hits.each[index].hit == 0]
    overlooked = [(row, key) for row, key in hits.each if not called[row, held_out.keys.index(key)]]
    for failures, why in (
        (missed, "first map of the others that misses its finding"),
        (overlooked, "first of the others that is there and is not called"),
    ):
        shown = {(row, key) for row, key, _ in chosen}
        chosen += [(*index, why) for index in failures if index not in shown][:1]
    return chosen


def draw_examples(held_out: HeldOut, hits: HeatMapHits, cohort_folder: Path, progress: Progress) -> list[Example]:
    """Return the pictures of the chosen heat maps."""
    chosen = choose(held_out, hits)
    examples = []
    for number, (row, key, why) in enumerate(chosen):
        study, reading = held_out.studies[row], held_out.readings[row]
        assert reading.heatmaps is not None
        score = reading.scores[held_out.keys.index(key)]
        mask = read_volume(truth_masks(cohort_folder, study.study_id)[key])
        picture = overlay(read_volume(study.images["image"]), mask, reading.heatmaps, key)
        examples.append(
            Example(
                study.study_id,
                score.name,
                why,
                score.probability,
                score.call == "present",
                hits.each[row, key].hit,
                picture,
            )
        )
        progress("draw pictures", number + 1, len(chosen))
    return examples
