"""The event loop, and what a user does with the mouse."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtTest, QtWidgets
from PySide6.QtCore import Qt

from .pythonqt import unwrap


def process_events(milliseconds: int = 0) -> None:
    """Let the event loop run, at least once and for about this long."""
    end = time.monotonic() + milliseconds / 1000
    while True:
        QtWidgets.QApplication.processEvents()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
        if time.monotonic() >= end:
            return
        time.sleep(0.001)


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Let the event loop run until the condition holds, and return its value.

    Raises
    ------
    AssertionError
        If it does not hold after `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        process_events()
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain")
        time.sleep(0.001)


def click(widget: Any) -> None:
    """Click a widget with the left mouse button where it reacts.

    Raises
    ------
    AssertionError
        If a user could not click it: it is not shown, or not enabled.
    """
    target = unwrap(widget)
    _check_reachable(target)
    QtTest.QTest.mouseClick(target, Qt.MouseButton.LeftButton, pos=_reactive_point(target))
    process_events()


def click_cell(table: Any, row: int, column: int) -> None:
    """Click a cell of a table."""
    view = unwrap(table)
    _check_reachable(view)
    index = view.model().index(row, column)
    if not index.isValid():
        raise AssertionError(f"the table has no cell in row {row}, column {column}")
    view.scrollTo(index)
    QtTest.QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=view.visualRect(index).center())
    process_events()


def choose_node(selector: Any, node: Any) -> None:
    """Choose a node in a qMRMLNodeComboBox as a user does; None chooses "None"."""
    target = unwrap(selector)
    _check_reachable(target)
    combo_box = target.findChild(QtWidgets.QComboBox)
    row = combo_box.findData(node.GetID() if node is not None else "")
    if row < 0:
        raise AssertionError(f"the selector does not offer {node.GetName() if node is not None else 'None'}")
    combo_box.setCurrentIndex(row)
    combo_box.activated.emit(row)
    process_events()


def type_text(widget: Any, text: str) -> None:
    """Type into a line edit, or into the line edit of a ctkPathLineEdit, in place of what is there."""
    target = unwrap(widget)
    edit = target if isinstance(target, QtWidgets.QLineEdit) else target.findChild(QtWidgets.QLineEdit)
    _check_reachable(edit)
    edit.selectAll()
    QtTest.QTest.keyClicks(edit, text)
    QtTest.QTest.keyClick(edit, Qt.Key.Key_Return)
    process_events()


class Heartbeat:
    """Measures for how long the user interface stood still.

    >>> with Heartbeat() as heartbeat:
    ...     wait_until(done)
    >>> heartbeat.longest_gap_s
    """

    INTERVAL_MS = 10

    def __init__(self) -> None:
        self.longest_gap_s = 0.0
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._last = 0.0

    def _beat(self) -> None:
        now = time.perf_counter()
        self.longest_gap_s = max(self.longest_gap_s, now - self._last)
        self._last = now

    def __enter__(self) -> Heartbeat:
        self._last = time.perf_counter()
        self._timer.start(self.INTERVAL_MS)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._beat()


def _check_reachable(widget: QtWidgets.QWidget) -> None:
    name = widget.objectName() or type(widget).__name__
    if not widget.isVisible():
        raise AssertionError(f"{name} is not visible: nobody can click it")
    if not widget.isEnabled():
        raise AssertionError(f"{name} is disabled: nobody can click it")


def _reactive_point(widget: QtWidgets.QWidget) -> QtCore.QPoint:
    """Return a point that belongs to the widget's reaction: a check box reacts only at its box and text."""
    style = widget.style()
    elements = {
        QtWidgets.QCheckBox: QtWidgets.QStyle.SubElement.SE_CheckBoxClickRect,
        QtWidgets.QRadioButton: QtWidgets.QStyle.SubElement.SE_RadioButtonClickRect,
    }
    for kind, element in elements.items():
        if isinstance(widget, kind):
            option = QtWidgets.QStyleOptionButton()
            widget.initStyleOption(option)
            return style.subElementRect(element, option, widget).center()
    if isinstance(widget, QtWidgets.QGroupBox):
        option = QtWidgets.QStyleOptionGroupBox()
        widget.initStyleOption(option)
        box = QtWidgets.QStyle.SubControl.SC_GroupBoxCheckBox
        return style.subControlRect(QtWidgets.QStyle.ComplexControl.CC_GroupBox, option, box, widget).center()
    center = widget.rect().center()
    if isinstance(widget, QtWidgets.QAbstractButton) and not widget.hitButton(center):
        return QtCore.QPoint(center.x(), 8)  # the header of a collapsible button
    return center
