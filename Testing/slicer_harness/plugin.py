"""Fixtures of the tests that run inside the Slicer-like environment."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PySide6 import QtWidgets

from . import boot, environment
from . import dialogs as dialog_answers
from .dialogs import Dialogs
from .events import process_events
from .layout import LayoutManager
from .module import LoadedModule, load_module
from .pythonqt import slot_errors as collected
from .pythonqt.connections import SlotError


@pytest.fixture(scope="session", autouse=True)
def booted() -> ModuleType:
    """Boot the environment once."""
    return boot()


@pytest.fixture(autouse=True)
def dialogs(booted: ModuleType) -> Iterator[Dialogs]:
    """Answers to modal dialogs; one that comes up without an answer fails the test."""
    answers = Dialogs()
    dialog_answers.use(answers)
    yield answers
    dialog_answers.use(Dialogs())
    if answers.unanswered:
        pytest.fail(f"dialogs without an answer: {answers.unanswered}", pytrace=False)


@pytest.fixture(autouse=True)
def slot_errors(booted: ModuleType) -> Iterator[list[SlotError]]:
    """Exceptions that left slots and observers; one that is still listed at the end fails the test.

    A test that expects one takes it out: `slot_errors.clear()`.
    """
    collected.clear()
    previous = sys.excepthook

    def collect(kind: type, error: BaseException, trace: Any) -> None:
        # VTK's observers and PySide6's callbacks report here.
        traceback.print_exception(kind, error, trace)
        collected.append(SlotError("observer", error))

    sys.excepthook = collect
    yield collected
    sys.excepthook = previous
    errors = [f"{error.where}: {error.exception!r}" for error in collected]
    collected.clear()
    if errors:
        pytest.fail("exceptions left slots: " + "; ".join(errors), pytrace=False)


@pytest.fixture
def slicer(slot_errors: list[SlotError]) -> Iterator[ModuleType]:
    """`slicer` with a fresh scene and fresh settings."""
    module = boot()
    environment.clear_settings()
    environment.packaging.reset()
    module.app.testing = False
    environment.new_scene()
    yield module
    environment.packaging.reset()
    for widget in QtWidgets.QApplication.topLevelWidgets():
        widget.close()
    process_events()


@pytest.fixture
def qt(slicer: ModuleType) -> ModuleType:
    """Return the module `qt`."""
    return sys.modules["qt"]


@pytest.fixture
def ctk(slicer: ModuleType) -> ModuleType:
    """Return the module `ctk`."""
    return sys.modules["ctk"]


@pytest.fixture
def layout_manager(slicer: ModuleType) -> LayoutManager:
    """Red, yellow and green slice views: their real logics and nodes, without widgets."""
    slicer.app.layout_manager = LayoutManager()
    return slicer.app.layout_manager


@pytest.fixture
def load_volume(slicer: ModuleType) -> Callable[..., Any]:
    """`load_volume(path, labelmap=False)` loads a file through the Volumes logic and returns the volume node."""

    def load(path: str | Path, labelmap: bool = False) -> Any:
        return slicer.util.loadVolume(str(path), {"labelmap": True} if labelmap else {})

    return load


@pytest.fixture
def open_module(slicer: ModuleType) -> Iterator[Callable[[str | Path], LoadedModule]]:
    """`open_module(path)` loads a module; its panel is closed after the test."""
    opened: list[LoadedModule] = []

    def load(path: str | Path) -> LoadedModule:
        opened.append(load_module(path))
        return opened[-1]

    yield load
    for module in opened:
        module.close()
    process_events()
