"""PySide6 behind the rules of PythonQt, the bridge between Python and Qt in Slicer.

* a property is an attribute (`button.enabled = True`, `label.text`), a slot or method is called;
* a signal is connected by its exact C++ signature (`button.connect("clicked(bool)", f)`);
* no keyword arguments, no new attributes on Qt objects, no overridden Qt virtuals;
* `isinstance` holds for the very class only: `inherits()` knows the base classes;
* a list comes back as a tuple;
* an object without a parent lives as long as Python refers to it.

Where PythonQt prints a message and goes on, this raises, so that a test sees it.
"""

from __future__ import annotations

from .connections import slot_errors
from .proxy import Proxy, unwrap, wrap

__all__ = ["Proxy", "slot_errors", "unwrap", "wrap"]
