"""Which expressions of the extension's Python are Qt objects: widgets of a `.ui` file, and what the code itself makes.

Names are followed through assignments, attributes of `self`, parameters of the extension's own functions, and return
values of Qt. A name that is ever given something the check cannot follow is not judged at all: silence, not a guess.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .qt_values import exactly, module_attribute, object_attribute, returned
from .source import FunctionNode, Scope, Source
from .ui_document import UiDocument
from .values import (
    Function,
    LoadedUi,
    Nothing,
    Own,
    OwnClass,
    OwnModule,
    QtClass,
    QtMethod,
    QtModule,
    QtObject,
    UiNames,
    Value,
)

_MODULES = {"qt", "ctk", "slicer", "slicer.util"}
Binding = tuple[ast.Attribute | tuple[Scope, str], Value]
"""What is bound, an attribute or a name in a scope, and what it is bound to."""

_STATIC = {"staticmethod", "classmethod"}  # their first parameter is no instance
_ROUNDS = 6  # a value travels one call per round
# Whatever is called so holds the widgets of a .ui file, also where the check does not see how it came about.
_UI = ("ui", "_ui")


class Inference:
    """The values of all expressions of one extension.

    Parameters
    ----------
    sources
        Its Python files.
    documents
        Its `.ui` files.
    """

    def __init__(self, sources: list[Source], documents: list[UiDocument]):
        self.sources, self.documents = sources, {document.path: document for document in documents}
        self._modules = {source.label.removesuffix(".__init__"): source for source in sources}
        self._classes: dict[str, tuple[Source, ast.ClassDef]] = {
            f"{source.label}.{node.name}": (source, node)
            for source in sources
            for node in source.tree.body
            if isinstance(node, ast.ClassDef)
        }
        self._names: dict[tuple[Scope, str], Value] = {}
        self._attributes: dict[tuple[str, str], Value] = {}
        self._returns: dict[Scope, Value] = {}
        for _round in range(_ROUNDS):
            before = (self._names, self._attributes, self._returns)
            self._learn()
            if before == (self._names, self._attributes, self._returns):
                break

    def value(self, node: ast.expr, source: Source) -> Value:
        """Return what an expression is, or None where it cannot be followed."""
        match node:
            case ast.Name():
                return self._name(node, source)
            case ast.Attribute():
                return self.attribute(self.value(node.value, source), node.attr)
            case ast.Call():
                return self._call(node, source)
            case ast.Lambda():
                return Function(node)
            case ast.Constant(value=None):
                return Nothing()
            case ast.NamedExpr():
                return self.value(node.value, source)
            case ast.IfExp():
                return _merge([self.value(node.body, source), self.value(node.orelse, source)])
        return None

    def attribute(self, value: Value, name: str) -> Value:
        """Return what an attribute of a followed value is."""
        match value:
            case QtModule():
                return module_attribute(value.name, name)
            case UiNames():
                classes = set(self.ui_classes(value, name))
                return QtObject(classes.pop()) if len(classes) == 1 else None
            case QtObject():
                return object_attribute(value.name, name)
            case OwnModule():
                return self._member(value.label, name)
            case OwnClass():
                return self._method(value.key, name, bound=False)
            case Own():
                known = self._attributes.get((value.key, name)) or self._method(value.key, name, bound=True)
                return known or (UiNames(None) if name in _UI else None)
        return UiNames(None) if name in _UI and value is None else None

    def ui_classes(self, names: UiNames, name: str) -> list[str]:
        """Return the classes that a widget name has in the `.ui` files it can come from."""
        documents = [self.documents[names.path]] if names.path else self.documents.values()
        return [document.classes[name] for document in documents if name in document.classes]

    def _name(self, node: ast.Name, source: Source) -> Value:
        scope: Scope | None = source.scope(node)
        while scope is not None:
            if (scope, node.id) in self._names:
                return self._names[scope, node.id] or (UiNames(None) if node.id in _UI else None)
            outer = source.scope(scope) if not isinstance(scope, ast.Module) else None
            while isinstance(outer, ast.ClassDef):  # a method does not see its class's names
                outer = source.scope(outer)
            scope = outer
        return UiNames(None) if node.id in _UI else None

    def _call(self, node: ast.Call, source: Source) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) >= 2:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                return self.attribute(self.value(node.args[0], source), name.value)
        match self.value(node.func, source):
            case QtClass(name):
                return QtObject(name)
            case OwnClass(key):
                return Own(key)
            case QtMethod("slicer.util", "childWidgetVariables"):
                loaded = self.value(node.args[0], source) if node.args else None
                return UiNames(loaded.path if isinstance(loaded, LoadedUi) else None)
            case QtMethod("slicer.util", "loadUI"):
                return self._loaded(node)
            case QtMethod(owner, name):
                return returned(owner, name)
            case Function(function):
                return self._returns.get(function)
        return None

    def _loaded(self, node: ast.Call) -> Value:
        """Return the `.ui` file that `loadUI(self.resourcePath("UI/X.ui"))` names, by its file name."""
        for constant in ast.walk(node):
            if isinstance(constant, ast.Constant) and str(constant.value).endswith(".ui"):
                for path in self.documents:
                    if path.name == re.split(r"[/\\]", constant.value)[-1]:
                        return LoadedUi(path)
        return None

    def _method(self, key: str, name: str, *, bound: bool) -> Value:
        source, node = self._classes[key]
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == name:
                decorators = _decorators(item)
                if decorators == {"property"}:
                    return self._returns.get(item) if bound else None
                return Function(item, bound) if not decorators else None
        for base in node.bases:
            parent = self.value(base, source)
            if isinstance(parent, OwnClass) and (found := self._method(parent.key, name, bound=bound)):
                return found
        return None

    def _learn(self) -> None:
        names: dict[tuple[Scope, str], list[Value]] = {}
        attributes: dict[tuple[str, str], list[Value]] = {}
        returns: dict[Scope, list[Value]] = {}
        for source in self.sources:
            for node in source.nodes:
                if isinstance(node, ast.Return) and node.value is not None:
                    returns.setdefault(source.scope(node), []).append(self.value(node.value, source))
                for target, value in self._bindings(node, source):
                    if isinstance(target, ast.Attribute):
                        owner = self.value(target.value, source)
                        if isinstance(owner, Own):
                            attributes.setdefault((owner.key, target.attr), []).append(value)
                    else:
                        names.setdefault(target, []).append(value)
        self._names = {key: _merge(values) for key, values in names.items()}
        self._attributes = {key: _merge(values) for key, values in attributes.items()}
        self._returns = {key: _merge(values) for key, values in returns.items()}

    def _bindings(self, node: ast.AST, source: Source) -> Iterator[Binding]:
        """Yield every name or attribute that a node binds, with what it binds to it."""
        match node:
            case ast.Assign() | ast.AnnAssign() | ast.NamedExpr():
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    yield from self._assigned(target, node.value, source)
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                yield from _targets(node.target, None, source)
            case ast.AugAssign():
                yield from _targets(node.target, None, source)
            case ast.withitem() if node.optional_vars is not None:
                yield from _targets(node.optional_vars, None, source)
            case ast.ExceptHandler() if node.name:
                yield (source.scope(node), node.name), None
            case ast.Import() | ast.ImportFrom():
                yield from self._imports(node, source)
            case ast.ClassDef():
                yield (source.scope(node), node.name), OwnClass(key) if (key := self._key(node, source)) else None
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if not isinstance(source.scope(node), ast.ClassDef):
                    yield (source.scope(node), node.name), None if node.decorator_list else Function(node)
                yield from self._own_parameters(node, source)
            case ast.Lambda():
                yield from self._own_parameters(node, source)
            case ast.Call():
                yield from self._passed(node, source)

    def _member(self, module: str, name: str) -> Value:
        """Return what a module of the extension has under a name: a module below it, or what it binds itself."""
        if f"{module}.{name}" in self._modules:
            return OwnModule(f"{module}.{name}")
        source = self._modules.get(module)
        return self._names.get((source.tree, name)) if source else None

    def _assigned(self, target: ast.expr, given: ast.expr | None, source: Source) -> Iterator[Binding]:
        """Bind a target to what it is given; `a, b = c, d` is two assignments."""
        if isinstance(target, ast.Tuple) and isinstance(given, ast.Tuple) and len(target.elts) == len(given.elts):
            for inner, part in zip(target.elts, given.elts, strict=True):
                yield from self._assigned(inner, part, source)
        else:
            yield from _targets(target, self.value(given, source) if given is not None else Nothing(), source)

    def _key(self, node: ast.ClassDef, source: Source) -> str | None:
        key = f"{source.label}.{node.name}"
        return key if self._classes.get(key, (None, None))[1] is node else None

    def _imports(self, node: ast.Import | ast.ImportFrom, source: Source) -> Iterator[Binding]:
        scope = source.scope(node)
        for alias in node.names:
            if isinstance(node, ast.Import):
                name = alias.name if alias.asname else alias.name.split(".")[0]
                yield (scope, alias.asname or name), QtModule(name) if name in _MODULES else None
            elif node.module in _MODULES and not node.level:
                yield (scope, alias.asname or alias.name), module_attribute(node.module, alias.name)
            else:
                package = source.label.split(".")[: -node.level] if node.level else []
                module = ".".join([*package, *([node.module] if node.module else [])])
                yield (scope, alias.asname or alias.name), self._member(module, alias.name)

    def _own_parameters(self, node: FunctionNode, source: Source) -> Iterator[Binding]:
        """Bind `self`, and the annotated parameters; the others stay open for what calls pass."""
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        holder = source.scope(node)
        for position, argument in enumerate(a for a in every if a is not None):
            if position == 0 and isinstance(holder, ast.ClassDef) and not _STATIC & _decorators(node):
                key = self._key(holder, source)
                yield (node, argument.arg), Own(key) if key else None
            elif argument.annotation is not None and (made := self._annotated(argument.annotation, source)):
                yield (node, argument.arg), made
            else:
                yield (node, argument.arg), Nothing()

    def _annotated(self, annotation: ast.expr, source: Source) -> Value:
        """Return what a parameter's annotation promises; `X | None` promises X."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if isinstance(annotation, ast.BinOp) and ast.unparse(annotation.right) == "None":
            annotation = annotation.left
        found = self.value(annotation, source) if isinstance(annotation, ast.Attribute | ast.Name) else None
        if isinstance(found, OwnClass):
            return Own(found.key)
        return exactly(found.name) if isinstance(found, QtClass) else None

    def _passed(self, call: ast.Call, source: Source) -> Iterator[Binding]:
        """Bind the parameters of the extension's own functions to what a call gives them."""
        function = self.value(call.func, source)
        if isinstance(function, OwnClass):
            function = self._method(function.key, "__init__", bound=True)
        if not isinstance(function, Function) or any(isinstance(a, ast.Starred) for a in call.args):
            return
        arguments = function.node.args
        positional = [*arguments.posonlyargs, *arguments.args][1 if function.bound else 0 :]
        for parameter, given in zip(positional, call.args, strict=False):
            yield (function.node, parameter.arg), self.value(given, source)
        for keyword in call.keywords:
            if keyword.arg:
                yield (function.node, keyword.arg), self.value(keyword.value, source)


def _decorators(node: FunctionNode) -> set[str]:
    return {ast.unparse(decorator) for decorator in getattr(node, "decorator_list", [])}


def _targets(target: ast.expr, value: Value, source: Source) -> Iterator[Binding]:
    match target:
        case ast.Name():
            yield (source.scope(target), target.id), value
        case ast.Attribute():
            yield target, value
        case ast.Tuple() | ast.List():
            for element in target.elts:
                yield from _targets(element, None, source)
        case ast.Starred():
            yield from _targets(target.value, None, source)


def _merge(values: list[Value]) -> Value:
    """Return what several assignments agree on; None, the constant, agrees with everything."""
    kinds = {value for value in values if not isinstance(value, Nothing)}
    if len(kinds) > 1:
        kinds.discard(UiNames(None))
    return kinds.pop() if len(kinds) == 1 else None
