"""The contract check: what the extension and the harness say about Qt, held against the facts of the real classes.

`check_extension(folder)` reads `.ui` files and Python without running anything; `check_standins()` looks at the
harness's stand-ins for CTK and qMRML classes. Both return a list of `Problem`, empty when all is well.

What it does not see: objects that arrive from elsewhere (nodes of the scene, arguments of slots, items of lists, names
that hold several kinds of objects), how many and which arguments a method is given, methods that are protected in C++,
and attributes named at run time. Enumerators of CTK are known only where `extract_facts.py` lists them. The facts are
those of one commit of CTK and Slicer; `facts.json` names them. What Qt 6 has and Qt 5 lacks is known up to the versions
that `qt6_only.json` names.
"""

from __future__ import annotations

from .check import check_extension, check_standins
from .problem import Problem

__all__ = ["Problem", "check_extension", "check_standins"]
