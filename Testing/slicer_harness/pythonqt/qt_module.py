"""The module `qt`, and the loader of .ui files."""

from __future__ import annotations

import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import connections, standin
from .proxy import ITEM_CLASSES, QtClass, ValueClass, static_overrides, wrap


class UiLoader(QtUiTools.QUiLoader):
    """Loads .ui files with stand-ins for the ctk and qMRML widgets."""

    stand_ins: Mapping[str, standin.StandIn] = types.MappingProxyType({})

    def createWidget(self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = ""):
        """Create one widget of the file."""
        if class_name in self.stand_ins:
            widget = self.stand_ins[class_name].cls(parent)
            widget.setObjectName(name)
            return widget
        if class_name not in self.availableWidgets():
            raise RuntimeError(f"the .ui file uses {class_name}, and the environment has no stand-in for it")
        return super().createWidget(class_name, parent, name)

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None):
        """Load a .ui file from an open file.

        Its connections are made here, since PySide6 does not know signatures such as
        ``mrmlSceneChanged(vtkMRMLScene*)``.
        """
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        found = root.find("connections")
        links = [] if found is None else [_link(element) for element in found.iter("connection")]
        if found is not None:
            root.remove(found)
        self._number_enumerators(root)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        top = super().load(buffer, parent)
        named = {widget.objectName(): widget for widget in [top, *top.findChildren(QtCore.QObject)]}
        for sender, signal, receiver, slot in links:
            connections.connect(named[sender], signal, getattr(wrap(named[receiver]), slot.split("(")[0]))
        return top

    def _number_enumerators(self, root: ElementTree.Element) -> None:
        """Write the enumerators of stand-ins as numbers: PySide6 properties have no enumerations of their own."""
        for widget in root.iter("widget"):
            stand_in = self.stand_ins.get(widget.get("class", ""))
            for prop in widget.findall("property") if stand_in else []:
                value = prop.find("set") if prop.find("enum") is None else prop.find("enum")
                if value is not None and standin.declares(stand_in.cls, prop.get("name", "")):
                    number = 0
                    for key in (value.text or "").split("|"):
                        number |= _enumerator(stand_in.cls, key)
                    prop.remove(value)
                    ElementTree.SubElement(prop, "number").text = str(number)


def _enumerator(cls: type, key: str) -> int:
    """Return the value of an enumerator such as ``ctkPathLineEdit::Dirs`` or ``Qt::AlignRight``."""
    scope, _, name = key.strip().rpartition("::")
    owner = QtCore.Qt if scope == "Qt" else getattr(QtWidgets, scope, cls)
    if not isinstance(getattr(owner, name, None), int) or (owner is cls and scope != cls.__name__):
        raise RuntimeError(f"the .ui file uses {key.strip()}, which {cls.__name__} does not have")
    return int(getattr(owner, name))


def _link(element: ElementTree.Element) -> tuple[str, str, str, str]:
    sender, signal, receiver, slot = (element.findtext(part, "") for part in ("sender", "signal", "receiver", "slot"))
    return sender, signal, receiver, slot


def make_qt_module(stand_ins: Mapping[str, standin.StandIn]) -> types.ModuleType:
    """Return the module `qt`: all of QtCore, QtGui, QtWidgets and the .ui loader, as PythonQt shows them."""
    module = types.ModuleType("qt", "Qt as PythonQt shows it.")
    for library in (QtCore, QtGui, QtWidgets):
        for name in dir(library):
            attribute = getattr(library, name)
            if name.startswith("Q") and isinstance(attribute, type):
                setattr(module, name, _shown(attribute))
    UiLoader.stand_ins = stand_ins
    loader = type("QUiLoader", (UiLoader,), {})
    module.QUiLoader = QtClass.of(loader)
    module.Qt = QtCore.Qt
    static_overrides["QTimer", "singleShot"] = _single_shot
    return module


def _shown(cls: type) -> Any:
    return QtClass.of(cls) if issubclass(cls, (QtCore.QObject, *ITEM_CLASSES)) else ValueClass(cls)


def _single_shot(milliseconds: int, slot: Any) -> None:
    QtCore.QTimer.singleShot(milliseconds, connections.guarded(slot, 0))
