"""The proxy follows PythonQt's rules, one test for each."""

from __future__ import annotations

import gc

import pytest


def test_a_property_is_an_attribute(qt):
    button = qt.QPushButton("Analyze")
    button.enabled = False
    button.name = "analyzeButton"
    assert (button.text, button.enabled, button.objectName, button.name) == (
        "Analyze",
        False,
        "analyzeButton",
        "analyzeButton",
    )
    assert button.isEnabled() is False
    with pytest.raises(TypeError):
        button.text()


def test_a_property_refuses_another_type(qt):
    box = qt.QSpinBox()
    with pytest.raises(AttributeError, match="does not accept an object of type str"):
        box.value = "three"
    assert box.value == 0


def test_a_read_only_property_is_not_written(qt):
    with pytest.raises(AttributeError, match="not writable"):
        qt.QComboBox().count = 3


def test_a_slot_is_not_overwritten_and_no_attribute_is_added(qt):
    button = qt.QPushButton()
    with pytest.raises(AttributeError, match="can not be overwritten"):
        button.setText = print
    with pytest.raises(AttributeError, match="creating new attributes on C\\+\\+ objects is not allowed"):
        button.finding = "nodule"
    with pytest.raises(AttributeError, match="creating new attributes"):
        qt.QTableWidgetItem("nodule").finding = "nodule"


def test_what_does_not_exist_raises(qt):
    with pytest.raises(AttributeError, match="QPushButton has no attribute named 'findings'"):
        qt.QPushButton().findings  # noqa: B018


def test_a_child_is_an_attribute_by_its_name_after_everything_else(qt):
    widget = qt.QWidget()
    label, shadowed = qt.QLabel(widget), qt.QLabel(widget)
    label.name, shadowed.name = "noticeLabel", "enabled"
    assert widget.noticeLabel == label
    assert widget.enabled is True


def test_a_dynamic_property_is_an_attribute(qt):
    widget = qt.QWidget()
    widget.setProperty("finding", "nodule")
    assert widget.finding == "nodule"
    widget.finding = "emphysema"
    assert widget.property("finding") == "emphysema"


def test_constructors_and_methods_take_no_keywords(qt):
    with pytest.raises(ValueError, match="keyword"):
        qt.QPushButton(text="Analyze")
    with pytest.raises(ValueError, match="keyword"):
        qt.QSize(w=1, h=2)
    with pytest.raises(TypeError, match="keyword"):
        qt.QPushButton().setText(text="Analyze")


def test_isinstance_knows_the_very_class_only(qt, ctk):
    button = qt.QPushButton()
    assert isinstance(button, qt.QPushButton)
    assert not isinstance(button, qt.QWidget)
    assert button.inherits("QWidget")
    assert button.className() == "QPushButton"
    slider = ctk.ctkSliderWidget()
    assert isinstance(slider, ctk.ctkSliderWidget)
    assert not isinstance(slider, qt.QWidget)
    assert slider.inherits("QWidget")
    assert slider.className() == "ctkSliderWidget"
    assert isinstance(qt.QSize(1, 2), qt.QSize)


def test_lists_read_back_as_tuples(qt, slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    widget = qt.QWidget()
    child = qt.QLabel(widget)
    assert widget.children() == (child,)


def test_enums_are_integers(qt):
    assert qt.Qt.AlignRight + 0 == 2
    assert qt.QMessageBox.Yes == 0x4000
    assert qt.QTextEdit.NoWrap == 0
    label = qt.QLabel()
    label.alignment = qt.Qt.AlignRight | qt.Qt.AlignVCenter
    assert int(label.alignment) == 0x82
    label.textFormat = qt.Qt.PlainText
    assert label.textFormat == qt.Qt.PlainText


def test_one_object_has_one_proxy(qt):
    widget = qt.QWidget()
    label = qt.QLabel(widget)
    assert label.parent() is widget
    assert widget.children()[0] is label
    assert {label: 1}[widget.children()[0]] == 1


def test_an_object_without_parent_lives_as_long_as_python_refers_to_it(qt):
    destroyed = []
    timer = qt.QTimer()
    timer.connect("destroyed()", lambda: destroyed.append("timer"))
    label = qt.QLabel(parent := qt.QWidget())
    label.connect("destroyed()", lambda: destroyed.append("label"))
    del timer, label
    gc.collect()
    assert destroyed == ["timer"]
    assert len(parent.children()) == 1


def test_a_destroyed_object_says_so(qt):
    widget = qt.QWidget()
    label = qt.QLabel("text", widget)
    widget.delete()
    assert not label
    with pytest.raises(ValueError, match="destroyed QLabel"):
        label.text  # noqa: B018
    with pytest.raises(AttributeError, match="destroyed QLabel"):
        label.text = "more"


def test_find_child_takes_a_class_or_its_name(qt):
    widget = qt.QWidget()
    button = qt.QPushButton(widget)
    button.name = "analyzeButton"
    label = qt.QLabel(widget)
    assert widget.findChild(qt.QPushButton, "analyzeButton") == button
    assert widget.findChild("QPushButton") == button
    assert widget.findChild(qt.QPushButton, "cancelButton") is None
    assert widget.findChildren(qt.QWidget) == (button, label)


def test_a_signal_is_connected_by_its_exact_signature(qt, ctk):
    button = qt.QPushButton()
    clicks = []
    assert button.connect("clicked(bool)", clicks.append)
    assert button.connect("clicked()", lambda: clicks.append("no argument"))
    button.click()
    assert clicks == [False, "no argument"]
    for wrong in ("clicked(int)", "pressed(bool)", "clicked"):
        with pytest.raises(AttributeError, match="has no signal"):
            button.connect(wrong, print)
    with pytest.raises(AttributeError, match="has no signal valueChanged\\(float\\)"):
        ctk.ctkSliderWidget().connect("valueChanged(float)", print)


def test_a_slot_gets_as_many_arguments_as_it_takes(qt):
    button = qt.QPushButton()
    calls = []
    button.connect("clicked(bool)", lambda: calls.append(()))
    button.connect("clicked(bool)", lambda *arguments: calls.append(arguments))
    button.connect("clicked(bool)", lambda checked, more="default": calls.append((checked, more)))
    button.click()
    assert calls == [(), (False,), (False, "default")]


def test_a_signal_is_disconnected(qt):
    button = qt.QPushButton()
    calls = []
    slot = calls.append
    button.connect("clicked(bool)", slot)
    assert button.disconnect("clicked(bool)", slot)
    assert not button.disconnect("clicked(bool)", slot)
    button.click()
    assert calls == []


def test_a_signal_is_an_attribute_too(qt, slicer):
    button = qt.QPushButton()
    calls = []
    button.clicked.connect(calls.append)
    button.click()
    button.clicked()
    assert calls[0] is False
    assert len(calls) == 2
    selector = slicer.qMRMLNodeComboBox()
    selector.currentNodeChanged.connect(calls.append)
    selector.currentNodeChanged(None)
    assert calls[-1] is None


def test_a_signal_reaches_a_named_slot_of_another_object(qt):
    box, label = qt.QLineEdit(), qt.QLabel()
    box.connect("textChanged(QString)", label, "setText(QString)")
    box.text = "nodule"
    assert label.text == "nodule"


def test_a_slot_that_raises_is_collected_and_the_others_still_run(qt, slot_errors, capsys):
    button = qt.QPushButton()
    calls = []

    def broken():
        raise LookupError("no such finding")

    button.connect("clicked()", broken)
    button.connect("clicked()", lambda: calls.append("second"))
    button.click()
    assert calls == ["second"]
    (error,) = slot_errors
    assert isinstance(error.exception, LookupError)
    assert error.where.endswith("broken")
    assert "LookupError: no such finding" in capsys.readouterr().err
    slot_errors.clear()


def test_an_observer_that_raises_is_collected(slicer, slot_errors):
    def broken(caller, event):
        raise LookupError("no such node")

    slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, broken)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    assert [str(error.exception) for error in slot_errors] == ["no such node"]
    slot_errors.clear()


def test_a_qt_virtual_is_not_overridden(qt, slicer):
    with pytest.raises(TypeError, match="overrides paintEvent of QWidget"):

        class Painted(qt.QWidget):
            def paintEvent(self, event):
                """Never called by C++."""

    with pytest.raises(TypeError, match="overrides sizeHint"):

        class Sized(slicer.qMRMLWidget):
            def sizeHint(self):
                """Never called by C++."""


def test_a_python_class_may_derive_and_have_attributes(qt):
    class Panel(qt.QWidget):
        def __init__(self, parent=None):
            super().__init__(*([parent] if parent else []))
            self.finding = "nodule"

        def describe(self):
            return f"{self.finding} {self.enabled}"

    panel = Panel()
    assert panel.describe() == "nodule True"
    assert isinstance(panel, qt.QWidget)
    outer = qt.QWidget()
    inner = Panel(outer)
    assert outer.children()[0] is inner


def test_setters_of_ctk_and_qmrml_that_are_no_slots_are_invisible(slicer, ctk):
    invisible = {
        slicer.qMRMLNodeComboBox: ("setNodeTypes", "setNoneEnabled", "nodes"),
        ctk.ctkCollapsibleButton: ("setCollapsed", "isFlat"),
        ctk.ctkSliderWidget: ("setSingleStep", "setRange", "slider"),
        ctk.ctkPathLineEdit: ("setFilters", "setNameFilters"),
    }
    for cls, names in invisible.items():
        widget = cls()
        for name in names:
            with pytest.raises(AttributeError, match=f"{cls.__name__} has no attribute named '{name}'"):
                getattr(widget, name)
            with pytest.raises(AttributeError):
                setattr(widget, name, None)
    # What Qt's own base class has is visible.
    assert slicer.qMRMLNodeComboBox().minimumSizeHint.isValid()
    assert slicer.qMRMLNodeComboBox().parentWidget() is None


def test_nothing_of_a_stand_in_leaks(slicer, ctk):
    selector = slicer.qMRMLNodeComboBox()
    for name in ("_scene", "_ids", "_combo_box", "_refresh", "_validity_changed"):
        with pytest.raises(AttributeError):
            getattr(selector, name)


def test_a_single_shot_timer_runs(qt):
    from slicer_harness.events import wait_until

    calls = []
    qt.QTimer.singleShot(5, lambda: calls.append(1))
    wait_until(lambda: calls, seconds=2)


def test_what_only_pyside_or_only_qt5_has_is_not_there(qt):
    assert not hasattr(qt, "Signal")
    assert not hasattr(qt, "Slot")
    for name in ("QTextCodec", "QRegExp"):
        assert not hasattr(qt, name)
    with pytest.raises(AttributeError, match="margin"):
        qt.QVBoxLayout().margin = 3
    with pytest.raises(AttributeError, match="no signal"):
        qt.QComboBox().connect("currentIndexChanged(QString)", print)
    with pytest.raises(AttributeError, match="no signal"):
        qt.QButtonGroup().connect("buttonClicked(int)", print)


def test_exec_has_an_underscore_too(qt):
    loop = qt.QEventLoop()
    qt.QTimer.singleShot(5, loop.quit)
    assert loop.exec_() == 0
    qt.QTimer.singleShot(5, loop.quit)
    assert loop.exec() == 0
