"""Reports with manual labels in one CSV, as those of CT-CLIP: what several benchmarks read.

The CSV has a column `report_text` and one of 0/1 per finding, headed by the finding's name (CT-CLIP's are
CC BY-NC-SA 4.0 and not part of this project).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_labelled(path: Path, keys: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the reports and whether each finding's label is 1 (reports, findings), in the file's order."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        lines = list(csv.DictReader(stream))
    names = {name.lower().replace(" ", "_"): name for name in lines[0]}
    gold = np.array([[line[names[key]] == "1" for key in keys] for line in lines])
    return [line["report_text"] for line in lines], gold
