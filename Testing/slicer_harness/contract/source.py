"""One Python file of the extension, with the scope that each of its nodes stands in."""

from __future__ import annotations

import ast
from pathlib import Path

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Scope = FunctionNode | ast.ClassDef | ast.Module


class Source:
    """One Python file with, for each node, the scope that it stands in."""

    def __init__(self, path: Path, label: str):
        self.path, self.label = path, label
        self.tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        self.nodes = list(ast.walk(self.tree))
        self.parents = {child: node for node in self.nodes for child in ast.iter_child_nodes(node)}

    def scope(self, node: ast.AST) -> Scope:
        """Return the innermost function, class or module around a node; a default value stands outside its function."""
        child, parent = node, self.parents.get(node)
        while parent is not None:
            inside = not (isinstance(child, ast.arguments) or child in getattr(parent, "decorator_list", []))
            if isinstance(parent, Scope) and inside:
                return parent
            child, parent = parent, self.parents.get(parent)
        return self.tree

    def enclosing_class(self, node: ast.AST) -> ast.ClassDef | None:
        """Return the class whose method a node stands in."""
        scope: Scope = self.scope(node)
        while isinstance(scope, FunctionNode):
            scope = self.scope(scope)
        return scope if isinstance(scope, ast.ClassDef) else None
