"""Copy what the contract check needs from the list of Slicer's and CTK's Qt classes.

    python extract_facts.py /path/to/slicer_qt_api.json

Add a class to CLASSES when the extension or a stand-in starts to use it, and run this again; its bases come along.
Writes `facts.json` beside this file. The list was extracted from the headers at the commits named in its `_source`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from declarations import return_type, signatures_of

FACTS = Path(__file__).with_name("facts.json")

CLASSES = [
    "ctkCheckBox",
    "ctkCollapsibleButton",
    "ctkCollapsibleGroupBox",
    "ctkComboBox",
    "ctkMessageBox",
    "ctkPathLineEdit",
    "ctkPushButton",
    "ctkSliderWidget",
    "qMRMLNodeComboBox",
    "qMRMLTableView",
    "qMRMLWidget",
    "qSlicerApplication",
    "qSlicerLayoutManager",
    "qSlicerWidget",
]

# The list has no enumerators. These are read from CTK 03bf84789d8c1f5ba7aeb8f6139d07e12ab94fd1.
ENUMERATORS = {
    "ctkPathLineEdit": [  # Libs/Widgets/ctkPathLineEdit.h: Filter, Option, SizeAdjustPolicy
        *["Dirs", "Files", "Drives", "NoSymLinks", "AllEntries", "TypeMask", "Readable", "Writable", "Executable"],
        *["PermissionMask", "Modified", "Hidden", "System", "AccessMask", "AllDirs", "CaseSensitive", "NoDotAndDotDot"],
        *["NoDot", "NoDotDot", "NoFilter", "ShowDirsOnly", "DontResolveSymlinks", "DontConfirmOverwrite"],
        *["DontUseSheet", "DontUseNativeDialog", "ReadOnly", "HideNameFilterDetails", "AdjustToContents"],
        *["AdjustToContentsOnFirstShow", "AdjustToMinimumContentsLength"],
    ],
}


def extract(api: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of CLASSES and their bases: properties, methods, signals by signature, and what is hidden."""
    classes = {}
    waiting = list(CLASSES)
    while waiting:
        name = waiting.pop()
        if name in classes:
            continue
        if name not in api:
            raise SystemExit(f"The list has no class {name}: take it out of CLASSES, or extend the list.")
        classes[name] = _class_facts(name, api)
        waiting += [base for base in classes[name]["bases"] if base in api]
    return {
        "source": {**api["_source"], "enumerators": "CTK 03bf84789d8c1f5ba7aeb8f6139d07e12ab94fd1"},
        "classes": dict(sorted(classes.items())),
    }


def _class_facts(name: str, api: dict[str, Any]) -> dict[str, Any]:
    raw = api[name]
    methods = {}
    for declarations in [*raw["slots"].values(), *raw["invokables"].values(), *_decorators(name, api)]:
        for declaration in declarations:
            for signature in signatures_of(declaration):
                methods[signature] = return_type(declaration)
    signals = {s for declarations in raw["signals"].values() for d in declarations for s in signatures_of(d)}
    visible = {signature.split("(")[0] for signature in [*methods, *signals]} | set(raw["properties"])
    return {
        "header": f"{raw['repo']}: {raw['path']}",
        "bases": raw["bases"],
        "properties": {key: value["type"] for key, value in sorted(raw["properties"].items())},
        "read_only": sorted(key for key, value in raw["properties"].items() if not value["write"]),
        "methods": dict(sorted(methods.items())),
        "signals": sorted(signals),
        "enumerators": ENUMERATORS.get(name, []),
        "cpp_only": sorted(set(raw["cpp_only_public"]) - visible - {name}),
    }


def _decorators(name: str, api: dict[str, Any]) -> list[list[str]]:
    """Return the declarations that PythonQt decorators add to a class: `static_X_f(…)`, or a first argument `X*`."""
    added = []
    for decorator in (key for key in api if key.endswith("PythonQtDecorators")):
        for slot, declarations in api[decorator]["slots"].items():
            if slot.startswith(f"static_{name}_"):
                added.append([d.replace(slot, slot.removeprefix(f"static_{name}_"), 1) for d in declarations])
            elif not slot.startswith(("static_", "new_", "delete_")):
                for declaration in declarations:
                    arguments = declaration[declaration.index("(") + 1 : declaration.rindex(")")]
                    first, _comma, rest = arguments.partition(",")
                    if first.strip().startswith(f"{name}*"):
                        added.append([f"{declaration[: declaration.index('(')]}({rest.strip()})"])
    return added


def main() -> None:
    """Write facts.json from the list named on the command line."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    api = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    FACTS.write_text(json.dumps(extract(api), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{FACTS}: {len(CLASSES)} classes and their bases")


if __name__ == "__main__":
    main()
