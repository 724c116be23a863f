"""A reading as nodes of the scene, and back: what the panel shows lies in the scene and is saved with it.

For each analysed volume there are three nodes. The findings table refers to the volume and to the other two
and holds notice, warnings, bundle and exact scores as attributes (`record.py`). The visible heat map shows one
finding's cells and refers to the volume. The maps of all findings lie one behind the other along the slices of a hidden
volume: Slicer's image writer refuses vector volumes of other than one or three components.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from GreenRFMLib import heat_map, record
from GreenRFMLib.record import Result, Score, ranked
from GreenRFMLib.scene import ROLE, Voxels, fingerprint, ijk_to_ras

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps, Reading

_FINDING = "GreenRFM.finding"
_SAME_PLACE_MM = 0.01  # a saved and loaded volume lies where it was, but for rounding


def store(volume: Any, voxels: Voxels, reading: Reading, decision_logits: Sequence[float]) -> Result:
    """Put a reading with heat maps of `volume` into the scene, in place of an earlier one of the same volume.

    Nothing is stored of scores that are withheld: ask for `reading.overrule()`. If something fails on the way, the
    nodes made so far are removed and the earlier result stays.
    """
    if reading.withheld:
        raise ValueError("the scores of this reading are withheld")
    heatmaps = heat_maps_of(reading)
    former = find(volume)
    made: list[Any] = []
    try:
        maps, affine = heat_map.stacked(heatmaps, decision_logits, voxels)
        table = _added(made, slicer.vtkMRMLTableNode(), _("GreenRFM findings of {name}"), volume, "findings")
        hidden = _added(made, _hidden_volume(), _("GreenRFM maps of {name}"), volume, "maps")
        visible = _added(made, slicer.vtkMRMLScalarVolumeNode(), _("GreenRFM heat map of {name}"), volume, "heat map")
        for node, array in ((hidden, maps), (visible, maps[: len(maps) // len(reading.scores)])):
            node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
            slicer.util.updateVolumeFromArray(node, array)
        heat_map.prepare_display(visible, made)
        visible.SetNodeReferenceID(record.VOLUME, volume.GetID())
        scores = record.scores_of(reading, decision_logits)
        _fill_table(table, scores)
        for role, node in ((record.VOLUME, volume), (record.HEAT_MAP, visible), (record.MAPS, hidden)):
            table.SetNodeReferenceID(role, node.GetID())
        record.write(table, volume, voxels, reading, heatmaps, scores)
        for node in (table, visible):
            _file_under_study(node, volume)
        result = record.read(table)
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


def heat_maps_of(reading: Reading) -> HeatMaps:
    """Return the maps to show: of a study of several planes, the first plane's."""
    found = reading.heatmaps or next(iter(reading.plane_heatmaps.values()), None)
    assert found is not None, "the panel reads with heat maps"
    return found


def find(volume: Any) -> Result | None:
    """Return the newest result of `volume` in the scene, or None; needs no greenrfm and no bundle."""
    if volume is None:
        return None
    for table in reversed(slicer.util.getNodesByClass("vtkMRMLTableNode")):
        if table.GetAttribute(ROLE) == "findings" and table.GetNodeReference(record.VOLUME) is volume:
            result = record.read(table)
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


def follow_volume(result: Result, *others: Any) -> bool:
    """Put the maps, and `others`, under the volume's present transform; return whether they still belong to it.

    They do not if its voxels, or their place in the volume's own coordinates, are no longer what was read.
    """
    volume = result.volume
    if volume is None or volume.GetImageData() is None:
        return False
    for node in (result.heat_map, result.maps, *others):
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
    heat_map.hide_from_editors(node)
    return node


def _fill_table(table: Any, scores: Sequence[Score]) -> None:
    """Fill the table for people and for export; the panel reads the attributes, whose numbers are exact."""
    table.SetUseColumnTitleAsColumnHeader(True)
    columns: dict[str, list[str] | list[float]] = {
        "key": [score.key for score in scores],
        "finding": [score.name for score in scores],
        "probability": [score.probability for score in scores],
        "present_from": [score.threshold for score in scores],
        "absent_below": [score.absent_below for score in scores],
        "call": [score.call for score in scores],
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
