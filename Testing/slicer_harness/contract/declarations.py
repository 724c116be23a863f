"""C++ declarations as Qt compares them: `void f(const QString& a, int b = 0)` is `f(QString,int)` and `f(QString)`."""

from __future__ import annotations

import re

from PySide6.QtCore import QMetaObject

_NAME = re.compile(r"(\w+)\s*$")
_TYPE_WORDS = {"const", "unsigned", "signed", "long", "short", "int", "char", "double"}


def normalized(signature: str) -> str:
    """Return a signature in Qt's normal form (no spaces, no `const T&`), as `connect` compares them."""
    if not re.fullmatch(r"\s*\w+\s*\(.*\)\s*", signature):
        raise ValueError(
            f"'{signature}' is no C++ signature: write the name and the argument types, as in clicked(bool)"
        )
    return bytes(QMetaObject.normalizedSignature(signature).data()).decode()


def arguments_of(signature: str) -> list[str]:
    """Return the argument types of a signature in Qt's normal form."""
    return _arguments(normalized(signature))


def signatures_of(declaration: str) -> list[str]:
    """Return every signature that moc makes of a declaration: the full one, then one fewer default at a time.

    A declaration that the list of classes cut off inside a default value ends there.
    """
    if not declaration.rstrip().endswith(")"):
        declaration += ")"
    name = _NAME.search(declaration[: declaration.index("(")])
    if not name:
        raise ValueError(f"This is not a C++ function declaration: {declaration}")
    arguments = _arguments(declaration)
    required = sum("=" not in argument for argument in arguments)
    types = [_without_name(argument.split("=")[0].strip()) for argument in arguments]
    return [normalized(f"{name[1]}({','.join(types[:count])})") for count in range(len(types), required - 1, -1)]


def return_type(declaration: str) -> str:
    """Return the type that a declared function returns, without `const`, `static`, `virtual` and `&`."""
    head = _NAME.sub("", declaration[: declaration.index("(")])
    return re.sub(r"\b(const|static|virtual)\b|[\s&]", "", head)


def _arguments(text: str) -> list[str]:
    """Split what stands between the outer parentheses at the commas that belong to no template or call."""
    inside = text[text.index("(") + 1 : text.rindex(")")]
    arguments, depth = [""], 0
    for character in inside:
        depth += (character in "<(") - (character in ">)")
        if character == "," and depth == 0:
            arguments.append("")
        else:
            arguments[-1] += character
    return [argument.strip() for argument in arguments] if inside.strip() else []


def _without_name(argument: str) -> str:
    """Drop a parameter's name: `const QString& path` is `const QString&`, and `unsigned int` stays."""
    name = _NAME.search(argument)
    if not name or name[1] in _TYPE_WORDS:
        return argument
    rest = argument[: name.start()].strip()
    return argument if rest in ("", "const") or rest.endswith("::") else rest
