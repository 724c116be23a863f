"""`slicer.app`: the part of the application that modules and `slicer.util` ask for."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from .file_types import FileTypes
from .pythonqt import unwrap, wrap


class ModuleManager:
    """Knows the loaded modules by name."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}

    def module(self, name: str) -> Any:
        return self.entries.get(name)

    def modulesNames(self) -> tuple[str, ...]:
        return tuple(self.entries)


class Application:
    """A Slicer without a window.

    `layout_manager` is None, as in an application started with --no-main-window, unless a test sets one.
    """

    applicationName = "Slicer"
    mainApplicationName = "Slicer"
    revision = "0"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    def __init__(self, folder: str, version: str):
        self.temporaryPath = os.path.join(folder, "temporary")
        self.extensionsInstallPath = os.path.join(folder, "extensions")
        self.slicerHome = os.path.join(folder, "home")
        for path in (self.temporaryPath, self.extensionsInstallPath, self.slicerHome):
            os.makedirs(path, exist_ok=True)
        self.applicationVersion = version
        self.majorVersion, self.minorVersion = (int(part) for part in version.split(".")[:2])
        self.layout_manager: Any = None
        self.testing = False
        self.connections: list[tuple[str, Callable[..., None]]] = []
        self._files = FileTypes()
        self._modules = ModuleManager()
        self._settings = QtCore.QSettings()
        self._startup_environment = dict(os.environ)

    def connect(self, signal: str, slot: Callable[..., None]) -> bool:
        """Take note of a connection with the application; its start-up is over before a test begins."""
        self.connections.append((signal, slot))
        return True

    def coreIOManager(self) -> FileTypes:
        return self._files

    ioManager = coreIOManager

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def mrmlScene(self) -> Any:
        return slicer.mrmlScene

    def applicationLogic(self) -> Any:
        return slicer.appLogic

    def layoutManager(self) -> Any:
        return self.layout_manager

    def settings(self) -> Any:
        return wrap(self._settings)

    userSettings = settings
    revisionUserSettings = settings

    def testingEnabled(self) -> bool:
        return self.testing

    def commandOptions(self) -> Any:
        return types.SimpleNamespace(noMainWindow=True, testingEnabled=self.testing)

    def startupEnvironment(self) -> Any:
        environment = QtCore.QProcessEnvironment()
        for name, value in self._startup_environment.items():
            environment.insert(name, value)
        return environment

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()

    def topLevelWidgets(self) -> tuple:
        return wrap(QtWidgets.QApplication.topLevelWidgets())

    def thread(self) -> Any:
        return wrap(QtWidgets.QApplication.instance().thread())

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(unwrap(cursor))

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def pauseRender(self) -> None:
        """There is nothing to render."""

    def resumeRender(self) -> None:
        """There is nothing to render."""

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"
