"""Imports `slicer` of the package slicer-core."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_slicer() -> ModuleType:
    """Return slicer-core's `slicer`, with `slicer.util`.

    `slicer` takes every folder ``slicer`` on the path for a part of itself and imports all modules in it. The folder
    of tests ``Testing/slicer`` would be one, so such folders are out of sight for this import.
    """
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if not _is_plain_folder(Path(entry or ".") / "slicer")]
    try:
        slicer = importlib.import_module("slicer")
        importlib.import_module("slicer.util")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("these tests need slicer-core: pip install slicer-core") from error
    finally:
        sys.path[:] = path
    return slicer


def _is_plain_folder(folder: Path) -> bool:
    return folder.is_dir() and not (folder / "__init__.py").exists()
