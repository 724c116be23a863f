"""How a stand-in is written."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import shiboken6
from PySide6 import QtCore

from ..pythonqt import standin

STANDINS: dict[str, standin.StandIn] = {}
"""Every stand-in by its C++ class name."""


def stand_in(*exposed: str, signals: Mapping[str, str] | None = None) -> Callable[[type], type]:
    """Declare the decorated widget class as a stand-in.

    Parameters
    ----------
    *exposed : str
        The real class's slots and invokables that Python sees. A base's are inherited.
    signals : mapping of str to str, optional
        C++ signature → PySide6 signal, in the order of the real header.
    """

    def declare(cls: type) -> type:
        base = standin.of(cls)
        declared = standin.StandIn(
            cls,
            frozenset(exposed) | (base.exposed if base else frozenset()),
            {**(base.signals if base else {}), **(signals or {})},
        )
        standin.register(declared)
        STANDINS[cls.__name__] = declared
        return cls

    return declare


def stored(kind: Any, name: str, default: Any, changed: str | None = None) -> QtCore.Property:
    """Return a Qt property that keeps its value, and calls the method `changed` after a write."""
    attribute = f"_{name}"

    def read(self: Any) -> Any:
        return getattr(self, attribute, default)

    def write(self: Any, value: Any) -> None:
        setattr(self, attribute, value)
        if changed is not None:
            getattr(self, changed)()

    return QtCore.Property(kind, read, write)


def observe(vtk_object: Any, event: Any, widget: QtCore.QObject, method: str) -> int:
    """Call a widget's method on an event of VTK for as long as the widget lives, and keep nothing alive for it."""
    reference = weakref.ref(widget)

    def call(*_: Any) -> None:
        observer = reference()
        if observer is not None and shiboken6.isValid(observer):
            getattr(observer, method)()

    return vtk_object.AddObserver(event, call)
