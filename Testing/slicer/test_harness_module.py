"""A module is loaded as Slicer's module factory does, and driven by clicks."""

from __future__ import annotations

import importlib
import sys

import pytest

from slicer_harness.events import choose_node, click, click_cell, type_text

MODULE = """
import qt
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *
from slicer.util import VTKObservationMixin
from TinyLib.words import FINDING


class Tiny(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Tiny")
        self.parent.categories = ["Informatics"]


class TinyWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Tiny.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.ui.analyzeButton.connect("clicked(bool)", self.analyze)
        self.calls.append("setup")

    def analyze(self):
        self.ui.findingsTable.setRowCount(1)
        self.ui.findingsTable.setItem(0, 0, qt.QTableWidgetItem(FINDING))

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")


class TinyTest(ScriptedLoadableModuleTest):
    def runTest(self):
        self.ran = True
"""
UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Tiny</class>
<widget class="qMRMLWidget" name="Tiny"><layout class="QVBoxLayout" name="verticalLayout">
<item><widget class="qMRMLNodeComboBox" name="volumeSelector">
  <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
  <property name="noneEnabled"><bool>true</bool></property>
  <property name="addEnabled"><bool>false</bool></property></widget></item>
<item><widget class="ctkPathLineEdit" name="bundlePathLineEdit">
  <property name="filters"><set>ctkPathLineEdit::Dirs|ctkPathLineEdit::Drives</set></property></widget></item>
<item><widget class="QCheckBox" name="heatMapCheckBox">
  <property name="text"><string>Heat map</string></property></widget></item>
<item><widget class="ctkSliderWidget" name="opacitySlider">
  <property name="maximum"><double>1.0</double></property></widget></item>
<item><widget class="QPushButton" name="analyzeButton">
  <property name="text"><string>Analyze</string></property></widget></item>
<item><widget class="QTableWidget" name="findingsTable">
  <property name="columnCount"><number>2</number></property></widget></item>
</layout></widget>
<customwidgets>
<customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header><container>1</container></customwidget>
<customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
<customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends><header>ctkPathLineEdit.h</header></customwidget>
<customwidget><class>ctkSliderWidget</class><extends>QWidget</extends><header>ctkSliderWidget.h</header></customwidget>
</customwidgets>
<connections><connection><sender>Tiny</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>volumeSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections>
</ui>
"""


def write_module(folder, finding="lung nodule", module=MODULE, ui=UI):
    (folder / "Resources/UI").mkdir(parents=True)
    (folder / "TinyLib").mkdir()
    (folder / "Tiny.py").write_text(module)
    (folder / "Resources/UI/Tiny.ui").write_text(ui)
    (folder / "TinyLib/__init__.py").write_text("")
    (folder / "TinyLib/words.py").write_text(f"FINDING = {finding!r}\n")
    return folder / "Tiny.py"


@pytest.fixture(autouse=True)
def _forget_tiny():
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("Tiny", "TinyLib")]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def tiny(open_module, tmp_path):
    return open_module(write_module(tmp_path / "module"))


def test_a_module_is_imported_set_up_and_entered(slicer, tiny):
    assert tiny.widget.calls == ["setup", "enter"]
    assert slicer.modules.tiny.title == "Tiny"
    assert slicer.modules.TinyWidget is tiny.widget
    assert slicer.util.modulePath("Tiny") == tiny.python.__file__
    assert tiny.widget.parent.className() == "qMRMLWidget"
    assert tiny.widget.parent.mrmlScene() is slicer.mrmlScene
    tiny.close()
    tiny.close()
    assert tiny.widget.calls == ["setup", "enter", "exit", "cleanup"]
    assert not tiny.widget.parent


def test_the_ui_file_sets_properties_and_makes_its_connections(slicer, ctk, tiny):
    ui = tiny.widget.ui
    assert ui.volumeSelector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert ui.volumeSelector.noneEnabled
    assert ui.volumeSelector.mrmlScene() is slicer.mrmlScene
    assert ui.opacitySlider.maximum == 1.0
    assert ui.bundlePathLineEdit.filters == ctk.ctkPathLineEdit.Dirs | ctk.ctkPathLineEdit.Drives
    tiny.widget.parent.Tiny.setMRMLScene(None)
    assert ui.volumeSelector.mrmlScene() is None


def test_a_module_is_driven_by_mouse_and_keyboard(slicer, tiny):
    ui = tiny.widget.ui
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    choose_node(ui.volumeSelector, volume)
    assert ui.volumeSelector.currentNode() == volume
    type_text(ui.bundlePathLineEdit, "/bundles/chest")
    assert ui.bundlePathLineEdit.currentPath == "/bundles/chest"
    click(ui.heatMapCheckBox)
    assert ui.heatMapCheckBox.checked
    click(ui.analyzeButton)
    selected = []
    ui.findingsTable.connect("cellClicked(int,int)", lambda row, column: selected.append((row, column)))
    click_cell(ui.findingsTable, 0, 0)
    assert selected == [(0, 0)]
    assert ui.findingsTable.item(0, 0).text() == "lung nodule"
    with pytest.raises(AssertionError, match="no cell in row 1"):
        click_cell(ui.findingsTable, 1, 0)


def test_what_a_user_cannot_click_is_not_clicked(tiny):
    button = tiny.widget.ui.analyzeButton
    button.enabled = False
    with pytest.raises(AssertionError, match="analyzeButton is disabled"):
        click(button)
    button.enabled = True
    button.hide()
    with pytest.raises(AssertionError, match="analyzeButton is not visible"):
        click(button)


def test_a_copy_in_another_folder_uses_its_own_library(open_module, tmp_path):
    first = open_module(write_module(tmp_path / "checkout"))
    second = open_module(write_module(tmp_path / "installed", finding="emphysema"))
    click(second.widget.ui.analyzeButton)
    assert second.widget.ui.findingsTable.item(0, 0).text() == "emphysema"
    assert first.python.FINDING == "lung nodule"


def test_a_description_has_only_slicers_properties(open_module, tmp_path):
    wrong = MODULE.replace('self.parent.categories = ["Informatics"]', 'self.parent.category = "Informatics"')
    with pytest.raises(AttributeError, match="has no property category"):
        open_module(write_module(tmp_path / "wrong_name", module=wrong))
    wrong = MODULE.replace('["Informatics"]', '"Informatics"')
    with pytest.raises(AttributeError, match="'categories' does not accept"):
        open_module(write_module(tmp_path / "wrong_type", module=wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged(vtkMRMLScene*)"), "no signal sceneChanged"),
        (("setMRMLScene(vtkMRMLScene*)", "setScene(vtkMRMLScene*)"), "no attribute named 'setScene'"),
        (("ctkPathLineEdit::Dirs", "ctkPathLineEdit::Folders"), "Folders, which ctkPathLineEdit does not have"),
        (('"ctkSliderWidget"', '"ctkDialWidget"'), "no stand-in"),
    ],
)
def test_a_wrong_ui_file_is_refused(open_module, tmp_path, change, message):
    with pytest.raises((AttributeError, RuntimeError), match=message):
        open_module(write_module(tmp_path / "module", ui=UI.replace(*change)))


def test_a_modules_own_test_runs(tiny):
    tiny.instance.runTest()
