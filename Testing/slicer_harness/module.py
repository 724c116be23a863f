"""Loads a scripted module as Slicer's module factory does."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import slicer


class ModuleDescription:
    """`parent` of a module class: only the properties of qSlicerScriptedLoadableModule, with their types."""

    _PROPERTIES: ClassVar[dict[str, type]] = {
        "title": str,
        "categories": list,
        "contributors": list,
        "dependencies": list,
        "associatedNodeTypes": list,
        "helpText": str,
        "acknowledgementText": str,
        "icon": object,
        "hidden": bool,
        "index": int,
        "extensions": object,
        "name": str,
        "path": str,
        "widgetRepresentationCreationEnabled": bool,
    }

    def __init__(self, name: str, path: Path):
        self.name = name
        self.path = str(path)
        self.title = name
        self.hidden = False
        self.widget: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "widget":
            if name not in self._PROPERTIES:
                raise AttributeError(f"qSlicerScriptedLoadableModule has no property {name}")
            if not isinstance(value, self._PROPERTIES[name]):
                raise AttributeError(f"Property '{name}' does not accept an object of type {type(value).__name__}")
        object.__setattr__(self, name, value)

    def logic(self) -> None:
        """Return None: a scripted module's logic belongs to its widget."""

    def widgetRepresentation(self) -> Any:
        return self.widget


class LoadedModule:
    """A module with its panel, set up and entered.

    Attributes
    ----------
    python : module
        The imported file.
    instance : object
        The object of the module class.
    widget : object
        The object of the widget class; its `parent` is a qMRMLWidget, which is shown.
    """

    def __init__(self, python: ModuleType, instance: Any, widget: Any):
        self.python = python
        self.instance = instance
        self.widget = widget
        self._is_open = True

    def close(self) -> None:
        """Leave and clean up the panel and delete its widgets, as when the application ends."""
        if not self._is_open:
            return
        self._is_open = False
        _call(self.widget, "exit")
        _call(self.widget, "cleanup")
        self.widget.parent.hide()
        self.widget.parent.delete()


def load_module(path: str | Path) -> LoadedModule:
    """Import a scripted module's file, make the module, and build, show and enter its panel.

    Slicer gives the widget a parent with a layout and the scene, calls `setup()`, then `enter()` when the user
    chooses the module. The folder of the file is on the path, so that it finds its library.
    """
    import qt

    path = Path(path).resolve()
    name = path.stem
    python = _import(path)
    description = ModuleDescription(name, path)
    instance = getattr(python, name)(description)
    setattr(slicer.modules, name.lower(), description)
    setattr(slicer.modules, f"{name}Instance", instance)
    slicer.app.moduleManager().entries[name] = description
    parent = slicer.qMRMLWidget()
    parent.setLayout(qt.QVBoxLayout())
    parent.setMRMLScene(slicer.mrmlScene)
    widget = getattr(python, f"{name}Widget")(parent)
    setattr(slicer.modules, f"{name}Widget", widget)
    description.widget = parent
    widget.setup()
    parent.resize(480, 900)
    parent.show()
    _call(widget, "enter")
    return LoadedModule(python, instance, widget)


def _import(path: Path) -> ModuleType:
    folder = str(path.parent)
    _forget_other_copies(path)
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    python = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = python
    spec.loader.exec_module(python)
    return python


def _forget_other_copies(path: Path) -> None:
    """Forget a module of this name from another folder, and its library, or the copy would use the other's."""
    known = sys.modules.get(path.stem)
    file = getattr(known, "__file__", None)
    if file is None or Path(file).parent == path.parent:
        return
    other = Path(file).parent
    for name, module in list(sys.modules.items()):
        if (location := getattr(module, "__file__", None)) and Path(location).is_relative_to(other):
            del sys.modules[name]
    sys.path[:] = [entry for entry in sys.path if entry != str(other)]


def _call(widget: Any, method: str) -> None:
    function: Callable[[], None] | None = getattr(widget, method, None)
    if function is not None:
        function()
