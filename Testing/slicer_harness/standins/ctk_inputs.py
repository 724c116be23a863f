"""Input widgets of CTK."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Qt, Signal, Slot

from .declare import stand_in, stored

_STEPS = 1000  # of the slider, whatever the range


@stand_in(
    "setCurrentUserDataAsString",
    signals={"returnRelease()": "returnRelease"},
)
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    returnRelease = Signal()
    defaultText = stored(str, "defaultText", "")
    defaultIcon = stored(QtGui.QIcon, "defaultIcon", QtGui.QIcon())
    forceDefault = stored(bool, "forceDefault", False)
    elideMode = stored(int, "elideMode", int(Qt.TextElideMode.ElideNone))
    scrollWheelEffect = stored(int, "scrollWheelEffect", 1)  # AlwaysScroll

    @Slot(str)
    def setCurrentUserDataAsString(self, data: str) -> None:
        index = self.findData(data)
        self.setCurrentIndex(index)

    currentUserDataAsString = Property(
        str, lambda self: str(self.currentData() or ""), lambda self, data: self.setCurrentUserDataAsString(data)
    )


@stand_in(
    "setCurrentPath",
    "browse",
    "retrieveHistory",
    "addCurrentPathToHistory",
    "comboBox",
    signals={"validInputChanged(bool)": "validInputChanged", "currentPathChanged(QString)": "currentPathChanged"},
)
class ctkPathLineEdit(QtWidgets.QWidget):
    """A path to type, to browse for, or to take from the history of earlier ones."""

    validInputChanged = Signal(bool)
    currentPathChanged = Signal(str)

    # Filter: the values of QDir::Filter.
    Dirs, Files, Drives, NoSymLinks, AllEntries, TypeMask = 0x001, 0x002, 0x004, 0x008, 0x007, 0x00F
    Readable, Writable, Executable, PermissionMask = 0x010, 0x020, 0x040, 0x070
    Modified, Hidden, System, AccessMask = 0x080, 0x100, 0x200, 0x3F0
    AllDirs, CaseSensitive, NoDot, NoDotDot, NoDotAndDotDot, NoFilter = 0x400, 0x800, 0x2000, 0x4000, 0x6000, -1
    # Option: the values of QFileDialog::Option.
    ShowDirsOnly, DontResolveSymlinks, DontConfirmOverwrite, DontUseSheet = 0x01, 0x02, 0x04, 0x08
    DontUseNativeDialog, ReadOnly, HideNameFilterDetails = 0x10, 0x20, 0x40
    # SizeAdjustPolicy
    AdjustToContents, AdjustToContentsOnFirstShow, AdjustToMinimumContentsLength = 0, 1, 2

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._combo_box = QtWidgets.QComboBox(self)
        self._combo_box.setEditable(True)
        self._combo_box.setSizePolicy(QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)
        self._browse_button = QtWidgets.QToolButton(self)
        self._browse_button.setText("…")
        self._browse_button.clicked.connect(self.browse)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo_box)
        layout.addWidget(self._browse_button)
        self._valid = False
        self._combo_box.lineEdit().textChanged.connect(self._text_changed)

    def _text_changed(self, text: str) -> None:
        self.currentPathChanged.emit(text)
        valid = QtCore.QFileInfo.exists(text)
        if valid != self._valid:
            self._valid = valid
            self.validInputChanged.emit(valid)

    @Slot(str)
    def setCurrentPath(self, path: str) -> None:
        self._combo_box.lineEdit().setText(path)

    currentPath = Property(str, lambda self: self._combo_box.currentText(), setCurrentPath)
    filters = stored(int, "filters", AllEntries | NoDotAndDotDot | Readable)
    options = stored(int, "options", 0)
    nameFilters = stored("QStringList", "nameFilters", [])
    label = stored(str, "label", "")
    settingKey = stored(str, "settingKey", "", changed="retrieveHistory")
    sizeAdjustPolicy = stored(int, "sizeAdjustPolicy", 0)
    minimumContentsLength = stored(int, "minimumContentsLength", 0)
    showHistoryButton = stored(bool, "showHistoryButton", True)
    showBrowseButton = Property(
        bool,
        lambda self: not self._browse_button.isHidden(),
        lambda self, shown: self._browse_button.setVisible(shown),
    )

    @Slot()
    def browse(self) -> None:
        """Ask for a path; a test scripts the answer as for any file dialog."""
        from ..pythonqt.proxy import static_overrides

        name = "getExistingDirectory"
        if self.filters & self.Files:
            name = "getSaveFileName" if self.filters & self.Writable else "getOpenFileName"
        path = static_overrides["QFileDialog", name](self, "", self.currentPath)
        if path:
            self.setCurrentPath(path)

    @Slot()
    def retrieveHistory(self) -> None:
        current = self._combo_box.currentText()
        self._combo_box.blockSignals(True)
        self._combo_box.clear()
        self._combo_box.addItems(self._history())
        self._combo_box.setEditText(current)
        self._combo_box.blockSignals(False)

    @Slot()
    def addCurrentPathToHistory(self) -> None:
        if not self.settingKey or not self.currentPath:
            return
        paths = [self.currentPath, *(path for path in self._history() if path != self.currentPath)]
        QtCore.QSettings().setValue(self.settingKey, paths)
        self.retrieveHistory()

    def comboBox(self) -> QtWidgets.QComboBox:
        return self._combo_box

    def _history(self) -> list[str]:
        saved = QtCore.QSettings().value(self.settingKey) if self.settingKey else None
        return [saved] if isinstance(saved, str) else list(saved or [])


def _limit(attribute: str) -> Property:
    def write(self: Any, value: float) -> None:
        setattr(self, attribute, float(value))
        self._apply_limits()

    return Property(float, lambda self: getattr(self, attribute), write)


@stand_in(
    "reset",
    "setValue",
    "setSpinBoxVisible",
    "setDecimals",
    signals={
        "valueChanged(double)": "valueChanged",
        "valueIsChanging(double)": "valueIsChanging",
        "decimalsChanged(int)": "decimalsChanged",
    },
)
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box for one number."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent: QtWidgets.QWidget | None = None):
        super().__init__(parent)
        self._minimum, self._maximum, self._value, self._step = 0.0, 99.0, 0.0, 1.0
        self._slider = QtWidgets.QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._spin_box = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider)
        layout.addWidget(self._spin_box)
        self._slider.valueChanged.connect(self._slider_moved)
        self._spin_box.valueChanged.connect(self._set_value)
        self._apply_limits()

    def _slider_moved(self, position: int) -> None:
        self._set_value(self._minimum + (self._maximum - self._minimum) * position / _STEPS)

    def _set_value(self, value: float) -> None:
        value = min(max(float(value), self._minimum), self._maximum)
        if value != self._value:
            self._value = value
            self._show_value()
            self.valueIsChanging.emit(value)
            self.valueChanged.emit(value)

    def _apply_limits(self) -> None:
        self._spin_box.blockSignals(True)
        self._spin_box.setRange(self._minimum, self._maximum)
        self._spin_box.setSingleStep(self._step)
        self._spin_box.blockSignals(False)
        self._set_value(self._value)
        self._show_value()

    def _show_value(self) -> None:
        for widget in (self._slider, self._spin_box):
            widget.blockSignals(True)
        self._spin_box.setValue(self._value)
        self._slider.setValue(round(_STEPS * (self._value - self._minimum) / ((self._maximum - self._minimum) or 1)))
        for widget in (self._slider, self._spin_box):
            widget.blockSignals(False)

    @Slot(float)
    def setValue(self, value: float) -> None:
        self._set_value(value)

    @Slot()
    def reset(self) -> None:
        self._set_value(0.0)

    @Slot(bool)
    def setSpinBoxVisible(self, shown: bool) -> None:
        self._spin_box.setVisible(shown)

    @Slot(int)
    def setDecimals(self, decimals: int) -> None:
        if decimals != self._spin_box.decimals():
            self._spin_box.setDecimals(decimals)
            self.decimalsChanged.emit(decimals)

    value = Property(float, lambda self: self._value, _set_value)
    minimum = _limit("_minimum")
    maximum = _limit("_maximum")
    singleStep = _limit("_step")
    pageStep = stored(float, "pageStep", 10.0)
    decimals = Property(int, lambda self: self._spin_box.decimals(), setDecimals)
    prefix = Property(str, lambda self: self._spin_box.prefix(), lambda self, text: self._spin_box.setPrefix(text))
    suffix = Property(str, lambda self: self._spin_box.suffix(), lambda self, text: self._spin_box.setSuffix(text))
    spinBoxVisible = Property(bool, lambda self: not self._spin_box.isHidden(), setSpinBoxVisible)
    tracking = stored(bool, "tracking", True)
    tickInterval = stored(float, "tickInterval", 0.0)
    tickPosition = stored(int, "tickPosition", int(QtWidgets.QSlider.TickPosition.NoTicks))
    synchronizeSiblings = stored(int, "synchronizeSiblings", 1)
    spinBoxAlignment = stored(int, "spinBoxAlignment", int(Qt.AlignmentFlag.AlignRight))
    popupSlider = stored(bool, "popupSlider", False)
    invertedAppearance = stored(bool, "invertedAppearance", False)
    invertedControls = stored(bool, "invertedControls", False)
