"""qMRML widgets that show a scene or a node."""

from __future__ import annotations

from typing import Any

import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from .declare import observe, stand_in, stored


@stand_in(
    "setMRMLScene",
    "mrmlScene",
    signals={"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"},
)
class qMRMLWidget(QtWidgets.QWidget):
    """A widget that hands its scene to its children, who connect to `mrmlSceneChanged`."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene: Any) -> None:
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return self._scene


@stand_in(
    "setMRMLScene",
    signals={"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"},
)
class qSlicerWidget(QtWidgets.QWidget):
    """The same for widgets of modules; Python cannot ask it for its scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._scene = None

    setMRMLScene = qMRMLWidget.setMRMLScene


@stand_in(
    "setMRMLScene",
    "mrmlScene",
    "setMRMLTableNode",
    "mrmlTableNode",
    "setTransposed",
    "setFirstRowLocked",
    "setFirstColumnLocked",
    signals={"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged", "selectionChanged()": "_selection_changed"},
)
class qMRMLTableView(QtWidgets.QTableView):
    """The cells of a table node, kept up to date."""

    mrmlSceneChanged = Signal(object)
    _selection_changed = Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._scene = self._node = self._observer = None
        self.setModel(QtGui.QStandardItemModel(self))
        self.selectionModel().selectionChanged.connect(lambda *_: self._selection_changed.emit())

    transposed = stored(bool, "transposed", False, changed="_fill")
    firstRowLocked = stored(bool, "firstRowLocked", False, changed="_fill")
    firstColumnLocked = stored(bool, "firstColumnLocked", False, changed="_fill")

    def setTransposed(self, transposed: bool) -> None:
        self.setProperty("transposed", transposed)

    def setFirstRowLocked(self, locked: bool) -> None:
        self.setProperty("firstRowLocked", locked)

    def setFirstColumnLocked(self, locked: bool) -> None:
        self.setProperty("firstColumnLocked", locked)

    setMRMLScene, mrmlScene = qMRMLWidget.setMRMLScene, qMRMLWidget.mrmlScene

    def mrmlTableNode(self) -> Any:
        return self._node

    def setMRMLTableNode(self, node: Any) -> None:
        if self._node is not None:
            self._node.RemoveObserver(self._observer)
        self._node = node
        if node is not None:
            self._observer = observe(node, vtk.vtkCommand.ModifiedEvent, self, "_fill")
        self._fill()

    def _fill(self) -> None:
        model = self.model()
        model.clear()
        if self._node is None or self._node.GetTable() is None:
            return
        table = self._node.GetTable()
        columns, rows = table.GetNumberOfColumns(), table.GetNumberOfRows()
        cells = [[table.GetValue(row, column).ToString() for column in range(columns)] for row in range(rows)]
        if self._node.GetUseColumnTitleAsColumnHeader():
            titles = [self._node.GetColumnTitle(table.GetColumnName(column)) for column in range(columns)]
        else:
            titles = [table.GetColumnName(column) for column in range(columns)]
        if self.transposed:
            cells = [list(column) for column in zip(*cells, strict=True)]
            model.setVerticalHeaderLabels(titles)
        for row in cells:
            model.appendRow([QtGui.QStandardItem(cell) for cell in row])
        if not self.transposed:
            model.setHorizontalHeaderLabels(titles)
        locked = QtCore.Qt.ItemFlag.ItemIsEditable
        if self._node.GetLocked():
            for row in range(model.rowCount()):
                for column in range(model.columnCount()):
                    item = model.item(row, column)
                    item.setFlags(item.flags() & ~locked)
