"""What Python sees of a Qt class inside Slicer: CTK and Slicer classes by their facts, plain Qt classes by PySide6.

PythonQt shows properties, slots, invokables, signals and enumerators. A public C++ method that is none of these does
not exist in Python, and a property hides the getter of the same name. Plain Qt classes are wrapped whole; a name must
be in Qt 5.15 (Slicer 5.12) and in Qt 6 (Slicer 5.13), so what only one of them has is not visible here.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtUiTools, QtWidgets, QtXml

from .declarations import normalized

HOW_TO_ADD = (
    "add it to CLASSES in Testing/slicer_harness/contract/extract_facts.py "
    "and run that script with the path of slicer_qt_api.json"
)

# What PythonQt itself adds to every wrapped object.
_PYTHONQT = {"className", "connect", "delete", "disconnect", "exec_", "help", "inherits", "name", "raise_"}

_QT5_ONLY = {
    "activated(QString)": "textActivated(QString)",
    "buttonClicked(int)": "idClicked(int)",
    "buttonPressed(int)": "idPressed(int)",
    "buttonReleased(int)": "idReleased(int)",
    "buttonToggled(int,bool)": "idToggled(int,bool)",
    "currentIndexChanged(QString)": "currentTextChanged(QString)",
    "error(QProcess::ProcessError)": "errorOccurred(QProcess::ProcessError)",
    "finished(int)": "finished(int,QProcess::ExitStatus)",
    "highlighted(QString)": "textHighlighted(QString)",
    "mapped(QString)": "mappedString(QString)",
    "mapped(int)": "mappedInt(int)",
    "margin": "setContentsMargins(left, top, right, bottom)",
    "setMargin": "setContentsMargins(left, top, right, bottom)",
    "valueChanged(QString)": "textChanged(QString)",
}


@dataclass(frozen=True)
class Property:
    """A property: its C++ type, whether it can be set, and for Qt's own enumerations what they contain."""

    type: str
    writable: bool
    enumeration: QtCore.QMetaEnum | None = None


def qt_class(name: str) -> type | None:
    """Return PySide6's class of that name, or None."""
    for module in (QtWidgets, QtCore, QtGui, QtNetwork, QtUiTools, QtXml):
        found = getattr(module, name, None)
        if isinstance(found, type):
            return found
    return None


@functools.cache
def facts() -> dict[str, Any]:
    """Return the facts of the CTK and Slicer classes, by class name."""
    return json.loads(Path(__file__).with_name("facts.json").read_text(encoding="utf-8"))["classes"]


@functools.cache
def _qt6_only() -> dict[str, list[str]]:
    return json.loads(Path(__file__).with_name("qt6_only.json").read_text(encoding="utf-8"))["classes"]


@functools.cache
def surface(name: str) -> Surface | None:
    """Return what is visible of a class, or None for a class that neither the facts nor PySide6 know."""
    if name in facts() or (name.startswith("Q") and qt_class(name)):
        return Surface(name)
    return None


class Surface:
    """The names of one class and its bases, as PythonQt resolves them."""

    def __init__(self, name: str):
        self.name = name
        self._chain: list[dict[str, Any]] = []
        while name in facts():
            self._chain.append(facts()[name])
            bases = self._chain[-1]["bases"]
            # A base that is no QObject (qSlicerObject) shows nothing in Python.
            name = next((base for base in bases if base in facts() or qt_class(base)), "QObject")
        self.qt_base: type = qt_class(name)  # type: ignore[assignment]
        self._meta: QtCore.QMetaObject | None = getattr(self.qt_base, "staticMetaObject", None)
        self._qt6_only = {extra for cls in self.qt_base.__mro__ for extra in _qt6_only().get(cls.__name__, [])}

    @property
    def is_object(self) -> bool:
        """Whether this is a QObject: it then has properties and signals."""
        return self._meta is not None

    def property(self, name: str) -> Property | None:
        """Return a property that Qt 5.15 and Qt 6 both have."""
        name = "objectName" if name == "name" else name
        for cls in self._chain:
            if name in cls["properties"]:
                return Property(cls["properties"][name], name not in cls["read_only"])
        index = self._meta.indexOfProperty(name) if self._meta else -1
        if index < 0 or f"{name}=" in self._qt6_only:
            return None
        found = self._meta.property(index)  # type: ignore[union-attr]
        enumeration = found.enumerator() if found.isEnumType() else None
        return Property(found.typeName(), found.isWritable(), enumeration)

    def methods(self, name: str) -> dict[str, str]:
        """Return the known signatures of a method that the facts list, with their return types."""
        return {s: returns for cls in self._chain for s, returns in cls["methods"].items() if s.split("(")[0] == name}

    def has_method(self, name: str) -> bool:
        """Return whether Python can call this name on an instance."""
        if name in _PYTHONQT or self.methods(name):
            return True
        found = getattr(self.qt_base, name, None)
        hidden = name in self._qt6_only or name.startswith("_")
        # No isinstance(found, QtCore.Signal): PySide6 6.12 loses a reference to False there, and Python dies of it.
        return callable(found) and not hidden and type(found) is not QtCore.Signal

    def has_slot(self, signature: str) -> bool:
        """Return whether a `.ui` connection can end in this slot."""
        signature = normalized(signature)
        if any(signature in cls["methods"] for cls in self._chain):
            return True
        return self._meta is not None and self._meta.indexOfMethod(signature) >= 0

    def has_signal(self, signature: str) -> bool:
        """Return whether `connect` finds this signal on both versions of Qt; spaces and `const T&` do not matter."""
        signature = normalized(signature)
        if any(signature in cls["signals"] for cls in self._chain):
            return True
        return self._meta is not None and self._meta.indexOfSignal(signature) >= 0 and signature not in self._qt6_only

    def signals_named(self, name: str) -> list[str]:
        """Return the signatures of the signals of that name."""
        found = [signal for cls in self._chain for signal in cls["signals"] if signal.split("(")[0] == name]
        return found + [signal for signal in self._qt_signals if signal.split("(")[0] == name]

    def has_static(self, name: str) -> bool:
        """Return whether the class itself has this name: an enumerator, an enumeration or a static method."""
        if any(name in cls["enumerators"] for cls in self._chain) or self.methods(name):
            return True
        return name not in self._qt6_only and hasattr(self.qt_base, name)

    def sees(self, name: str) -> bool:
        """Return whether Python finds this attribute on an instance."""
        return bool(self.property(name) or self.has_method(name) or self.signals_named(name) or self.has_static(name))

    def becomes_property(self, name: str) -> bool:
        """Return whether a method of Qt 5 is a property in Qt 6, so that calling it works only on Qt 5."""
        return f"{name}=" in self._qt6_only and hasattr(self.qt_base, name)

    def is_a(self, name: str) -> bool:
        """Return whether this class is, or inherits, the class of that name."""
        return name == self.name or any(name in cls["bases"] for cls in self._chain) or name in self._qt_bases()

    def why_not(self, name: str) -> str:
        """Return the sentence for a name that Python does not see on an instance, with what to use instead."""
        if name in self._qt6_only or f"{name}=" in self._qt6_only:
            return f"{self.name}.{name} exists only in Qt 6: Slicer 5.12 runs on Qt 5.15"
        if name in _QT5_ONLY:
            return f"{self.name}.{name} exists only in Qt 5: use {_QT5_ONLY[name]}"
        if any(name in cls["cpp_only"] for cls in self._chain):
            return (
                f"{self.name}.{name} is public in C++ but no slot, so Python does not see it: {self._instead_of(name)}"
            )
        return f"{self.name} has no {name}{_suggestion(name, self._names())}"

    def why_no_static(self, name: str) -> str:
        """Return the sentence for a name that the class itself does not have."""
        if name[0].isupper() and self._chain and not self._chain[0]["enumerators"]:
            script = "Testing/slicer_harness/contract/extract_facts.py"
            return f"the contract knows no enumerators of {self.name}: add {name} to ENUMERATORS in {script} and run it"
        return self.why_not(name)

    def why_no_signal(self, signature: str) -> str:
        """Return the sentence for a signal that `connect` does not find."""
        signature = normalized(signature)
        if signature in self._qt6_only:
            return f"{self.name} has the signal {signature} only in Qt 6: Slicer 5.12 runs on Qt 5.15"
        if signature in _QT5_ONLY and self.has_signal(_QT5_ONLY[signature]):
            return f"{self.name} has the signal {signature} only in Qt 5: use {_QT5_ONLY[signature]}"
        name = signature.split("(")[0]
        known = self.signals_named(name)
        if known:
            return f"{self.name} has no signal {signature}: {name} is {' or '.join(sorted(known))}"
        return f"{self.name} has no signal {signature}{_suggestion(name, self._signal_names())}"

    def _instead_of(self, name: str) -> str:
        stem = re.sub("^(set|is|has)(?=[A-Z])", "", name)
        stem = stem[0].lower() + stem[1:]
        if self.property(stem):
            return f"use the property {stem}"
        if stem == "range" and self.property("minimum"):
            return "use the properties minimum and maximum"
        return "there is no property for it"

    def _qt_bases(self) -> set[str]:
        return {cls.__name__ for cls in self.qt_base.__mro__}

    def _names(self) -> set[str]:
        own = {n.split("(")[0] for cls in self._chain for key in ("properties", "methods", "signals") for n in cls[key]}
        return own | {n for n in dir(self.qt_base) if not n.startswith("_")} | self._qt_properties()

    @functools.cached_property
    def _qt_signals(self) -> list[str]:
        methods = [self._meta.method(index) for index in range(self._meta.methodCount())] if self._meta else []
        kind = QtCore.QMetaMethod.MethodType.Signal
        signals = [bytes(m.methodSignature().data()).decode() for m in methods if m.methodType() == kind]
        return [signal for signal in signals if signal not in self._qt6_only]

    def _qt_properties(self) -> set[str]:
        return {self._meta.property(i).name() for i in range(self._meta.propertyCount())} if self._meta else set()

    def _signal_names(self) -> set[str]:
        return {name for name in self._names() if self.signals_named(name)}


def _suggestion(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.75)
    return f"; did you mean {close[0]}?" if close else ""
