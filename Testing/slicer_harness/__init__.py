"""A Slicer-like environment for tests: real MRML, real Qt behind PythonQt's rules, no application.

>>> from slicer_harness import boot
>>> boot()
>>> import slicer, qt, ctk

Importing this package imports slicer-core's `slicer`, and does it so that the folder ``Testing/slicer`` is not taken
for a part of it.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# PythonQt's enums are integers. Read by the first import of PySide6.
sys.pyside6_option_python_enum = 2  # type: ignore[attr-defined]

from .slicer_core import import_slicer  # noqa: E402

import_slicer()

from .immortal import keep_singletons  # noqa: E402

keep_singletons()

from .environment import boot  # noqa: E402

__all__ = ["boot"]
