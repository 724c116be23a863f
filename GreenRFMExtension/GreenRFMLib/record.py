"""What the findings table in the scene says of one reading: written as attributes, and read back with suspicion."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import slicer
from numpy.typing import NDArray

from GreenRFMLib.scene import fingerprint
from GreenRFMLib.study import Study

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps, Reading

VOLUME, HEAT_MAP, MAPS = "GreenRFM.volume", "GreenRFM.heatMap", "GreenRFM.maps"
_NOTICE, _WARNINGS, _BUNDLE = "GreenRFM.notice", "GreenRFM.warnings", "GreenRFM.bundle"
_TIME, _SCORES, _CELL = "GreenRFM.time", "GreenRFM.scores", "GreenRFM.cellSizeMm"
_PLACE, _VOXELS, _PLANES = "GreenRFM.ijkToRAS", "GreenRFM.voxels", "GreenRFM.planes"

Call = Literal["present", "indeterminate", "absent"]
# In the order of their rows, and of their warnings: what matters most comes first.
CALLS: tuple[Call, ...] = ("present", "indeterminate", "absent")
LEVELS = ("overruled", "withhold", "doubt", "note")


@dataclass(frozen=True)
class Score:
    """One finding's row: calibrated probability, the bundle's two thresholds, and where its map begins to count."""

    key: str
    name: str
    probability: float
    threshold: float
    absent_below: float
    decision_logit: float

    @property
    def call(self) -> Call:
        """Return "present" from `threshold` up, "absent" below `absent_below`, "indeterminate" between them."""
        if self.probability >= self.threshold:
            return "present"
        return "absent" if self.probability < self.absent_below else "indeterminate"


@dataclass(frozen=True)
class Remark:
    """One sentence above the scores; `level` is one of LEVELS."""

    level: str
    sentence: str


@dataclass(frozen=True, eq=False)
class PlaneMaps:
    """The heat maps of one plane of a study, "" for a bundle without planes, and the volume on which they lie."""

    table: Any
    plane: str
    cell_size_mm: tuple[float, float, float]
    ijk_to_ras: NDArray[np.float64]
    voxels: str
    _heat_map: Any

    @property
    def volume(self) -> Any:
        """Return the volume node that was read in this plane, its first one, or None if it is gone."""
        return _volume_in(self.table, of_plane(VOLUME, self.plane))

    @property
    def heat_map(self) -> Any:
        """Return the visible heat map volume, also of a deleted table, or None if the map itself was deleted."""
        node = self._heat_map
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    @property
    def maps(self) -> Any:
        """Return the hidden volume with the maps of all findings, or None if it is gone."""
        return _volume_in(self.table, of_plane(MAPS, self.plane))


@dataclass(frozen=True, eq=False)
class Result:
    """What the scene holds of one analysis; `scores` in the order of the bundle's findings, the worst remark first."""

    table: Any
    scores: tuple[Score, ...]
    notice: str
    remarks: tuple[Remark, ...]
    bundle_hash: str
    time: str
    planes: tuple[PlaneMaps, ...]

    @property
    def volume(self) -> Any:
        """Return the volume node that was chosen to be read, or None if it is gone."""
        return self.table.GetNodeReference(VOLUME)

    def of_plane(self, plane: str) -> PlaneMaps:
        """Return the maps of a plane, those of the first one where there is none of that name."""
        return next((one for one in self.planes if one.plane == plane), self.planes[0])


def of_plane(name: str, plane: str) -> str:
    """Return the attribute or the role of a plane's own, `name` itself for a bundle without planes."""
    return f"{name}.{plane}" if plane else name


def scores_of(reading: Reading, decision_logits: Sequence[float]) -> tuple[Score, ...]:
    """Return a reading's scores with the logit from which each finding is called present."""
    return tuple(
        Score(score.key, score.name, score.probability, score.threshold, score.absent_below, decision)
        for score, decision in zip(reading.scores, decision_logits, strict=True)
    )


def remarks_of(reading: Reading) -> tuple[Remark, ...]:
    """Return the reading's warnings with their levels, the worst first."""
    levels = {check.sentence: check.level for check in reading.checks}
    return _worst_first(Remark(levels.get(sentence, "overruled"), sentence) for sentence in reading.warnings)


def ranked(scores: Sequence[Score]) -> list[Score]:
    """Return the scores by call, present first, and then by how far they lie above their threshold."""
    return sorted(scores, key=lambda score: (CALLS.index(score.call), score.threshold - score.probability))


def write(
    table: Any, study: Study, reading: Reading, heatmaps: Mapping[str, HeatMaps], scores: Sequence[Score]
) -> None:
    """Write a reading of `study`, and where its maps by plane lie, into the attributes of `table`."""
    for name, text in (
        (_NOTICE, reading.notice),
        (_WARNINGS, json.dumps([asdict(remark) for remark in remarks_of(reading)])),
        (_BUNDLE, reading.bundle_hash),
        (_TIME, datetime.datetime.now().isoformat(" ", "seconds")),
        (_SCORES, json.dumps([asdict(score) for score in scores])),
        (_PLANES, json.dumps(list(heatmaps))),
    ):
        table.SetAttribute(name, text)
    for plane, maps in heatmaps.items():
        image = study.of_plane(plane)
        table.SetAttribute(of_plane(_CELL, plane), json.dumps(maps.cell_size_mm))
        table.SetAttribute(of_plane(_PLACE, plane), json.dumps(image.voxels.own.tolist()))
        table.SetAttribute(of_plane(_VOXELS, plane), fingerprint(image.node))


def read(table: Any) -> Result | None:
    """Return the result that `table` describes, or None if its attributes are not ours: a scene is a file."""
    try:
        scores = tuple(map(_score, json.loads(table.GetAttribute(_SCORES))))
        remarks = _worst_first(map(_remark, json.loads(table.GetAttribute(_WARNINGS))))
        # A scene from before there were planes has none.
        names = json.loads(table.GetAttribute(_PLANES) or '[""]')
        _texts(*names)
        planes = tuple(_plane(table, name) for name in names)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return None
    if not scores or not planes:
        return None
    return Result(
        table,
        scores,
        table.GetAttribute(_NOTICE) or "",
        remarks,
        table.GetAttribute(_BUNDLE) or "",
        table.GetAttribute(_TIME) or "",
        planes,
    )


def _plane(table: Any, plane: str) -> PlaneMaps:
    cell_size = _numbers(json.loads(table.GetAttribute(of_plane(_CELL, plane))))
    place = np.array(json.loads(table.GetAttribute(of_plane(_PLACE, plane))), np.float64)
    if len(cell_size) != 3 or place.shape != (4, 4):
        raise ValueError("no cell, or no place")
    return PlaneMaps(
        table,
        plane,
        (cell_size[0], cell_size[1], cell_size[2]),
        place,
        table.GetAttribute(of_plane(_VOXELS, plane)) or "",
        _volume_in(table, of_plane(HEAT_MAP, plane)),
    )


def _score(row: Any) -> Score:
    """Return a score as written; a scene from before the third call has one threshold, hence no band."""
    score = Score(**({"absent_below": row["threshold"]} | row))
    numbers = _numbers([score.probability, score.threshold, score.absent_below, score.decision_logit])
    _texts(score.key, score.name)
    if not 0 <= numbers[0] <= 1 or numbers[2] > numbers[1]:
        raise ValueError("no probability, or thresholds the wrong way round")
    return score


def _remark(row: Any) -> Remark:
    """Return a warning as written; a scene from before there were levels has the sentence alone."""
    remark = Remark("doubt", row) if isinstance(row, str) else Remark(**row)
    _texts(remark.level, remark.sentence)
    return remark


def _worst_first(remarks: Any) -> tuple[Remark, ...]:
    """Return the remarks by level; raise ValueError for an unknown one."""
    return tuple(sorted(remarks, key=lambda remark: LEVELS.index(remark.level)))


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise ValueError("a number that is none")
    return tuple(values)


def _texts(*values: Any) -> None:
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a text that is none")


def _volume_in(table: Any, role: str) -> Any:
    """Return the volume that `table` refers to, or None: a scene's file may name any node there."""
    node = table.GetNodeReference(role)
    return node if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else None
