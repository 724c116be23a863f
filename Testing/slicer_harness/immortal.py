"""Keeps None, True and False alive under Python 3.11.

PySide6 6.12 gives back references to them that it never took: measured, two of None for each turn of the event loop
and one for each property written. Since Python 3.12 these objects are immortal and nothing comes of it; before, a
test that waits for a minute ends with "Fatal Python error: none_dealloc".
"""

from __future__ import annotations

import ctypes
import sys

_FAR_FROM_ZERO = 1 << 40


def keep_singletons() -> None:
    """Raise the reference counts of the objects that Python 3.12 made immortal, once."""
    if sys.version_info >= (3, 12):
        return
    for singleton in (None, True, False, NotImplemented, Ellipsis, (), "", b"", *range(-5, 257)):
        if sys.getrefcount(singleton) < _FAR_FROM_ZERO:
            ctypes.c_ssize_t.from_address(id(singleton)).value += _FAR_FROM_ZERO
