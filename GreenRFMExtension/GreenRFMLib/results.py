"""A reading as nodes of the scene, and back: what the panel shows lies in the scene and is saved with it.

The findings table refers to the chosen volume and holds notice, warnings, bundle and exact scores as attributes
(`record.py`). For each plane that was read, or once for a bundle without planes, there are two more nodes to which it
refers. The visible heat map shows one finding's cells and refers to the volume on which it lies. The maps of all
findings lie one behind the other along the slices of a hidden volume: Slicer's image writer refuses vector volumes of
other than one or three components.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from GreenRFMLib import heat_map, record
from GreenRFMLib.record import PlaneMaps, Result, Score, of_plane, ranked
from GreenRFMLib.scene import ROLE, fingerprint, ijk_to_ras
from GreenRFMLib.study import Image, Study

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps, Reading

_FINDING = "GreenRFM.finding"
_SAME_PLACE_MM = 0.01  # a saved and loaded volume lies where it was, but for rounding


def store(study: Study, reading: Reading, decision_logits: Sequence[float]) -> Result:
    """Put a reading with heat maps of `study` into the scene, in place of an earlier one of the same chosen volume.

    Nothing is stored of scores that are withheld: ask for `reading.overrule()`. If something fails on the way, the
    nodes made so far are removed and the earlier result stays.
    """
    if reading.withheld:
        raise ValueError("the scores of this reading are withheld")
    volume, heatmaps = study.volume, by_plane(reading)
    former = find(volume)
    made: list[Any] = []
    try:
        scores = record.scores_of(reading, decision_logits)
        table = _added(made, slicer.vtkMRMLTableNode(), _("GreenRFM findings of {name}"), volume, "findings")
        table.SetNodeReferenceID(record.VOLUME, volume.GetID())
        for plane, maps in heatmaps.items():
            _store_plane(made, table, plane, maps, study.of_plane(plane), decision_logits)
        _fill_table(table, scores)
        record.write(table, study, reading, heatmaps, scores)
        _file_under_study(table, volume)
        result = record.read(table)
        if result is None:
            raise ValueError("this reading cannot be stored: a score is no finite number")
    except BaseException:
        for node in reversed(made):
            slicer.mrmlScene.RemoveNode(node)
        raise
    if former is not None:
        remove(former)
    for one in result.planes:
        show_finding(result, ranked(result.scores)[0].key, one.plane)
    return result


def by_plane(reading: Reading) -> Mapping[str, HeatMaps]:
    """Return the maps of each plane that was read, in the bundle's order; of "" where there are no planes."""
    if reading.plane_heatmaps:
        return reading.plane_heatmaps
    assert reading.heatmaps is not None, "the panel reads with heat maps"
    return {"": reading.heatmaps}


def _store_plane(
    made: list[Any], table: Any, plane: str, heatmaps: HeatMaps, image: Image, decision_logits: Sequence[float]
) -> None:
    """Add the two volumes of one plane's maps, under the transform of the volume on which they lie."""
    volume, said = image.node, f"{plane} " if plane else ""
    maps, affine = heat_map.stacked(heatmaps, decision_logits, image.voxels)
    hidden = _added(made, _hidden_volume(), _("GreenRFM {plane}maps of {name}"), volume, "maps", said)
    visible = _added(
        made, slicer.vtkMRMLScalarVolumeNode(), _("GreenRFM {plane}heat map of {name}"), volume, "heat map", said
    )
    for node, array in ((hidden, maps), (visible, maps[: len(maps) // len(decision_logits)])):
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        slicer.util.updateVolumeFromArray(node, array)
    heat_map.prepare_display(visible, made)
    visible.SetNodeReferenceID(record.VOLUME, volume.GetID())
    for role, node in ((record.VOLUME, volume), (record.HEAT_MAP, visible), (record.MAPS, hidden)):
        table.SetNodeReferenceID(of_plane(role, plane), node.GetID())
    _file_under_study(visible, volume)


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
    maps = [node for one in result.planes for node in (one.heat_map, one.maps)]
    nodes = [node for node in (*maps, result.table) if node is not None]
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


def follow_volume(one: PlaneMaps, *others: Any) -> bool:
    """Put a plane's maps, and `others`, under its volume's present transform; return whether they still belong to it.

    They do not if its voxels, or their place in the volume's own coordinates, are no longer what was read.
    """
    volume = one.volume
    if volume is None or volume.GetImageData() is None:
        return False
    for node in (one.heat_map, one.maps, *others):
        if node is not None and node.GetTransformNodeID() != volume.GetTransformNodeID():
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    reach = np.array([*volume.GetImageData().GetDimensions(), 1])  # no voxel moves by more than its corners do
    moved = np.abs(ijk_to_ras(volume) - one.ijk_to_ras) @ reach
    return bool(moved.max() < _SAME_PLACE_MM) and fingerprint(volume) == one.voxels


def show_finding(result: Result, key: str, plane: str = "") -> heat_map.Peak | None:
    """Fill a plane's heat map volume with the cells of finding `key`; return the highest, or None without maps."""
    volume, hidden = result.of_plane(plane).heat_map, result.of_plane(plane).maps
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


def _added(made: list[Any], node: Any, title: str, volume: Any, role: str, plane: str = "") -> Any:
    """Name the node, add it to the scene and to `made`: what it is must be known when the scene announces it."""
    node.SetName(title.format(name=volume.GetName(), plane=plane))
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
