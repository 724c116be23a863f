"""Scripted answers for modal dialogs: a dialog that no test answers fails it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import slicer

from .pythonqt import proxy as pythonqt

QT_DIALOGS = {
    "QFileDialog": ("getOpenFileName", "getOpenFileNames", "getSaveFileName", "getExistingDirectory"),
    "QMessageBox": ("question", "warning", "information", "critical", "about"),
    "QInputDialog": ("getText", "getMultiLineText", "getItem", "getInt", "getDouble"),
    "QColorDialog": ("getColor",),
}
UTIL_DIALOGS = (
    "infoDisplay",
    "warningDisplay",
    "errorDisplay",
    "confirmOkCancelDisplay",
    "confirmYesNoDisplay",
    "confirmRetryCloseDisplay",
    "messageBox",
    "delayDisplay",
)


# In PySide6 and PyQt they return a pair with the chosen filter.
_FILE_DIALOG_ANSWERS = {
    "QFileDialog.getOpenFileName": str,
    "QFileDialog.getOpenFileNames": tuple,
    "QFileDialog.getSaveFileName": str,
    "QFileDialog.getExistingDirectory": str,
}


class UnexpectedDialog(AssertionError):
    """A modal dialog came up and the test has no answer for it."""


class ShownDialog(NamedTuple):
    """A dialog that came up: its key, and the texts it was given."""

    key: str
    texts: list[str]


class Dialogs:
    """Answers to dialogs, by key, and a record of what was shown.

    Keys are `QMessageBox.question`, `QFileDialog.getOpenFileName` and the like, `slicer.util.errorDisplay` and the
    like, and `<class>.exec` for a dialog that is executed (`ctkMessageBox.exec`, `QDialog.exec`).
    """

    def __init__(self) -> None:
        self.shown: list[ShownDialog] = []
        self.unanswered: list[ShownDialog] = []
        self._answers: dict[str, Any] = {}

    def answer(self, key: str, value: Any) -> None:
        """Answer every dialog of this key: with the value, or if it can be called, with what it returns.

        A function gets the arguments of the dialog; for `<class>.exec` it gets the dialog.
        """
        if key not in _KEYS and not key.endswith(".exec"):
            raise ValueError(f"no dialog is called {key}; there are {', '.join(sorted(_KEYS))} and <class>.exec")
        self._answers[key] = value

    def respond(self, key: str, *arguments: Any, **keywords: Any) -> Any:
        """Return the answer to a dialog that comes up now."""
        texts = [value for value in (*arguments, *keywords.values()) if isinstance(value, str)]
        dialog = ShownDialog(key, texts)
        self.shown.append(dialog)
        if key not in self._answers:
            self.unanswered.append(dialog)
            raise UnexpectedDialog(f"the dialog {key} came up without an answer: {texts}")
        answer = self._answers[key]
        value = answer(*arguments, **keywords) if callable(answer) else answer
        expected = _FILE_DIALOG_ANSWERS.get(key)
        if expected is not None and not isinstance(value, expected):
            raise TypeError(f"PythonQt's {key} returns a {expected.__name__}, not {value!r}")
        return value


_KEYS = {f"{cls}.{name}" for cls, names in QT_DIALOGS.items() for name in names} | {
    f"slicer.util.{name}" for name in UTIL_DIALOGS
}
_current = Dialogs()


def use(dialogs: Dialogs) -> None:
    """Let these answers hold from now on."""
    global _current
    _current = dialogs


def install() -> None:
    """Put the answers in the place of every modal dialog. Called once, by `boot`."""
    for cls, names in QT_DIALOGS.items():
        for name in names:
            pythonqt.static_overrides[cls, name] = _responder(f"{cls}.{name}")
    for name in UTIL_DIALOGS:
        setattr(slicer.util, name, _responder(f"slicer.util.{name}"))
    pythonqt.modal_hook[:] = [_executed]


def _responder(key: str) -> Callable:
    def respond(*arguments: Any, **keywords: Any) -> Any:
        return _current.respond(key, *arguments, **keywords)

    return respond


def _executed(dialog: pythonqt.Proxy) -> Any:
    """Stand in for the exec of a modal dialog: shown, answered, closed."""
    key = f"{dialog.className()}.exec"
    texts = [dialog.windowTitle]
    if dialog.inherits("QMessageBox"):
        texts += [dialog.text, dialog.informativeText]
    dialog.show()
    try:
        return _current.respond(key, dialog) if key in _current._answers else _current.respond(key, *texts)
    finally:
        dialog.hide()
