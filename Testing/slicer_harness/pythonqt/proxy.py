"""The Python object that stands for a Qt object, with PythonQt's order of attributes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

from . import connections, standin

ITEM_CLASSES = (
    QtWidgets.QTableWidgetItem,
    QtWidgets.QTreeWidgetItem,
    QtWidgets.QListWidgetItem,
    QtGui.QStandardItem,
)
"""Not QObjects, but written to as if they were: they get a proxy, so that they refuse new attributes too."""

# Hooks of the dialogs: (class name, static method) → function, and what runs instead of a modal dialog.
static_overrides: dict[tuple[str, str], Callable] = {}
modal_hook: list[Callable[[Proxy], Any]] = []

_proxies: weakref.WeakValueDictionary[int, Proxy] = weakref.WeakValueDictionary()


def unwrap(value: Any) -> Any:
    """Return the PySide6 object behind a proxy; of a container, that of each element."""
    if isinstance(type(value), QtClass):
        return object.__getattribute__(value, "_cpp")
    if isinstance(value, QtClass | ValueClass):
        return value.pyside
    if type(value) in (list, tuple):
        return type(value)(map(unwrap, value))
    if type(value) is dict:
        return {key: unwrap(item) for key, item in value.items()}
    return value


def wrap(value: Any) -> Any:
    """Return the proxy of a PySide6 object, always the same one; a list becomes a tuple of proxies."""
    if isinstance(value, (QtCore.QObject, *ITEM_CLASSES)):
        known = value.__dict__.get("_pythonqt_instance") or _proxies.get(id(value))
        if known is not None and object.__getattribute__(known, "_cpp") is value:
            return known
        proxy = object.__new__(QtClass.of(type(value)))
        _adopt(proxy, value)
        return proxy
    if type(value) in (list, tuple):
        return tuple(map(wrap, value))
    return value


def _adopt(proxy: Proxy, cpp: Any) -> None:
    object.__setattr__(proxy, "_cpp", cpp)
    _proxies[id(cpp)] = proxy


class QtClass(type):
    """The type of what `qt.QPushButton` is. Qt's inheritance is not visible to Python's `isinstance`."""

    pyside: type
    is_python: bool
    _of_pyside: ClassVar[dict[type, QtClass]] = {}

    def __new__(mcs, name: str, bases: tuple, namespace: dict, pyside: type | None = None):
        cls = super().__new__(mcs, name, bases, namespace)
        cls.is_python = pyside is None
        cls.pyside = pyside or bases[0].pyside
        if cls.is_python:
            overridden = [key for key in namespace if not key.startswith("_") and hasattr(cls.pyside, key)]
            if overridden:
                raise TypeError(
                    f"{name} overrides {', '.join(overridden)} of {cls.pyside.__name__}: C++ never calls it"
                )
        return cls

    def __init__(cls, *arguments: Any, **keywords: Any):
        super().__init__(*arguments)

    @classmethod
    def of(mcs, pyside: type) -> QtClass:
        """Return the class that stands for a PySide6 class, always the same one."""
        if pyside not in mcs._of_pyside:
            mcs._of_pyside[pyside] = mcs(pyside.__name__, (Proxy,), {"__slots__": ()}, pyside=pyside)
        return mcs._of_pyside[pyside]

    def __getattr__(cls, name: str) -> Any:
        override = static_overrides.get((cls.pyside.__name__, name))
        return override or _class_attribute(cls.pyside, name)


class Proxy(metaclass=QtClass, pyside=QtCore.QObject):
    """A Qt object as PythonQt shows it."""

    __slots__ = ("__weakref__", "_cpp")

    def __init__(self, *arguments: Any, **keywords: Any):
        if keywords:
            raise ValueError(
                f"{type(self).__name__} was called with keyword arguments: PythonQt's constructors take none"
            )
        cpp = type(self).pyside(*map(unwrap, arguments))
        _adopt(self, cpp)
        if type(self).is_python:
            cpp.__dict__["_pythonqt_instance"] = self  # a Python subclass lives as long as its Qt object

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or (type(self).is_python and _has_python_attribute(self, name)):
            return object.__getattribute__(self, name)
        cpp = object.__getattribute__(self, "_cpp")
        if not shiboken6.isValid(cpp):
            raise ValueError(f"Trying to use '{name}' of a destroyed {type(self).__name__} object")
        if isinstance(cpp, QtCore.QObject):
            meta_property = _property(cpp, name)
            if meta_property is not None:
                return wrap(meta_property.read(cpp))
            if name in _OBJECT_METHODS:
                return _OBJECT_METHODS[name].__get__(cpp)
        found, member = _member(self, cpp, name)
        if found:
            return member
        raise AttributeError(f"{standin.class_name(cpp)} has no attribute named '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        cpp = object.__getattribute__(self, "_cpp")
        if not shiboken6.isValid(cpp):
            raise AttributeError(f"Trying to set '{name}' of a destroyed {type(self).__name__} object")
        meta_property = _property(cpp, name) if isinstance(cpp, QtCore.QObject) else None
        if meta_property is not None:
            _write(cpp, name, meta_property, value)
        elif standin.is_visible(cpp, name) and hasattr(type(cpp), name):
            raise AttributeError(f"Slot '{name}' can not be overwritten on {type(self).__name__} object")
        elif isinstance(cpp, QtCore.QObject) and name in _dynamic_properties(cpp):
            cpp.setProperty(name, unwrap(value))
        elif type(self).is_python:
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(
                f"'{name}' does not exist on {type(self).__name__} and creating new attributes on C++ objects "
                "is not allowed"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(type(other), QtClass) and unwrap(self) is unwrap(other)

    def __hash__(self) -> int:
        return id(object.__getattribute__(self, "_cpp"))

    def __bool__(self) -> bool:
        return shiboken6.isValid(object.__getattribute__(self, "_cpp"))

    def __repr__(self) -> str:
        cpp = object.__getattribute__(self, "_cpp")
        name = cpp.objectName() if isinstance(cpp, QtCore.QObject) and shiboken6.isValid(cpp) else ""
        return f"{type(self).__name__}({name!r}, at {id(cpp):#x})"


class ValueClass(type):
    """What `qt.QSize` or `qt.QColor` is: a class whose objects are no QObjects and pass as they are."""

    def __new__(mcs, pyside: type):
        return super().__new__(mcs, pyside.__name__, (), {"pyside": pyside})

    def __init__(cls, pyside: type):
        super().__init__(pyside.__name__, (), {})

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise ValueError(f"{cls.__name__} was called with keyword arguments: PythonQt's constructors take none")
        return cls.pyside(*map(unwrap, arguments))

    def __instancecheck__(cls, instance: object) -> bool:
        return type(instance) is cls.pyside

    def __getattr__(cls, name: str) -> Any:
        return _class_attribute(cls.pyside, name)


def _class_attribute(pyside: type, name: str) -> Any:
    """Return an enum value, a static method or a nested class."""
    attribute = getattr(pyside, name)
    if isinstance(attribute, type) and issubclass(attribute, QtCore.QObject):
        return QtClass.of(attribute)
    if callable(attribute) and not isinstance(attribute, type | int):
        return _method(attribute, f"{pyside.__name__}.{name}")
    return attribute


def _has_python_attribute(proxy: Proxy, name: str) -> bool:
    if name in object.__getattribute__(proxy, "__dict__"):
        return True
    return any(name in cls.__dict__ for cls in type(proxy).__mro__ if isinstance(cls, QtClass) and cls.is_python)


def _member(proxy: Proxy, cpp: Any, name: str) -> tuple[bool, Any]:
    """Find what is neither a property nor one of every object's methods, in PythonQt's order."""
    if standin.is_visible(cpp, name) and not name.startswith("_pythonqt"):
        if any(signature.split("(")[0] == name for signature in standin.signals(cpp)):
            return True, connections.BoundSignal(cpp, name)
        attribute = getattr(cpp, "exec" if name == "exec_" else name, None)
        if isinstance(attribute, QtCore.SignalInstance):
            return True, connections.BoundSignal(cpp, name)
        if isinstance(cpp, QtWidgets.QDialog) and name in ("exec", "exec_") and modal_hook:
            return True, lambda: modal_hook[-1](proxy)
        if attribute is not None and not name.startswith("_"):
            return True, _method(attribute, f"{type(cpp).__name__}.{name}") if callable(attribute) else wrap(attribute)
    if isinstance(cpp, QtCore.QObject):
        if name in _dynamic_properties(cpp):
            return True, wrap(cpp.property(name))
        for child in cpp.children():
            if child.objectName() == name:
                return True, wrap(child)
    return False, None


def _method(function: Callable, name: str) -> Callable:
    def call(*arguments: Any, **keywords: Any) -> Any:
        if keywords:
            raise TypeError(f"{name} takes no keyword arguments in PythonQt: {', '.join(keywords)}")
        return wrap(function(*map(unwrap, arguments)))

    call.__name__ = name
    return call


def _property(cpp: QtCore.QObject, name: str) -> QtCore.QMetaProperty | None:
    name = "objectName" if name == "name" else name
    if name == "singleShot" and isinstance(cpp, QtCore.QTimer):
        return None  # the static method hides the property, as in PythonQt
    # Of the class: PySide6 takes the meta-object that an object returns for a part of it, and deletes both.
    meta = type(cpp).staticMetaObject
    index = meta.indexOfProperty(name)
    return meta.property(index) if index >= 0 else None


def _dynamic_properties(cpp: QtCore.QObject) -> list[str]:
    return [bytes(name.data()).decode() for name in cpp.dynamicPropertyNames()]


def _write(cpp: QtCore.QObject, name: str, meta_property: QtCore.QMetaProperty, value: Any) -> None:
    if not meta_property.isWritable():
        raise AttributeError(f"Property '{name}' of {standin.class_name(cpp)} object is not writable")
    real_name = "objectName" if name == "name" else name
    value = unwrap(list(value) if isinstance(value, tuple) else value)
    setter = None
    if standin.of(type(cpp)) is None or not standin.declares(type(cpp), real_name):
        setter = getattr(cpp, f"set{real_name[0].upper()}{real_name[1:]}", None)
    try:
        # Qt's own setters check types; writing through the meta-object converts where PythonQt does not.
        accepted = meta_property.write(cpp, value) if setter is None else setter(value) or True
    except (TypeError, ValueError):
        accepted = False
    if not accepted:
        raise AttributeError(
            f"Property '{name}' of type '{meta_property.typeName()}' does not accept an object of type "
            f"{type(value).__name__} ({value!r})"
        )


def _find_children(cpp: QtCore.QObject, kind: Any, name: str) -> list[QtCore.QObject]:
    class_name = kind if isinstance(kind, str) else kind.pyside.__name__
    return [
        child
        for child in cpp.findChildren(QtCore.QObject)
        if child.inherits(class_name) and (not name or child.objectName() == name)
    ]


def _class_name(cpp: QtCore.QObject) -> str:
    return standin.class_name(cpp)


def _inherits(cpp: QtCore.QObject, name: str) -> bool:
    return cpp.inherits(name)


def _delete(cpp: QtCore.QObject) -> None:
    shiboken6.delete(cpp)


def _find_child(cpp: QtCore.QObject, kind: Any = "QObject", name: str = "") -> Any:
    return wrap(next(iter(_find_children(cpp, kind, name)), None))


def _find_all_children(cpp: QtCore.QObject, kind: Any = "QObject", name: str = "") -> tuple:
    return wrap(_find_children(cpp, kind, name))


def _connect(cpp: QtCore.QObject, signature: str, receiver: Any, slot: str | None = None) -> bool:
    if slot is None:
        return connections.connect(cpp, signature, receiver)
    return connections.connect(cpp, signature, getattr(receiver, slot.split("(")[0]))


def _disconnect(cpp: QtCore.QObject, signature: str | None = None, slot: Callable | None = None) -> bool:
    return connections.disconnect(cpp, signature, slot)


_OBJECT_METHODS: dict[str, Callable] = {
    "className": _class_name,
    "inherits": _inherits,
    "delete": _delete,
    "findChild": _find_child,
    "findChildren": _find_all_children,
    "connect": _connect,
    "disconnect": _disconnect,
}
