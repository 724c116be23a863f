"""List what plain Qt classes have in Qt 6 and not in Qt 5.15, on which Slicer 5.12 runs.

    python -m venv /tmp/qt5 && /tmp/qt5/bin/pip install PyQt5
    python extract_qt6_only.py /tmp/qt5/bin/python

Compares the bindings PySide6 (this Python) and PyQt5 (the other Python) and writes `qt6_only.json` beside this file:
for each class its own names, signals by signature and properties as `name=`. Only names are kept. PyQt5 does not wrap
all of Qt 5.15; names that are known to be there all the same are in IN_QT5.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

QT6_ONLY = Path(__file__).with_name("qt6_only.json")
MODULES = ["QtCore", "QtGui", "QtNetwork", "QtWidgets"]
# In Qt 5.15 but not wrapped by PyQt5, or part of PySide's own additions that PythonQt offers too.
IN_QT5 = {
    "connect",
    "emit",
    "environment",
    "setEnvironment",
    "isTopLevel",
    "topLevelWidget",
    "backingStore",
    "doItemsLayout",
}


def members(binding: str) -> dict[str, Any]:
    """Return the version of a binding's Qt and, for each class, its bases and everything that can be named on it."""
    classes = {}
    for module in (importlib.import_module(f"{binding}.{name}") for name in MODULES):
        for name in dir(module):  # not vars(): PySide6 makes its classes when they are asked for
            cls = getattr(module, name)
            if isinstance(cls, type) and name.startswith("Q"):
                names = {attribute for attribute in dir(cls) if not attribute.startswith("_")}
                bases = [base.__name__ for base in cls.__mro__[1:] if base.__name__.startswith("Q")]
                classes[name] = {"bases": bases, "names": sorted(names | _meta_members(cls))}
    version = importlib.import_module(f"{binding}.QtCore").qVersion()
    return {"version": version, "classes": classes}


def _meta_members(cls: type) -> set[str]:
    meta = getattr(cls, "staticMetaObject", None)
    if meta is None:
        return set()
    methods = [meta.method(index) for index in range(meta.methodCount())]
    signals = [
        method for method in methods if getattr(method.methodType(), "name", method.methodType()) in ("Signal", 1)
    ]
    return {f"{meta.property(index).name()}=" for index in range(meta.propertyCount())} | {
        bytes(signal.methodSignature().data()).decode() for signal in signals
    }


def difference(qt6: dict[str, Any], qt5: dict[str, Any]) -> dict[str, list[str]]:
    """Return for each class that both have the names that only Qt 6 has, less those that a base names already."""
    extra = {
        name: set(facts["names"]) - set(qt5["classes"][name]["names"]) - IN_QT5
        for name, facts in qt6["classes"].items()
        if name in qt5["classes"]
    }
    own = {
        name: names.difference(*(extra.get(base, set()) for base in qt6["classes"][name]["bases"]))
        for name, names in extra.items()
    }
    return {name: sorted(names) for name, names in sorted(own.items()) if names}


def main() -> None:
    """Write qt6_only.json; with the word `members`, print what this Python's PyQt5 has."""
    if sys.argv[1:] == ["members"]:
        print(json.dumps(members("PyQt5")))
        return
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    answer = subprocess.run([sys.argv[1], __file__, "members"], capture_output=True, text=True, check=True)
    qt5, qt6 = json.loads(answer.stdout), members("PySide6")
    table = {"source": {"PySide6": qt6["version"], "PyQt5": qt5["version"]}, "classes": difference(qt6, qt5)}
    text = json.dumps(table["classes"]).replace("], ", "],\n  ").replace("{", "{\n  ", 1)[:-1] + "\n }"
    QT6_ONLY.write_text(f'{{\n "source": {json.dumps(table["source"])},\n "classes": {text}\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
