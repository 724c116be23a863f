"""The heat map of a free text: shown like a finding's, but never saved, since a text may name a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import slicer
from slicer.i18n import tr as _

from GreenRFMLib import heat_map
from GreenRFMLib.scene import ROLE, Voxels

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps


@dataclass(frozen=True, eq=False)
class TextMap:
    """A volume node with the cells of one text query, and where they are highest."""

    node: Any
    text: str
    peak: heat_map.Peak

    @property
    def in_scene(self) -> bool:
        """Return whether nobody removed the node."""
        return bool(slicer.mrmlScene.IsNodePresent(self.node))


def put(volume: Any, voxels: Voxels, text: str, heatmaps: HeatMaps) -> TextMap:
    """Put the map of one text over `volume` into the scene, in a node that no scene file ever holds.

    Colours count from the mean of the map's inner cells: a text has no threshold. The text itself is in no node.
    """
    (key,) = heatmaps.keys
    mean = float(heatmaps[key][heatmaps.inner].mean())
    cells, affine = heat_map.stacked(heatmaps, [mean], voxels)
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName(_("GreenRFM text map of {name}").format(name=volume.GetName()))
    node.SetAttribute(ROLE, "heat map")
    heat_map.hide_from_editors(node)
    node.SetSaveWithScene(False)
    made: list[Any] = [slicer.mrmlScene.AddNode(node)]
    try:
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
        node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        heat_map.prepare_display(node, made)
        node.GetDisplayNode().SetSaveWithScene(False)
        peak = heat_map.fill(node, cells, mean)
    except BaseException:
        for one in reversed(made):
            slicer.mrmlScene.RemoveNode(one)
        raise
    return TextMap(node, text, peak)


def remove(shown: TextMap) -> None:
    """Remove a text's node and its display from the scene."""
    for node in (shown.node.GetDisplayNode(), shown.node):
        if node is not None and slicer.mrmlScene.IsNodePresent(node):
            slicer.mrmlScene.RemoveNode(node)
