"""What Python sees of a stand-in for a ctk or qMRML class.

PythonQt wraps everything public of Qt's own classes, but of other classes only properties, slots, invokables and
signals: a plain C++ setter such as `setNodeTypes` does not exist for Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from PySide6 import QtCore


@dataclass(frozen=True)
class StandIn:
    """A widget class that plays a ctk or qMRML class.

    Attributes
    ----------
    cls : type
        The PySide6 widget class; its name is the C++ class name, its Qt properties are the real class's properties.
    exposed : frozenset of str
        Names of the slots and invokables that Python sees.
    signals : mapping of str to str
        Normalized C++ signature of a signal → the PySide6 signal that carries it.
    """

    cls: type
    exposed: frozenset[str]
    signals: Mapping[str, str] = field(default_factory=dict)


_OF_CLASS: dict[type, StandIn] = {}


def register(stand_in: StandIn) -> None:
    """Make the class known as a stand-in."""
    _OF_CLASS[stand_in.cls] = stand_in


def of(cls: type) -> StandIn | None:
    """Return the stand-in that the class is or derives from, or None for Qt's own classes."""
    return next((_OF_CLASS[base] for base in cls.__mro__ if base in _OF_CLASS), None)


def class_name(cpp: object) -> str:
    """Return the C++ class name of an object."""
    return type(cpp).__name__


def signals(cpp: object) -> Mapping[str, str]:
    """Return the signals that a stand-in declares by C++ signature; empty for Qt's own classes."""
    stand_in = of(type(cpp))
    return stand_in.signals if stand_in else {}


def is_visible(cpp: object, name: str) -> bool:
    """Return whether Python sees the method or signal `name` of an object."""
    stand_in = of(type(cpp))
    if stand_in is None:
        return True
    if name in stand_in.exposed or any(signature.split("(")[0] == name for signature in stand_in.signals):
        return True
    return any(name in base.__dict__ for base in type(cpp).__mro__ if _is_qt(base))


def declares(cls: type, name: str) -> bool:
    """Return whether a stand-in itself has the property, rather than the Qt class that it extends."""
    return any(name in base.__dict__ for base in cls.__mro__ if not _is_qt(base) and base is not object)


def _is_qt(cls: type) -> bool:
    return cls.__module__.startswith(("PySide6", "Shiboken", "shiboken6")) and issubclass(cls, QtCore.QObject)
