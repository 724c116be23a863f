"""What an expression of the extension's Python can be, as far as the contract check follows it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class QtModule:
    """`qt`, `ctk`, `slicer`, `slicer.util` or `slicer.app`'s module: a place where Qt classes are found."""

    name: str


@dataclass(frozen=True)
class QtClass:
    """A Qt class itself, as in `qt.QPushButton`."""

    name: str


@dataclass(frozen=True)
class QtObject:
    """An instance of a Qt, CTK or Slicer class."""

    name: str


@dataclass(frozen=True)
class QtMethod:
    """A method of an instance (`owner.name`), not yet called."""

    owner: str
    name: str


@dataclass(frozen=True)
class QtSignal:
    """A signal of an instance, as in `button.clicked`."""

    owner: str
    name: str


@dataclass(frozen=True)
class LoadedUi:
    """What `slicer.util.loadUI` returns for one `.ui` file."""

    path: Path


@dataclass(frozen=True)
class UiNames:
    """The widgets of a `.ui` file as attributes, as `childWidgetVariables` makes them; without a path, of any file."""

    path: Path | None


@dataclass(frozen=True)
class OwnModule:
    """A module that the extension defines, by its dotted name."""

    label: str


@dataclass(frozen=True)
class OwnClass:
    """A class that the extension defines."""

    key: str


@dataclass(frozen=True)
class Own:
    """An instance of a class that the extension defines."""

    key: str


@dataclass(frozen=True)
class Function:
    """A function or method that the extension defines; `bound` when `self` is already given."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    bound: bool = False


@dataclass(frozen=True)
class Nothing:
    """The constant None: it says nothing about what a name holds later."""


_Qt = QtModule | QtClass | QtObject | QtMethod | QtSignal
_Extension = LoadedUi | UiNames | OwnModule | OwnClass | Own | Function
Value = _Qt | _Extension | Nothing | None
"""None stands for everything the check does not follow."""
