"""A reading as nodes of the scene, and back: what the panel shows lies in the scene and is saved with it.

For each analysed volume there are three nodes. The findings table refers to the volume and to the other two
and holds notice, warnings, bundle and exact scores as attributes. The visible heat map shows one finding's
cells and refers to the volume. The maps of all findings lie one behind the other along the slices of a hidden
volume: Slicer's image writer refuses vector volumes of other than one or three components.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from slicer.i18n import tr as _

from GreenRFMLib import heat_map
from GreenRFMLib.scene import ROLE, Voxels, fingerprint, ijk_to_ras

if TYPE_CHECKING:
    from greenrfm.reading import Reading

_VOLUME, _HEAT_MAP, _MAPS = "GreenRFM.volume", "GreenRFM.heatMap", "GreenRFM.maps"
_NOTICE, _WARNINGS, _BUNDLE = "GreenRFM.notice", "GreenRFM.warnings", "GreenRFM.bundle"
_TIME, _SCORES, _CELL, _FINDING = "GreenRFM.time", "GreenRFM.scores", "GreenRFM.cellSizeMm", "GreenRFM.finding"
_PLACE, _VOXELS = "GreenRFM.ijkToRAS", "GreenRFM.voxels"
_SAME_PLACE_MM = 0.01  # a saved and loaded volume lies where it was, but for rounding


@dataclass(frozen=True)
class Score:
    """One finding's row: calibrated probability, the bundle's threshold for it, and where its map begins to count."""

    key: str
    name: str
    probability: float
    threshold: float
    decision_logit: float

    @property
    def present(self) -> bool:
        """Return whether the finding is called present."""
        return self.probability >= self.threshold


@dataclass(frozen=True, eq=False)
class Result:
    """What the scene holds of one analysis; `scores` in the order of the bundle's findings."""

    table: Any
    scores: tuple[Score, ...]
    notice: str
    warnings: tuple[str, ...]
    bundle_hash: str
    time: str
    cell_size_mm: tuple[float, float, float]
    ijk_to_ras: NDArray[np.float64]
    voxels: str
    _heat_map: Any

    @property
    def volume(self) -> Any:
        """Return the volume node that was read, or None if it is gone."""
        return self.table.GetNodeReference(_VOLUME)

    @property
    def heat_map(self) -> Any:
        """Return the visible heat map volume, also of a deleted table, or None if the map itself was deleted."""
        node = self._heat_map
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    @property
    def maps(self) -> Any:
        """Return the hidden volume with the maps of all findings, or None if it is gone."""
        return _volume_in(self.table, _MAPS)


def store(volume: Any, voxels: Voxels, reading: Reading, decision_logits: Sequence[float]) -> Result:
    """Put a reading with heat maps of `volume` into the scene, in place of an earlier one of the same volume.

    If something fails on the way, the nodes made so far are removed and the earlier result stays.
    """
    assert reading.heatmaps is not None
    former = find(volume)
    made: list[Any] = []
    try:
        maps, affine = heat_map.stacked(reading.heatmaps, decision_logits, voxels)
        table = _added(made, slicer.vtkMRMLTableNode(), _("GreenRFM findings of {name}"), volume, "findings")
        hidden = _added(made, _hidden_volume(), _("GreenRFM maps of {name}"), volume, "maps")
        visible = _added(made, slicer.vtkMRMLScalarVolumeNode(), _("GreenRFM heat map of {name}"), volume, "heat map")
        for node, array in ((hidden, maps), (visible, maps[: len(maps) // len(reading.scores)])):
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            slicer.util.updateVolumeFromArray(node, array)
        heat_map.prepare_display(visible, made)
        visible.SetNodeReferenceID(_VOLUME, volume.GetID())
        scores = tuple(
            Score(score.key, score.name, score.probability, score.threshold, decision)
            for score, decision in zip(reading.scores, decision_logits, strict=True)
        )
        _fill_table(table, scores)
        for role, node in ((_VOLUME, volume), (_HEAT_MAP, visible), (_MAPS, hidden)):
            table.SetNodeReferenceID(role, node.GetID())
        for name, text in (
            (_NOTICE, reading.notice),
            (_WARNINGS, json.dumps(reading.warnings)),
            (_BUNDLE, reading.bundle_hash),
            (_TIME, datetime.datetime.now().isoformat(" ", "seconds")),
            (_SCORES, json.dumps([asdict(score) for score in scores])),
            (_CELL, json.dumps(reading.heatmaps.cell_size_mm)),
            (_PLACE, json.dumps(voxels.own.tolist())),
            (_VOXELS, fingerprint(volume)),
        ):
            table.SetAttribute(name, text)
        for node in (table, visible):
            _file_under_study(node, volume)
        result = _parsed(table)
        if result is None:
            raise ValueError("this reading cannot be stored: a score is no finite number")
    except BaseException:
        for node in reversed(made):
            slicer.mrmlScene.RemoveNode(node)
        raise
    if former is not None:
        remove(former)
    show_finding(result, ranked(result.scores)[0].key)
    return result


def ranked(scores: Sequence[Score]) -> list[Score]:
    """Return the scores by how far their probability lies above their threshold: present ones come first."""
    return sorted(scores, key=lambda score: score.threshold - score.probability)


def find(volume: Any) -> Result | None:
    """Return the newest result of `volume` in the scene, or None; needs no greenrfm and no bundle."""
    if volume is None:
        return None
    for table in reversed(slicer.util.getNodesByClass("vtkMRMLTableNode")):
        if table.GetAttribute(ROLE) == "findings" and table.GetNodeReference(_VOLUME) is volume:
            result = _parsed(table)
            if result is not None:
                return result
    return None


def remove(result: Result) -> None:
    """Remove the nodes of a result from the scene, with the storage and display nodes that saving and showing made."""
    nodes = [node for node in (result.heat_map, result.maps, result.table) if node is not None]
    companions = [
        companion
        for node in nodes
        for companion in (
            *(node.GetNthStorageNode(index) for index in range(node.GetNumberOfStorageNodes())),
            *(node.GetNthDisplayNode(index) for index in range(_number_of_display_nodes(node))),
        )
    ]
    for node in (*nodes, *companions):
        if node is not None and slicer.mrmlScene.IsNodePresent(node):
            slicer.mrmlScene.RemoveNode(node)


def follow_volume(result: Result) -> bool:
    """Put the maps under the transform that the volume is under now; return whether they still belong to it.

    They do not if its voxels, or their place in the volume's own coordinates, are no longer what was read.
    """
    volume = result.volume
    if volume is None or volume.GetImageData() is None:
        return False
    for node in (result.heat_map, result.maps):
        if node is not None and node.GetTransformNodeID() != volume.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    reach = np.array([*volume.GetImageData().GetDimensions(), 1])  # no voxel moves by more than its corners do
    moved = np.abs(ijk_to_ras(volume) - result.ijk_to_ras) @ reach
    return bool(moved.max() < _SAME_PLACE_MM) and fingerprint(volume) == result.voxels


def show_finding(result: Result, key: str) -> heat_map.Peak | None:
    """Fill the result's heat map volume with the cells of finding `key`; return the highest, or None without maps."""
    volume, hidden = result.heat_map, result.maps
    keys = [score.key for score in result.scores]
    if volume is None or hidden is None or hidden.GetImageData() is None or key not in keys:
        return None
    index = keys.index(key)
    cells = heat_map.unstacked(hidden, len(keys), index)
    if cells is None:
        return None
    volume.SetAttribute(_FINDING, key)
    return heat_map.fill(volume, cells, result.scores[index].decision_logit)


def _parsed(table: Any) -> Result | None:
    """Return the result that `table` describes, or None if its attributes are not ours: a scene is a file."""
    try:
        scores = tuple(Score(**row) for row in json.loads(table.GetAttribute(_SCORES)))
        warnings = tuple(json.loads(table.GetAttribute(_WARNINGS)))
        cell_size = tuple(json.loads(table.GetAttribute(_CELL)))
        place = np.array(json.loads(table.GetAttribute(_PLACE)), np.float64)
    except (TypeError, ValueError):
        return None
    texts = (*warnings, *(text for score in scores for text in (score.key, score.name)))
    numbers = (*cell_size, *(n for score in scores for n in (score.probability, score.threshold, score.decision_logit)))
    if (
        not scores
        or not all(isinstance(text, str) for text in texts)
        or not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        or len(cell_size) != 3
        or place.shape != (4, 4)
    ):
        return None
    return Result(
        table,
        scores,
        table.GetAttribute(_NOTICE) or "",
        warnings,
        table.GetAttribute(_BUNDLE) or "",
        table.GetAttribute(_TIME) or "",
        cell_size,
        place,
        table.GetAttribute(_VOXELS) or "",
        _volume_in(table, _HEAT_MAP),
    )


def _volume_in(table: Any, role: str) -> Any:
    """Return the volume that `table` refers to, or None: a scene's file may name any node there."""
    node = table.GetNodeReference(role)
    return node if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else None


def _number_of_display_nodes(node: Any) -> int:
    return int(node.GetNumberOfDisplayNodes()) if node.IsA("vtkMRMLDisplayableNode") else 0


def _added(made: list[Any], node: Any, title: str, volume: Any, role: str) -> Any:
    """Name the node, add it to the scene and to `made`: what it is must be known when the scene announces it."""
    node.SetName(title.format(name=volume.GetName()))
    node.SetAttribute(ROLE, role)
    made.append(slicer.mrmlScene.AddNode(node))
    return made[-1]


def _hidden_volume() -> Any:
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetHideFromEditors(True)
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    node.SetAttribute(constants.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")
    return node


def _fill_table(table: Any, scores: Sequence[Score]) -> None:
    """Fill the table for people and for export; the panel reads the attributes, whose numbers are exact."""
    table.SetUseColumnTitleAsColumnHeader(True)
    columns: dict[str, list[str] | list[float]] = {
        "key": [score.key for score in scores],
        "finding": [score.name for score in scores],
        "probability": [score.probability for score in scores],
        "threshold": [score.threshold for score in scores],
        "call": ["present" if score.present else "absent" for score in scores],
    }
    for title, values in columns.items():
        column = vtk.vtkDoubleArray() if isinstance(values[0], float) else vtk.vtkStringArray()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)


def _file_under_study(node: Any, volume: Any) -> None:
    """Put the node beside the volume in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    source, item = hierarchy.GetItemByDataNode(volume), hierarchy.GetItemByDataNode(node)
    parent = hierarchy.GetItemParent(source) if source else hierarchy.GetSceneItemID()
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
