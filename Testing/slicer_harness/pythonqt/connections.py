"""Signals and slots: connecting by C++ signature, and collecting the exceptions that slots raise."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from PySide6 import QtCore

from . import standin


class SlotError(NamedTuple):
    """An exception that left a slot or an observer. PythonQt and VTK print it and go on."""

    where: str
    exception: BaseException


slot_errors: list[SlotError] = []
"""Every exception that left a slot since a test began."""


class _Connection(NamedTuple):
    signature: str
    slot: Callable
    call: Callable


def normalized(signature: str) -> str:
    """Return a C++ signature as Qt's meta-objects write it: no spaces, no const references."""
    return bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()


def has_signal(cpp: QtCore.QObject, signature: str) -> bool:
    """Return whether the object has the signal with this normalized C++ signature."""
    return signature in standin.signals(cpp) or (
        type(cpp).staticMetaObject.indexOfSignal(signature) >= 0 and standin.is_visible(cpp, signature.split("(")[0])
    )


def connect(cpp: QtCore.QObject, signature: str, slot: Callable) -> bool:
    """Connect a signal, named by its exact C++ signature, to a Python callable.

    Raises
    ------
    AttributeError
        If the object has no such signal. PythonQt prints a message and returns False.
    TypeError
        If the slot cannot be called.
    """
    signature = normalized(signature)
    if not has_signal(cpp, signature):
        raise AttributeError(f"{standin.class_name(cpp)} has no signal {signature}")
    if not callable(slot):
        raise TypeError(f"{signature} of {standin.class_name(cpp)} is connected to {slot!r}, which cannot be called")
    parameters = signature[signature.index("(") + 1 : -1]
    call = guarded(slot, len(parameters.split(",")) if parameters else 0)
    _bound(cpp, signature, "connect", call)
    _connections(cpp).append(_Connection(signature, slot, call))
    return True


def disconnect(cpp: QtCore.QObject, signature: str | None = None, slot: Callable | None = None) -> bool:
    """Undo `connect`; without a slot or a signature, of all of them. Return whether anything was connected."""
    signature = normalized(signature) if signature else None
    found = [
        connection
        for connection in _connections(cpp)
        if signature in (None, connection.signature) and (slot is None or slot == connection.slot)
    ]
    for connection in found:
        _bound(cpp, connection.signature, "disconnect", connection.call)
        _connections(cpp).remove(connection)
    return bool(found)


def guarded(slot: Callable, argument_count: int) -> Callable:
    """Return the slot as PythonQt calls it: with as many arguments as it takes, its exceptions caught."""
    from .proxy import wrap

    accepted = _positional_parameters(slot)
    count = argument_count if accepted is None else min(accepted, argument_count)

    def call(*arguments: Any) -> None:
        try:
            slot(*(wrap(argument) for argument in arguments[:count]))
        except Exception as error:
            traceback.print_exc()
            slot_errors.append(SlotError(getattr(slot, "__qualname__", repr(slot)), error))

    return call


def default_signature(cpp: QtCore.QObject, name: str) -> str:
    """Return the first declared signature of the signal with this name."""
    for signature in standin.signals(cpp):
        if signature.split("(")[0] == name:
            return signature
    meta = type(cpp).staticMetaObject
    for index in range(meta.methodCount()):
        method = meta.method(index)
        if method.methodType() == QtCore.QMetaMethod.MethodType.Signal and bytes(method.name().data()).decode() == name:
            return bytes(method.methodSignature().data()).decode()
    raise AttributeError(f"{standin.class_name(cpp)} has no signal named {name}")


class BoundSignal:
    """A signal as an attribute: `button.clicked.connect(f)`, `button.clicked()`."""

    def __init__(self, cpp: QtCore.QObject, name: str):
        self._cpp = cpp
        self._name = name

    def connect(self, slot: Callable) -> bool:
        return connect(self._cpp, default_signature(self._cpp, self._name), slot)

    def disconnect(self, slot: Callable | None = None) -> bool:
        return disconnect(self._cpp, default_signature(self._cpp, self._name), slot)

    def emit(self, *arguments: Any) -> None:
        from .proxy import unwrap

        signature = default_signature(self._cpp, self._name)
        attribute = standin.signals(self._cpp).get(signature, self._name)
        getattr(self._cpp, attribute).emit(*map(unwrap, arguments))

    __call__ = emit


def _connections(cpp: QtCore.QObject) -> list[_Connection]:
    return cpp.__dict__.setdefault("_pythonqt_connections", [])


def _bound(cpp: QtCore.QObject, signature: str, action: str, call: Callable) -> None:
    """Connect or disconnect on the PySide6 side."""
    attribute = standin.signals(cpp).get(signature)
    if attribute is not None:
        getattr(getattr(cpp, attribute), action)(call)
    else:
        getattr(QtCore.QObject, action)(cpp, QtCore.SIGNAL(signature), call)


def _positional_parameters(function: Callable) -> int | None:
    """Return how many positional arguments the function takes; None for any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return None
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD) for parameter in parameters
    )
