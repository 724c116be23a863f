"""The check of a stand-in: it may show less than the real class, but nothing more and nothing of another kind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QMetaMethod

from .declarations import normalized
from .problem import Problem
from .surface import HOW_TO_ADD, Surface, facts, surface

# What a Python property can be declared as for a C++ type; an enumeration or a flag is an int, or any value.
_SAME = {"qreal": {"double"}, "QVariant": {"PyObject"}}
_PLAIN = {"bool", "int", "double", "qreal", "QString", "QStringList"}


class StandIn(Protocol):
    """What the check asks of a stand-in."""

    cls: type
    """The PySide6 widget that plays the class."""
    exposed: frozenset[str]
    """The names of its methods that Python code under test may call."""
    signals: dict[str, str]
    """Its signals by C++ signature where PySide6 cannot declare that signature itself."""


def check_standin(name: str, standin: StandIn) -> list[Problem]:
    """Return where one stand-in differs from the class it plays."""
    file, line = _place(standin.cls)
    if name not in facts():
        return [Problem(file, line, f"the contract has no facts about {name}: {HOW_TO_ADD}")]
    real = surface(name)
    assert real is not None
    findings = [*_base(standin, real), *_properties(standin, real), *_methods(standin, real), *_signals(standin, real)]
    return [Problem(file, line, f"stand-in {name}: {sentence}") for sentence in findings]


def _place(cls: type) -> tuple[Path, int]:
    try:
        return Path(inspect.getsourcefile(cls) or cls.__module__), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return Path(cls.__module__), 0


def _qt_parent(cls: type) -> type:
    """Return the plain Qt class that a stand-in extends: everything of it is visible."""
    return next(base for base in cls.__mro__ if base.__module__.startswith("PySide6."))


def _base(standin: StandIn, real: Surface) -> Iterator[str]:
    parent = _qt_parent(standin.cls)
    if parent is not real.qt_base:
        yield f"it extends {parent.__name__}, the real class extends {real.qt_base.__name__}"


def _properties(standin: StandIn, real: Surface) -> Iterator[str]:
    meta = standin.cls.staticMetaObject
    for index in range(_qt_parent(standin.cls).staticMetaObject.propertyCount(), meta.propertyCount()):
        mine = meta.property(index)
        found = real.property(mine.name())
        if found is None:
            yield f"{real.why_not(mine.name())}, but the stand-in has this property"
            continue
        if mine.isWritable() and not found.writable:
            yield f"the property {mine.name()} can be set, the real one is read-only"
        if not mine.isWritable() and found.writable:
            yield f"the property {mine.name()} is read-only, the real one can be set"
        if found.type in _PLAIN and mine.typeName() not in {found.type} | _SAME.get(found.type, set()):
            yield f"the property {mine.name()} is a {mine.typeName()}, the real one a {found.type}"


def _methods(standin: StandIn, real: Surface) -> Iterator[str]:
    for name in sorted(standin.exposed):
        if not real.has_method(name) and not real.signals_named(name) and not real.has_static(name):
            yield f"{real.why_not(name)}, but the stand-in exposes it"
        elif not hasattr(standin.cls, name):
            yield f"it exposes {name} but does not have it"


def _signals(standin: StandIn, real: Surface) -> Iterator[str]:
    for signature, attribute in standin.signals.items():
        if not real.has_signal(signature):
            yield real.why_no_signal(signature)
        if signature != normalized(signature):
            yield f"the signal {signature} is not in Qt's normal form {normalized(signature)}"
        if not hasattr(standin.cls, attribute):
            yield f"the signal {signature} is played by {attribute}, which the stand-in does not have"
    played = set(standin.signals.values())
    meta = standin.cls.staticMetaObject
    for index in range(_qt_parent(standin.cls).staticMetaObject.methodCount(), meta.methodCount()):
        method = meta.method(index)
        name = bytes(method.name().data()).decode()
        signature = bytes(method.methodSignature().data()).decode()
        if method.methodType() != QMetaMethod.MethodType.Signal or name in played or name.startswith("_"):
            continue
        if not real.has_signal(signature):
            yield f"{real.why_no_signal(signature)}, but the stand-in has that signal"
