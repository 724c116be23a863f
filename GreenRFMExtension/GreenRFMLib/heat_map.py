"""The heat map volume of a result: which cells it holds, how they are coloured, and where they are highest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from numpy.typing import NDArray
from slicer.i18n import tr as _

from GreenRFMLib.scene import ROLE, Voxels, ijk_to_ras

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps


@dataclass(frozen=True)
class Peak:
    """Where a heat map is highest, in RAS mm of the world, and whether that cell reaches the decision logit."""

    position: tuple[float, float, float]
    reaches: bool


def stacked(
    heatmaps: HeatMaps, decision_logits: Sequence[float], voxels: Voxels
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return all maps as one array (findings · k, j, i) in VTK's order, and its affine to the node's own RAS mm.

    Outermost cells lie below the logit at which a finding is called present, so that none is ever coloured.
    """
    values = np.stack([heatmaps.shown(key, below) for key, below in zip(heatmaps.keys, decision_logits, strict=True)])
    affine = voxels.to_node @ heatmaps.affine
    if np.linalg.det(affine[:3, :3]) < 0:
        # Rows to posterior and columns to left make a left-handed grid, which volume rendering cannot take.
        values, affine = values.swapaxes(1, 2), affine[:, [1, 0, 2, 3]]
    cells = values.transpose(0, 3, 2, 1)
    return np.ascontiguousarray(cells).reshape(-1, *cells.shape[2:]), affine


def unstacked(hidden: Any, findings: int, index: int) -> NDArray[np.float32] | None:
    """Return the cells (k, j, i) of one of so many findings, or None if the volume does not hold that many maps."""
    stack: NDArray[np.float32] = slicer.util.arrayFromVolume(hidden)
    depth = len(stack) // findings
    if stack.ndim != 3 or depth * findings != len(stack) or depth == 0:
        return None
    return stack[index * depth :][:depth]


def hide_from_editors(node: Any) -> None:
    """Leave the node out of selectors and of the subject hierarchy's tree."""
    node.SetHideFromEditors(True)
    node.SetAttribute(slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")


def prepare_display(heat_map: Any, made: list[Any]) -> None:
    """Give the volume a display of its own; what that adds to the scene is added to `made`."""
    heat_map.CreateDefaultDisplayNodes()
    display = heat_map.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetAutoThreshold(False)
    display.ApplyThresholdOn()
    display.SetAndObserveColorNodeID(_colours(made).GetID())


def fill(heat_map: Any, cells: NDArray[np.float32], decision_logit: float) -> Peak:
    """Put one finding's cells (k, j, i) into the volume and colour them; return the highest."""
    slicer.util.updateVolumeFromArray(heat_map, cells)
    if heat_map.GetDisplayNode() is None:
        prepare_display(heat_map, [])
    top = float(cells.max())
    reaches = top >= decision_logit
    # From half way between the logit at which the finding is called present and the highest cell: all that lies
    # above that logit can be half the body. The colours end at least one logit above it, as a map that hardly
    # reaches it must not look like one that burns.
    begin = (decision_logit + top) / 2 if reaches else decision_logit
    display = heat_map.GetDisplayNode()
    display.SetThreshold(begin, max(top, decision_logit) + 1.0)
    display.SetWindowLevelMinMax(begin, max(top, decision_logit + 1.0))
    index = np.unravel_index(int(cells.argmax()), cells.shape)[::-1]
    own = ijk_to_ras(heat_map) @ [*index, 1.0]
    world = [0.0, 0.0, 0.0]
    heat_map.TransformPointToWorld(list(own[:3]), world)
    return Peak((world[0], world[1], world[2]), reaches)


def _colours(made: list[Any]) -> Any:
    """Return the scene's colour table for heat maps: dark red over orange to light yellow, lighter is higher."""
    for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode"):
        if node.GetAttribute(ROLE) == "colours":
            return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(_("GreenRFM heat"))
    node.SetAttribute(ROLE, "colours")
    node.SetTypeToUser()
    node.SetNumberOfColors(256)
    for index, part in enumerate(np.linspace(0, 1, 256)):
        node.SetColor(index, f"{index}", 0.55 + 0.45 * min(1.0, 2 * part), 0.95 * part, 0.75 * max(0.0, 2 * part - 1.2))
    made.append(slicer.mrmlScene.AddNode(node))
    return made[-1]
