"""What the extension's Python must not do in Slicer's process, apart from single Qt objects."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .problem import Problem
from .source import FunctionNode, Source

# Never in Slicer's process: training has a Python of its own.
_NEVER = {"torch", "transformers", "pandas"}
# Installed when the user asks for it, so only where it is used.
_WHEN_USED = {"onnxruntime", "tokenizers", "qdrant_edge"}
_GONE = {"imp", "cgi", "distutils"}
_CAN_BE_NONE = ("slicer.app.layoutManager()", "slicer.util.mainWindow()")


def check_house_rules(source: Source) -> list[Problem]:
    """Return the imports and the unguarded main window calls of one file."""
    findings = [*_imports(source), *_unguarded(source)]
    return [Problem(source.path, node.lineno, sentence) for node, sentence in findings]


def _imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    for node in source.nodes:
        if isinstance(node, ast.Import):
            packages = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            packages = {node.module.split(".")[0]}
        else:
            continue
        if _only_for_types(node, source):
            continue
        at_import = not _in_function(node, source)
        for package in sorted(packages):
            if package in _NEVER:
                yield node, f"{package} is never imported in Slicer's process: run it in the training Python"
            elif package in _WHEN_USED and at_import:
                yield node, f"{package} may not be installed: import it in the function that uses it"
            elif package in _GONE:
                yield node, f"Python 3.12, which Slicer 5.12 has, has no {package}"


def _in_function(node: ast.AST, source: Source) -> bool:
    scope = source.scope(node)
    while isinstance(scope, ast.ClassDef):
        scope = source.scope(scope)
    return isinstance(scope, FunctionNode)


def _only_for_types(node: ast.AST, source: Source) -> bool:
    child, parent = node, source.parents.get(node)
    while parent is not None:
        guarded = isinstance(parent, ast.If) and child in parent.body
        if guarded and ast.unparse(parent.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return True
        child, parent = parent, source.parents.get(parent)
    return False


def _unguarded(source: Source) -> Iterator[tuple[ast.expr, str]]:
    """Yield attributes of the layout manager and the main window in functions that never ask whether there is one."""
    calls = {}  # a name in a scope → the call that it holds
    for node in source.nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and isinstance(node.value, ast.Call):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            calls[source.scope(node), ast.unparse(target)] = ast.unparse(node.value)
    for node in source.nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call | ast.Name | ast.Attribute):
            scope, held = source.scope(node), ast.unparse(node.value)
            call = calls.get((scope, held), held)
            if call in _CAN_BE_NONE and not _asked(held, scope):
                yield node, f"{call} is None without a main window: ask before .{node.attr}"


def _asked(held: str, scope: ast.AST) -> bool:
    """Return whether a function has any condition on the expression."""
    for node in ast.walk(scope):
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert):
            tests = [node.test]
        elif isinstance(node, ast.BoolOp):
            tests = node.values[:-1]
        elif isinstance(node, ast.comprehension):
            tests = node.ifs
        else:
            continue
        for test in tests:
            for part in ast.walk(test):
                name = ast.unparse(part.target) if isinstance(part, ast.NamedExpr) else ""
                if isinstance(part, ast.expr) and held in (ast.unparse(part), name) and not _goes_on(part, test):
                    return True
    return False


def _goes_on(part: ast.expr, test: ast.expr) -> bool:
    """Return whether a condition only uses an attribute of the expression, which asks nothing about None."""
    return any(isinstance(node, ast.Attribute) and node.value is part for node in ast.walk(test))
