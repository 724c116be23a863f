"""The contract check of the harness's stand-ins: they show nothing that the real classes do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6 import QtCore, QtWidgets

from slicer_harness.contract import check_standins
from slicer_harness.pythonqt.standin import StandIn


def test_standins_show_nothing_that_the_real_classes_do_not():
    problems = check_standins()
    assert not problems, "\n".join(map(str, problems))


class Right(QtWidgets.QWidget):
    valueChanged = QtCore.Signal(float)
    value = QtCore.Property(float, lambda self: 0.0, lambda self, value: None)

    def setValue(self, value):
        """Do nothing."""

    def setRange(self, low, high):
        """Do nothing."""


class ExtraProperty(Right):
    step = QtCore.Property(float, lambda self: 0.0, lambda self, value: None)


class OtherType(Right):
    suffix = QtCore.Property(int, lambda self: 0, lambda self, value: None)


class ReadOnly(Right):
    minimum = QtCore.Property(float, lambda self: 0.0)


class ExtraSignal(Right):
    rangeChanged = QtCore.Signal(float, float)


class OtherSignal(Right):
    decimalsChanged = QtCore.Signal(float)


class OtherBase(QtWidgets.QSlider):
    pass


STANDIN_FAULTS = {
    "property that the real class lacks": (ExtraProperty, (), {}, "has no step"),
    "property of another type": (OtherType, (), {}, "suffix is a int, the real one a QString"),
    "property that cannot be set": (ReadOnly, (), {}, "minimum is read-only"),
    "exposed C++ method": (Right, ("setRange",), {}, "Python does not see it"),
    "exposed name that nobody has": (Right, ("setSteps",), {}, "has no setSteps"),
    "exposed but not played": (Right, ("setDecimals",), {}, "does not have it"),
    "signal that the real class lacks": (ExtraSignal, (), {}, "no signal rangeChanged"),
    "signal with other arguments": (OtherSignal, (), {}, "decimalsChanged is decimalsChanged(int)"),
    "signature with other arguments": (Right, (), {"valueChanged(int)": "valueChanged"}, "valueChanged(double)"),
    "signature not in normal form": (Right, (), {"valueChanged( double )": "valueChanged"}, "normal form"),
    "signature that nothing plays": (Right, (), {"valueIsChanging(double)": "sliding"}, "played by sliding"),
    "more than the real base": (OtherBase, (), {}, "it extends QSlider"),
}


def test_right_standin_is_silent():
    right = StandIn(Right, frozenset({"setValue"}), {"valueChanged(double)": "valueChanged"})
    assert check_standins({"ctkSliderWidget": right}) == []


@pytest.mark.parametrize(("cls", "exposed", "signals", "word"), STANDIN_FAULTS.values(), ids=STANDIN_FAULTS.keys())
def test_fault_in_a_standin_is_found(cls, exposed, signals, word):
    problems = check_standins({"ctkSliderWidget": StandIn(cls, frozenset(exposed), signals)})
    assert word in "\n".join(map(str, problems))
    assert problems[0].file == Path(__file__)


def test_standin_of_a_class_without_facts_is_found():
    assert "extract_facts.py" in str(check_standins({"ctkRangeWidget": StandIn(Right, frozenset(), {})}))
