"""A heat map over the slice views, through the MRML nodes of the views: a layout manager need not exist.

What a view showed there before, such as the PET of a PET/CT, is remembered in the view's node, so in the scene,
and comes back when the heat map is hidden.
"""

from __future__ import annotations

from typing import Any

import slicer

from GreenRFMLib.scene import ROLE

_FORMER, _FORMER_OPACITY = "GreenRFM.formerForeground", "GreenRFM.formerForegroundOpacity"


def show(volume: Any, heat_map: Any, opacity: float) -> None:
    """Show `volume` in all slice views, with `heat_map` over it; the views keep their place and zoom."""
    for composite in _composites():
        over = _foreground(composite)
        # None over a view with a memory: the map that lay there was deleted, or not saved with the scene.
        if not _is_heat_map(over) and (over is not None or composite.GetAttribute(_FORMER_OPACITY) is None):
            composite.SetNodeReferenceID(_FORMER, over.GetID() if over is not None else None)
            composite.SetAttribute(_FORMER_OPACITY, str(composite.GetForegroundOpacity()))
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(heat_map.GetID())
        composite.SetForegroundOpacity(opacity)


def hide(heat_map: Any) -> None:
    """Take `heat_map`, or one that was deleted, off the slice views, and show again what was there before.

    Another foreground stays: the user chose it meanwhile.
    """
    for composite in _composites():
        over = _foreground(composite)
        opacity = composite.GetAttribute(_FORMER_OPACITY)
        if (over is not None and over is heat_map) or (over is None and opacity is not None):
            former = composite.GetNodeReference(_FORMER)
            composite.SetForegroundVolumeID(former.GetID() if former is not None else None)
            composite.SetForegroundOpacity(_number(opacity))
        elif opacity is None or _is_heat_map(over):
            continue
        composite.SetNodeReferenceID(_FORMER, None)
        composite.RemoveAttribute(_FORMER_OPACITY)


def fade(heat_map: Any, opacity: float) -> None:
    """Change how opaque `heat_map` is in the views that show it."""
    for composite in _composites():
        if _foreground(composite) is heat_map:
            composite.SetForegroundOpacity(opacity)


def jump(position: tuple[float, float, float]) -> None:
    """Move all slice views to `position`, in RAS mm of the world."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position)


def _composites() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def _foreground(composite: Any) -> Any:
    node_id = composite.GetForegroundVolumeID()
    return slicer.mrmlScene.GetNodeByID(node_id) if node_id else None


def _is_heat_map(node: Any) -> bool:
    return node is not None and node.GetAttribute(ROLE) == "heat map"


def _number(text: str | None) -> float:
    """Return the opacity that a scene's file holds, 0 if it is none: Slicer's own for an empty foreground."""
    try:
        return min(max(float(text or 0), 0.0), 1.0)
    except ValueError:
        return 0.0
