"""Buttons and boxes of CTK."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal, Slot

from .declare import stand_in, stored

_UNLIMITED = 16777215  # QWIDGETSIZE_MAX


@stand_in(signals={"contentsCollapsed(bool)": "contentsCollapsed"})
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header that shows and hides what is below it."""

    contentsCollapsed = Signal(bool)
    _HEADER = 26

    def __init__(self, first: Any = None, second: Any = None):
        text, parent = (first, second) if isinstance(first, str) else ("", first)
        super().__init__(parent)
        self._is_collapsed = False
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(lambda opened: self._set_collapsed(not opened))
        self.setContentsMargins(2, self._HEADER, 2, 2)
        preferred = QtWidgets.QSizePolicy.Policy.Preferred
        self.setSizePolicy(preferred, preferred)

    def _set_collapsed(self, collapsed: bool) -> None:
        if collapsed == self._is_collapsed:
            return
        self._is_collapsed = bool(collapsed)
        self.setChecked(not collapsed)
        for child in self.findChildren(QtWidgets.QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(not collapsed)
        self.setMaximumHeight(self._HEADER if collapsed else _UNLIMITED)
        self.updateGeometry()
        self.contentsCollapsed.emit(self._is_collapsed)

    collapsed = Property(bool, lambda self: self._is_collapsed, _set_collapsed)
    collapsedHeight = stored(int, "collapsedHeight", 14)
    flat = stored(bool, "flat", False)
    contentsFrameShape = stored(int, "contentsFrameShape", int(QtWidgets.QFrame.Shape.NoFrame))
    contentsFrameShadow = stored(int, "contentsFrameShadow", int(QtWidgets.QFrame.Shadow.Plain))
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    contentsMidLineWidth = stored(int, "contentsMidLineWidth", 0)
    buttonTextAlignment = stored(int, "buttonTextAlignment", int(Qt.AlignmentFlag.AlignLeft))
    indicatorAlignment = stored(int, "indicatorAlignment", int(Qt.AlignmentFlag.AlignLeft))

    def hitButton(self, position: QtCore.QPoint) -> bool:
        return position.y() < self._HEADER

    def sizeHint(self) -> QtCore.QSize:
        contents = self.layout().sizeHint() if self.layout() and not self._is_collapsed else QtCore.QSize(120, 0)
        height = self._HEADER if self._is_collapsed else max(contents.height(), self._HEADER)
        return QtCore.QSize(max(contents.width(), 160), height)

    minimumSizeHint = sizeHint

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, self.width() - 1, self._HEADER - 4)
        painter.setPen(QtGui.QColor("#9a9a9a"))
        painter.setBrush(QtGui.QColor("#e4e4e4"))
        painter.drawRoundedRect(header, 3, 3)
        painter.setPen(QtGui.QColor("#202020"))
        painter.drawText(header.adjusted(22, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, self.text())
        center = QtCore.QPointF(11, header.height() / 2)
        arrow = [(-2, -4), (-2, 4), (4, 0)] if self._is_collapsed else [(-4, -2), (4, -2), (0, 4)]
        painter.setBrush(QtGui.QColor("#404040"))
        painter.drawPolygon([center + QtCore.QPointF(*corner) for corner in arrow])
        if not self._is_collapsed:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QtGui.QColor("#c8c8c8"))
            painter.drawRect(0, self._HEADER - 4, self.width() - 1, self.height() - self._HEADER + 3)


@stand_in()
class ctkCollapsibleGroupBox(QtWidgets.QGroupBox):
    """A group box that shows and hides its contents with its check box."""

    def __init__(self, first: Any = None, second: Any = None):
        title, parent = (first, second) if isinstance(first, str) else ("", first)
        super().__init__(title, parent)
        self.setCheckable(True)
        self.toggled.connect(self._show_contents)

    def _show_contents(self, shown: bool) -> None:
        for child in self.findChildren(QtWidgets.QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            child.setVisible(shown)

    collapsed = Property(
        bool, lambda self: not self.isChecked(), lambda self, collapsed: self.setChecked(not collapsed)
    )
    collapsedHeight = stored(int, "collapsedHeight", 14)


@stand_in()
class ctkPushButton(QtWidgets.QPushButton):
    """A push button whose text is elided and aligned."""

    buttonTextAlignment = stored(int, "buttonTextAlignment", int(Qt.AlignmentFlag.AlignCenter))
    iconAlignment = stored(int, "iconAlignment", int(Qt.AlignmentFlag.AlignLeft))
    elideMode = stored(int, "elideMode", int(Qt.TextElideMode.ElideNone))


@stand_in()
class ctkCheckBox(QtWidgets.QCheckBox):
    """A check box with an icon as its indicator."""

    indicatorIcon = stored(QtGui.QIcon, "indicatorIcon", QtGui.QIcon())
    indicatorIconSize = stored(QtCore.QSize, "indicatorIconSize", QtCore.QSize())


@stand_in("setDontShowAgain", "onFinished", "addDontShowAgainButtonRole")
class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box with "Don't show this message again"."""

    dontShowAgain = stored(bool, "dontShowAgain", False)
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")
    dontShowAgainButtonRoles = stored("QVariantList", "dontShowAgainButtonRoles", [])

    @Slot(bool)
    def setDontShowAgain(self, hidden: bool) -> None:
        self._dontShowAgain = hidden

    @Slot(int)
    def onFinished(self, result: int) -> None:
        if self.dontShowAgain and self.dontShowAgainSettingsKey:
            QtCore.QSettings().setValue(self.dontShowAgainSettingsKey, result)

    def addDontShowAgainButtonRole(self, role: Any) -> None:
        self._dontShowAgainButtonRoles = [*self.dontShowAgainButtonRoles, role]
