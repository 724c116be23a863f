"""Whether a literal in the source can become the value of a property."""

from __future__ import annotations

import ast

_NUMBERS = {"bool", "int", "uint", "double", "qreal"}


def does_not_fit(value: ast.expr, cpp_type: str) -> str:
    """Return why a literal cannot become a property of that C++ type, or nothing; no literal, no judgement."""
    if isinstance(value, ast.JoinedStr):
        kind: type = str
    elif isinstance(value, ast.Constant):
        kind = type(value.value)
    elif isinstance(value, ast.List | ast.Tuple):
        kind = list
    elif isinstance(value, ast.Dict | ast.Set):
        kind = dict
    else:
        return ""
    if cpp_type in _NUMBERS and kind not in (bool, int, float):
        return f"{ast.unparse(value)} is no number" if cpp_type != "bool" else f"{ast.unparse(value)} is no truth value"
    if cpp_type == "bool" and kind is float:
        return f"{ast.unparse(value)} is no truth value"
    if cpp_type == "QString" and kind is not str:
        return f"{ast.unparse(value)} is no string"
    if cpp_type == "QStringList" and kind is str:
        return "a string would be split into its letters, write a list"
    if cpp_type == "QStringList" and kind is not list:
        return f"{ast.unparse(value)} is no list of strings"
    return ""
