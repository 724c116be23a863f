"""The check of the extension's Python: every attribute, call and connection of a Qt object that can be followed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .declarations import arguments_of
from .inference import Inference
from .literals import does_not_fit
from .problem import Problem
from .source import Source
from .surface import HOW_TO_ADD, facts, qt_class, surface
from .values import Function, QtClass, QtMethod, QtModule, QtObject, QtSignal, UiNames

Finding = tuple[ast.AST, str]
_FACT_CLASS = {"ctk": re.compile("ctk[A-Z]"), "slicer": re.compile("(qMRML|qSlicer)[A-Z]")}
_NOT_IN_PYTHONQT = {
    "Signal": "qt.Signal crashes Slicer: use a plain Python callback",
    "Slot": "qt.Slot does not exist in PythonQt: any Python callable is a slot",
    "Property": "qt.Property does not exist in PythonQt: use Python's property",
    "QTime": "qt.QTime lost its stop-watch in Qt 6: use qt.QElapsedTimer or time.monotonic()",
    "QTextCodec": "qt.QTextCodec exists only in Qt 5: decode bytes in Python",
    "QRegExp": "qt.QRegExp exists only in Qt 5: use qt.QRegularExpression",
    "QRegExpValidator": "qt.QRegExpValidator exists only in Qt 5: use qt.QRegularExpressionValidator",
}


def check_python(source: Source, inference: Inference) -> list[Problem]:
    """Return what PythonQt would refuse or silently ignore in one file."""
    rules = Rules(source, inference)
    return [Problem(source.path, getattr(node, "lineno", 0), sentence) for node, sentence in rules.findings()]


class Rules:
    """The rules about Qt objects, over one file."""

    def __init__(self, source: Source, inference: Inference):
        self.source, self.inference = source, inference

    def findings(self) -> Iterator[Finding]:
        """Yield every node that breaks a rule, with the sentence about it."""
        for node in self.source.nodes:
            if isinstance(node, ast.Attribute):
                yield from self._attribute(node, node.value, node.attr)
            elif isinstance(node, ast.ImportFrom) and node.module in ("qt", "ctk") and not node.level:
                for alias in node.names:
                    yield from ((node, text) for text in _module_name(node.module, alias.name))
            elif isinstance(node, ast.Call):
                yield from self._call(node)

    def _value(self, node: ast.expr):
        return self.inference.value(node, self.source)

    def _attribute(self, node: ast.Attribute, owner: ast.expr, name: str) -> Iterator[Finding]:
        match self._value(owner):
            case UiNames() as names:
                if not self.inference.ui_classes(names, name):
                    where = names.path.name if names.path else "any .ui file"
                    yield node, f"there is no widget {name} in {where}"
            case QtModule(module):
                yield from ((node, text) for text in _module_name(module, name))
            case QtClass(cls):
                seen = surface(cls)
                if seen and not seen.has_static(name):
                    yield node, seen.why_no_static(name)
            case QtSignal(cls, signal) if name not in ("connect", "disconnect", "emit"):
                yield node, f"{cls}.{signal} is a signal: it has connect, disconnect and emit, not {name}"
            case QtObject(cls):
                if isinstance(node.ctx, ast.Load):
                    yield from self._read(node, cls, name)
                else:
                    parent = self.source.parents[node]
                    value = parent.value if isinstance(parent, ast.Assign | ast.AnnAssign) else None
                    yield from _write(node, cls, name, value)

    def _read(self, node: ast.Attribute, cls: str, name: str) -> Iterator[Finding]:
        seen = surface(cls)
        if seen is None:
            yield node, f"the contract has no facts about {cls}: {HOW_TO_ADD}"
            return
        parent = self.source.parents.get(node)
        called = isinstance(parent, ast.Call) and parent.func is node
        if not seen.sees(name):
            yield node, seen.why_not(name)
        elif called and seen.property(name):
            yield node, f"{name} of {cls} is a property: write .{name} without ()"
        elif called and seen.becomes_property(name):
            yield node, f"{name} of {cls} is a method in Qt 5 and a property in Qt 6: neither spelling works on both"
        elif not called and not seen.property(name) and seen.has_method(name) and _judged_as_value(node, parent):
            yield node, f"{name} of {cls} is a method: without () it is always true"

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        function = self._value(node.func)
        if isinstance(function, QtClass) and node.keywords:
            yield node, f"PythonQt's {function.name} takes no keyword arguments: set the properties after making it"
        if isinstance(function, QtMethod) and function.name in ("connect", "disconnect"):
            yield from self._connect(node, function.owner)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "connect":
            signal = self._value(node.func.value)
            if isinstance(signal, QtSignal) and node.args:
                known = (surface(signal.owner) or surface("QObject")).signals_named(signal.name)  # type: ignore[union-attr]
                yield from self._handler(node, max(known, key=lambda s: len(arguments_of(s))), node.args[0])
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr", "isinstance"):
            yield from self._builtin(node, node.func.id)

    def _builtin(self, node: ast.Call, name: str) -> Iterator[Finding]:
        if name == "isinstance":
            for kind in ast.walk(node.args[1]) if len(node.args) == 2 else ():
                cls = self._value(kind) if isinstance(kind, ast.expr) else None
                seen = surface(cls.name) if isinstance(cls, QtClass) else None
                if seen and seen.is_object:
                    yield node, f'PythonQt has no inheritance between Qt classes: write .inherits("{seen.name}")'
        elif len(node.args) >= 2 and isinstance(node.args[1], ast.Constant) and isinstance(node.args[1].value, str):
            attribute = node.args[1].value
            owner = self._value(node.args[0])
            if isinstance(owner, UiNames) and not self.inference.ui_classes(owner, attribute):
                yield node, f"there is no widget {attribute} in any .ui file"
            elif isinstance(owner, QtObject) and name == "setattr" and len(node.args) == 3:
                yield from _write(node, owner.name, attribute, node.args[2])
            elif isinstance(owner, QtObject) and name == "getattr" and len(node.args) == 2:
                seen = surface(owner.name)
                if seen and not seen.sees(attribute):
                    yield node, seen.why_not(attribute)

    def _connect(self, node: ast.Call, cls: str) -> Iterator[Finding]:
        seen = surface(cls)
        if seen is None or not node.args:
            return
        signal = node.args[0]
        if not (isinstance(signal, ast.Constant) and isinstance(signal.value, str)):
            return
        try:
            known = seen.has_signal(signal.value)
        except ValueError as error:
            yield node, str(error)
            return
        if not known:
            yield node, f"{seen.why_no_signal(signal.value)} (connect would only print a warning)"
            return
        if len(node.args) == 2:
            yield from self._handler(node, signal.value, node.args[1])
        elif len(node.args) == 3 and isinstance(node.args[2], ast.Constant):
            receiver = self._value(node.args[1])
            target = surface(receiver.name) if isinstance(receiver, QtObject) else None
            if target and not _slot_exists(target, str(node.args[2].value)):
                yield node, f"{target.name} has no slot {node.args[2].value}"

    def _handler(self, node: ast.Call, signal: str, handler: ast.expr) -> Iterator[Finding]:
        """Judge whether the function that a signal calls can be called with what the signal gives."""
        given = len(arguments_of(signal))
        function = self._value(handler)
        if isinstance(function, Function):
            arguments = function.node.args
            positional = len(arguments.posonlyargs) + len(arguments.args) - (1 if function.bound else 0)
            required = positional - len(arguments.defaults)
            if required > given or any(default is None for default in arguments.kw_defaults):
                name = getattr(function.node, "name", "the lambda")
                yield node, f"{signal} gives {given} argument{'s' * (given != 1)}, {name} needs {required}"
        elif isinstance(handler, ast.Call):
            called = self._value(handler.func)
            if isinstance(called, Function) and _gives_nothing(called.node):
                yield node, f"{ast.unparse(handler)} is called here instead of being connected: leave out its ()"


def _module_name(module: str, name: str) -> Iterator[str]:
    if module == "qt" and name in _NOT_IN_PYTHONQT:
        yield _NOT_IN_PYTHONQT[name]
    elif module == "qt" and name.startswith("Q") and qt_class(name) is None:
        yield f"qt.{name} is no class of Qt 6"
    elif module in _FACT_CLASS and _FACT_CLASS[module].match(name) and name not in facts():
        yield f"the contract has no facts about {name}: {HOW_TO_ADD}"


def _write(node: ast.AST, cls: str, name: str, value: ast.expr | None) -> Iterator[Finding]:
    seen = surface(cls)
    if seen is None:
        yield node, f"the contract has no facts about {cls}: {HOW_TO_ADD}"
        return
    found = seen.property(name)
    if found is None:
        if seen.sees(name):
            yield node, f"{name} of {cls} is no property: PythonQt does not let it be assigned"
        else:
            yield node, seen.why_not(name)
    elif not found.writable:
        yield node, f"the property {name} of {cls} is read-only"
    elif value is not None and (text := does_not_fit(value, found.type)):
        yield node, f"{name} of {cls} is a {found.type}: {text}"


def _slot_exists(target, slot: str) -> bool:
    if "(" in slot:
        return target.has_slot(slot)
    return target.has_method(slot) or bool(target.signals_named(slot))


def _gives_nothing(function: ast.AST) -> bool:
    return not isinstance(function, ast.Lambda) and not any(isinstance(part, ast.Return) for part in ast.walk(function))


def _judged_as_value(node: ast.expr, parent: ast.AST | None) -> bool:
    """Return whether an expression stands where its truth or value is asked for."""
    match parent:
        case ast.If() | ast.While() | ast.IfExp() | ast.Assert():
            return parent.test is node
        case ast.UnaryOp():
            return isinstance(parent.op, ast.Not)
        case ast.Compare():
            others = [parent.left, *parent.comparators]
            return not any(isinstance(other, ast.Constant) and other.value is None for other in others)
        case ast.BoolOp() | ast.BinOp() | ast.FormattedValue() | ast.Subscript():
            return True
    return False
