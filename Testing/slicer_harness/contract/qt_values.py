"""The values that Qt's own classes lead to: attributes of modules and objects, and what methods return."""

from __future__ import annotations

import re

from .surface import facts, qt_class, surface
from .values import QtClass, QtMethod, QtModule, QtObject, QtSignal, Value

# `layout()` is declared as QLayout and gives a QFormLayout.
_BASES = {"QEvent", "QGraphicsItem", "QIODevice", "QLayout", "QLayoutItem", "QObject", "QStyle", "QWidget"}


def module_attribute(module: str, name: str) -> Value:
    """Return what `qt.name`, `ctk.name`, `slicer.name` or `slicer.util.name` is."""
    if module == "slicer.util":
        return QtMethod("slicer.util", name)
    if module == "slicer" and name == "util":
        return QtModule("slicer.util")
    if module == "slicer" and name == "app":
        return QtObject("qSlicerApplication")
    is_qt = module == "qt" and name.startswith("Q") and qt_class(name) is not None
    is_fact = module in ("ctk", "slicer") and name in facts() and (module == "ctk") == name.startswith("ctk")
    return QtClass(name) if is_qt or is_fact else None


def object_attribute(owner: str, name: str) -> Value:
    """Return what an attribute of an instance is, in PythonQt's order: property, method, signal."""
    seen = surface(owner)
    if seen is None:
        return None
    if found := seen.property(name):
        return QtObject(found.type) if surface(found.type) else None
    if seen.has_method(name):
        return QtMethod(owner, name)
    return QtSignal(owner, name) if seen.signals_named(name) else None


def returned(owner: str, name: str) -> Value:
    """Return what a Qt method gives: by the facts, or by PySide6's own signature where it has a single one."""
    seen = surface(owner)
    if seen is None:
        return None
    listed = {returned.rstrip("*") for returned in seen.methods(name).values()}
    if listed:
        cls = listed.pop() if len(listed) == 1 else ""
        return exactly(cls)
    from shibokensupport.signature import get_signature  # PySide6 brings it; it exists once PySide6 is imported

    signature = get_signature(getattr(seen.qt_base, name, None))
    if signature is None or isinstance(signature, list):
        return None
    given = re.search(r"\.(Q\w+)(?:'>)?(?: \| None)?$", str(signature.return_annotation))
    return exactly(given[1]) if given else None


def exactly(cls: str) -> QtObject | None:
    """Return an instance of a class as declared; None for a base class, because PythonQt then gives the real one."""
    return None if cls in _BASES or "Abstract" in cls or not surface(cls) else QtObject(cls)
