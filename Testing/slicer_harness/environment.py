"""Puts together what `import slicer` gives inside the application: scene, logics, `slicer.app`, `qt`, `ctk`."""

from __future__ import annotations

import atexit
import importlib.metadata
import shutil
import sys
import tempfile
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets

from . import dialogs, scripted_modules
from . import packaging as packaging_stand_in
from .application import Application
from .packaging import packaging
from .pythonqt.proxy import QtClass
from .pythonqt.qt_module import make_qt_module

__all__ = ["boot", "new_scene", "packaging"]

MODULE_LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Units": "vtkSlicerUnitsLogic",
}

_logics: dict[str, Any] = {}
_remote_files: list[Any] = []


def boot() -> types.ModuleType:
    """Make `import slicer, qt, ctk` work as inside Slicer, once per process. Return `slicer`."""
    if hasattr(slicer, "app"):
        return slicer
    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    application.setStyle("Fusion")
    application.setQuitOnLastWindowClosed(False)
    folder = tempfile.mkdtemp(prefix="slicer_harness_")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _use_settings_file(folder)
    slicer.app = Application(folder, _version())
    slicer.modules = types.SimpleNamespace()
    _make_modules()
    with _quiet_vtk():
        _make_logics()
    new_scene()
    dialogs.install()
    packaging_stand_in.install()
    return slicer


def new_scene() -> Any:
    """Give every logic a new, empty scene as right after Slicer's start, and return it."""
    previous = getattr(slicer, "mrmlScene", None)
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    logic = slicer.appLogic
    slicer.app.layout_manager = None
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    logic.SetMRMLScene(scene)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    with _quiet_vtk():
        logic.GetColorLogic().SetMRMLScene(scene)
        logic.GetColorLogic().AddDefaultColorNodes()
    with _quiet_vtk():
        for module_logic in (*_logics.values(), *_remote_files):
            module_logic.SetMRMLScene(scene)
    _remote_files[0].AddDataIOToScene()
    if previous is not None:
        # A scene that garbage collection destroys would call its observers in the middle of it, and crash.
        previous.RemoveAllObservers()
    return scene


@contextmanager
def _quiet_vtk() -> Iterator[None]:
    """Keep quiet about the colour and terminology files that slicer-core does not carry."""
    vtk.vtkObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        vtk.vtkObject.GlobalWarningDisplayOn()


def clear_settings() -> None:
    """Empty the settings file."""
    QtCore.QSettings().clear()


def _version() -> str:
    """Return Slicer's version that this slicer-core was made of, `5.12.4` or `5.13.31053`."""
    return ".".join(importlib.metadata.version("slicer-core").split(".")[:3])


def _use_settings_file(folder: str) -> None:
    settings = QtCore.QSettings
    settings.setDefaultFormat(settings.Format.IniFormat)
    settings.setPath(settings.Format.IniFormat, settings.Scope.UserScope, str(Path(folder) / "settings"))
    settings.setPath(settings.Format.IniFormat, settings.Scope.SystemScope, str(Path(folder) / "system"))
    QtCore.QCoreApplication.setOrganizationName("NA-MIC")
    QtCore.QCoreApplication.setApplicationName("Slicer")


def _make_modules() -> None:
    """Put `qt`, `ctk`, the qMRML classes and `slicer`'s own Python modules where imports find them."""
    from .standins import STANDINS

    sys.modules["qt"] = make_qt_module(STANDINS)
    ctk = sys.modules["ctk"] = types.ModuleType("ctk", "The stand-ins of CTK's widgets.")
    for name, stand_in in STANDINS.items():
        setattr(ctk if name.startswith("ctk") else slicer, name, QtClass.of(stand_in.cls))
    i18n = types.ModuleType("slicer.i18n", "Translations: English as it is.")
    i18n.tr = lambda text: text  # type: ignore[attr-defined]
    i18n.translate = lambda context, text: text  # type: ignore[attr-defined]
    for name, module in (("i18n", i18n), ("ScriptedLoadableModule", scripted_modules.make_module())):
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)


def _make_logics() -> None:
    slicer.appLogic = slicer.vtkSlicerApplicationLogic()
    slicer.appLogic.SetTemporaryPath(slicer.app.temporaryPath)
    for name, class_name in MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(slicer.appLogic)
        slicer.appLogic.SetModuleLogic(name, logic)
        _logics[name] = logic
        entry = types.SimpleNamespace(name=name, title=name, logic=lambda logic=logic: logic)
        setattr(slicer.modules, name.lower(), entry)
        slicer.app.moduleManager().entries[name] = entry
    # Reading an MRB goes through the logics for remote files.
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLApplicationLogic(slicer.appLogic)
    remote.GetCacheManager().SetRemoteCacheDirectory(slicer.app.temporaryPath)
    data = slicer.vtkDataIOManagerLogic()
    data.SetMRMLApplicationLogic(slicer.appLogic)
    data.SetAndObserveDataIOManager(remote.GetDataIOManager())
    _remote_files[:] = [remote, data]
