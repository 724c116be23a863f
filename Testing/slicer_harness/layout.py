"""A layout manager without widgets: slice views as their real logics and nodes."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

SLICE_VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


class SliceWidget:
    """What is behind one slice view."""

    def __init__(self, logic: Any):
        self._logic = logic

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class LayoutManager:
    """The conventional red, yellow and green slice views, and no 3D view."""

    threeDViewCount = tableViewCount = plotViewCount = 0

    def __init__(self, size: tuple[int, int] = (256, 256)):
        self._logics = vtk.vtkCollection()
        self._widgets = {
            name: SliceWidget(self._add(name, orientation, size)) for name, orientation in SLICE_VIEWS.items()
        }
        slicer.appLogic.SetSliceLogics(self._logics)

    def _add(self, name: str, orientation: str, size: tuple[int, int]) -> Any:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(slicer.appLogic)
        logic.SetMRMLScene(slicer.mrmlScene)
        node = logic.AddSliceNode(name)
        node.SetOrientation(orientation)
        node.SetDimensions(*size, 1)
        self._logics.AddItem(logic)
        return logic

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._widgets)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return self._widgets.get(name)

    def mrmlSliceLogics(self) -> Any:
        return self._logics

    def resetSliceViews(self) -> None:
        for widget in self._widgets.values():
            widget.fitSliceToBackground()

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene
