"""The selector of a node in the scene."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtWidgets
from PySide6.QtCore import Property, Signal

from .declare import observe, stand_in, stored


@stand_in(
    "setMRMLScene",
    "setCurrentNode",
    "setCurrentNodeID",
    "setCurrentNodeIndex",
    "addNode",
    "removeCurrentNode",
    "editCurrentNode",
    "renameCurrentNode",
    "mrmlScene",
    "addAttribute",
    "removeAttribute",
    "setNodeTypeLabel",
    "nodeTypeLabel",
    "nodeCount",
    "nodeFromIndex",
    "currentNode",
    signals={
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_validity_changed",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAddedByUserAction(vtkMRMLNode*)": "nodeAddedByUserAction",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
        "currentNodeRenamed(QString)": "currentNodeRenamed",
        "nodeAboutToBeEdited(vtkMRMLNode*)": "nodeAboutToBeEdited",
    },
)
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A combo box of the scene's nodes of some types, kept up to date.

    Like the real one it is disabled without a scene, takes the first node
    to arrive where "None" is not offered, and the next one when the current node is removed. In a batch it follows
    node by node (qMRMLSceneModel::lazyUpdate is false), but not while a scene is imported or closed: at the end of
    these its model is emptied and filled again (qMRMLSceneModel::updateScene), so that it loses its node. It emits
    when the current node changes; the real one also when the current row moves up because one above it was removed.
    """

    currentNodeChanged = Signal(object)
    _validity_changed = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    currentNodeRenamed = Signal(str)
    nodeAboutToBeEdited = Signal(object)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._scene: Any = None
        self._observers: list[int] = []
        self._attributes: list[tuple[str, str, str | None]] = []
        self._labels: dict[str, str] = {}
        self._ids: list[str] = []
        self._current = ""
        self._requested = ""  # asked for before there was a scene
        self._combo_box = QtWidgets.QComboBox(self)
        self._combo_box.activated.connect(self._chosen_by_user)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        self.setEnabled(False)

    nodeTypes = stored("QStringList", "nodeTypes", [], changed="_refresh")
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", [], changed="_refresh")
    showHidden = stored(bool, "showHidden", False, changed="_refresh")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, changed="_refresh")
    noneEnabled = stored(bool, "noneEnabled", False, changed="_refresh")
    noneDisplay = stored(str, "noneDisplay", "None", changed="_refresh")
    baseName = stored(str, "baseName", "")
    addEnabled = stored(bool, "addEnabled", True)
    removeEnabled = stored(bool, "removeEnabled", True)
    editEnabled = stored(bool, "editEnabled", False)
    renameEnabled = stored(bool, "renameEnabled", False)
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "Singleton")
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 0)

    # ---- the scene

    def setMRMLScene(self, scene: Any) -> None:
        if scene is self._scene:
            return
        for observer in self._observers:
            self._scene.RemoveObserver(observer)
        self._scene = scene
        self._observers = []
        self.setEnabled(scene is not None)
        if scene is not None:
            events = {
                scene.NodeAddedEvent: "_refresh",
                scene.NodeRemovedEvent: "_refresh",
                scene.EndImportEvent: "_rebuild",
                scene.EndCloseEvent: "_rebuild",
            }
            self._observers = [observe(scene, event, self, method) for event, method in events.items()]
        self._refresh()
        if self._requested:
            self.setCurrentNodeID(self._requested)
            self._requested = ""

    def mrmlScene(self) -> Any:
        return self._scene

    # ---- the nodes

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index: int) -> Any:
        nodes = self._nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def addAttribute(self, node_type: str, name: str, value: Any = None) -> None:
        self._attributes.append((node_type, name, None if value is None else str(value)))
        self._refresh()

    def removeAttribute(self, node_type: str, name: str) -> None:
        self._attributes = [entry for entry in self._attributes if entry[:2] != (node_type, name)]
        self._refresh()

    def setNodeTypeLabel(self, label: str, node_type: str) -> None:
        self._labels[node_type] = label

    def nodeTypeLabel(self, node_type: str) -> str:
        return self._labels.get(node_type) or "node"

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = (self._scene.GetNthNode(index) for index in range(self._scene.GetNumberOfNodes()))
        return [node for node in nodes if self._is_offered(node)]

    def _is_offered(self, node: Any) -> bool:
        if self.showChildNodeTypes:
            right_type = any(node.IsA(kind) for kind in self.nodeTypes)
            right_type = right_type and not any(node.IsA(kind) for kind in self.hideChildNodeTypes)
        else:
            right_type = node.GetClassName() in self.nodeTypes
        if not right_type or (node.GetHideFromEditors() and not self.showHidden):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for kind, name, value in self._attributes
            if node.IsA(kind)
        )

    # ---- the current node

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        if not isinstance(node, slicer.vtkMRMLNode | str | None):
            raise TypeError(f"qMRMLNodeComboBox.setCurrentNode takes a node or None, not {type(node).__name__}")
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        if self._scene is None:
            self._requested = node_id
        else:
            self._select(node_id if node_id in self._ids else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def _read_current(self) -> str:
        return self._current if self.currentNode() is not None else ""

    currentNodeID = Property(str, _read_current, setCurrentNodeID)
    currentNodeId = Property(str, _read_current, setCurrentNodeID)

    # ---- what the user does

    def addNode(self, node_type: str | None = None) -> Any:
        node_type = node_type or (self.nodeTypes[0] if self.nodeTypes else None)
        if node_type not in self.nodeTypes:
            return None
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(self.baseName or "Node"))
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def renameCurrentNode(self) -> None:
        from ..pythonqt.proxy import static_overrides

        node = self.currentNode()
        name = static_overrides["QInputDialog", "getText"](self, "Rename", "New name:") if node else ""
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def _chosen_by_user(self, row: int) -> None:
        self.setCurrentNodeID(self._combo_box.itemData(row) or "")
        self.nodeActivated.emit(self.currentNode())

    # ---- keeping up to date

    def _rebuild(self) -> None:
        self._ids = []
        self._combo_box.blockSignals(True)
        self._combo_box.clear()
        self._combo_box.blockSignals(False)
        self._select("")
        self._refresh()

    def _refresh(self) -> None:
        before = self._ids
        nodes = self._nodes()
        if self._scene is not None and self._scene.IsClosing():
            return
        if self._scene is not None and self._scene.IsImporting():
            # References are not valid before its end: nodes that arrive are not taken in one by one.
            nodes = [node for node in nodes if node.GetID() in before]
        self._ids = [node.GetID() for node in nodes]
        self._combo_box.blockSignals(True)
        self._combo_box.clear()
        if self.noneEnabled:
            self._combo_box.addItem(self.noneDisplay, "")
        for node in nodes:
            self._combo_box.addItem(node.GetName() or node.GetID(), node.GetID())
        self._combo_box.blockSignals(False)
        self._select(self._current_after(before))
        for node in nodes:
            if node.GetID() not in before:
                self.nodeAdded.emit(node)

    def _current_after(self, before: list[str]) -> str:
        """Return which node is current after the list changed."""
        if self._current in self._ids:
            return self._current
        if not self._ids:
            return ""
        if self._current:  # it was removed: the next one moves up
            return self._ids[min(before.index(self._current), len(self._ids) - 1)] if self._current in before else ""
        return "" if self.noneEnabled or before else self._ids[0]

    def _select(self, node_id: str) -> None:
        self._combo_box.setCurrentIndex(self._combo_box.findData(node_id))
        if node_id != self._current:
            self._current = node_id
            node = self.currentNode()
            self.currentNodeChanged.emit(node)
            self._validity_changed.emit(node is not None)
            self.currentNodeIDChanged.emit(node_id)
