"""A heat map over the slice views, through the MRML nodes of the views: a layout manager need not exist."""

from __future__ import annotations

from typing import Any

import slicer


def show(volume: Any, heat_map: Any, opacity: float) -> None:
    """Show `volume` in all slice views, with `heat_map` over it; the views keep their place and zoom."""
    for composite in _composites():
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(heat_map.GetID())
        composite.SetForegroundOpacity(opacity)


def hide(heat_map: Any) -> None:
    """Take `heat_map` off the slice views; another foreground stays."""
    for composite in _composites():
        if heat_map is not None and composite.GetForegroundVolumeID() == heat_map.GetID():
            composite.SetForegroundVolumeID(None)


def jump(position: tuple[float, float, float]) -> None:
    """Move all slice views to `position`, in RAS mm of the world."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position)


def _composites() -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))
