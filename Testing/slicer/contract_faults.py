"""A small extension that keeps to the real classes, and faults to plant in it: what is planted, what must be said."""

from __future__ import annotations

from pathlib import Path

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0">
 <class>Demo</class>
 <widget class="qMRMLWidget" name="Demo">
  <layout class="QVBoxLayout" name="verticalLayout">
   <property name="leftMargin"><number>0</number></property>
   <item><widget class="qMRMLNodeComboBox" name="selector">
     <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
     <property name="noneEnabled"><bool>true</bool></property>
     <property name="SlicerParameterName" stdset="0"><string>volume</string></property>
   </widget></item>
   <item><widget class="ctkPathLineEdit" name="path">
     <property name="filters"><set>ctkPathLineEdit::Dirs</set></property>
   </widget></item>
   <item><widget class="ctkSliderWidget" name="slider">
     <property name="maximum"><double>1.0</double></property>
   </widget></item>
   <item><widget class="QPushButton" name="button"><property name="text"><string>Go</string></property></widget></item>
   <item><widget class="QLabel" name="label">
     <property name="alignment"><set>Qt::AlignLeft|Qt::AlignTop</set></property>
     <property name="buddy"><cstring>combo</cstring></property>
   </widget></item>
   <item><widget class="QTableWidget" name="table">
     <attribute name="horizontalHeaderStretchLastSection"><bool>true</bool></attribute>
   </widget></item>
   <item><widget class="QComboBox" name="combo"/></item>
   <item><widget class="Line" name="line">
     <property name="orientation"><enum>Qt::Horizontal</enum></property>
   </widget></item>
   <item><spacer name="spacer"><property name="orientation"><enum>Qt::Vertical</enum></property></spacer></item>
  </layout>
 </widget>
 <customwidgets>
  <customwidget><class>ctkPathLineEdit</class><extends>QWidget</extends><header>ctkPathLineEdit.h</header></customwidget>
  <customwidget><class>ctkSliderWidget</class><extends>QWidget</extends><header>ctkSliderWidget.h</header></customwidget>
  <customwidget><class>qMRMLNodeComboBox</class><extends>QWidget</extends><header>qMRMLNodeComboBox.h</header></customwidget>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>qMRMLWidget.h</header></customwidget>
 </customwidgets>
 <connections>
  <connection>
   <sender>Demo</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
   <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot>
  </connection>
 </connections>
</ui>
"""

MODULE = """\
import qt
import slicer
from DemoLib import panel
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget


class DemoWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        widget = slicer.util.loadUI(self.resourcePath("UI/Demo.ui"))
        self.ui = slicer.util.childWidgetVariables(widget)
        self.panel = panel.Panel(self.ui)
        panel.fill(self.ui.table, [])
"""

PANEL = """\
import ctk
import qt
import slicer


class Panel:
    def __init__(self, ui):
        self._ui = ui
        self.timer = None
        self.more = qt.QPushButton()
        PLANT

    @property
    def names(self):
        return self._ui

    def on_click(self):
        widgets = self._ui
        widgets.label.text = "done"

    def on_value(self, value):
        self._ui.label.text = f"{value}"


def fill(table, rows):
    table.setRowCount(len(rows))


def clear(label: "qt.QLabel | None"):
    label.clear()
"""

SILENT = {
    "property written": 'ui.button.enabled = False; ui.label.text = f"{1}"; ui.slider.value = 1',
    "property read": "print(ui.selector.currentNodeID, ui.path.currentPath, ui.button.text, ui.table.rowCount)",
    "slot and invokable called": "ui.selector.setCurrentNode(None); ui.selector.currentNode().GetID()",
    "list property": 'ui.selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]',
    "signature with spaces": 'ui.selector.connect("currentNodeChanged( vtkMRMLNode * )", self.on_value)',
    "signature with const reference": 'ui.path.connect("currentPathChanged(const QString &)", self.on_value)',
    "overloaded signal": 'ui.selector.connect("currentNodeChanged(bool)", self.on_value)',
    "signal without its default argument": 'ui.button.connect("clicked()", self.on_click)',
    "handler takes fewer arguments": 'ui.slider.connect("valueChanged(double)", self.on_click)',
    "disconnect": 'ui.button.disconnect("clicked(bool)", self.on_click)',
    "signal as attribute": "ui.button.clicked.connect(self.on_click)",
    "receiver and slot": 'ui.button.connect("clicked()", ui.path, "browse()")',
    "layout by name": "ui.verticalLayout.setContentsMargins(0, 0, 0, 0)",
    "layout behind its base class": "ui.button.layout().addRow(1)",
    "enumerators": "ui.path.filters = ctk.ctkPathLineEdit.Dirs; x = qt.QSizePolicy.Expanding, qt.Qt.AlignLeft",
    "PythonQt's own": 'ui.button.name, ui.button.className(), ui.button.inherits("QPushButton"), ui.button.delete()',
    "attribute first None": "self.timer = qt.QTimer(); self.timer.setInterval(10)",
    "a name of several kinds is not judged": "x = qt.QLabel()\n        x = object()\n        x.anything = 1",
    "guarded layout manager": "m = slicer.app.layoutManager()\n        if m:\n            m.resetSliceViews()",
    "guard in one expression": "n = slicer.app.layoutManager() and slicer.app.layoutManager().sliceViewNames()",
    "import where it is used": "import onnxruntime",
    "import for types only": "from typing import TYPE_CHECKING\n        if TYPE_CHECKING:\n            import torch",
    "comparison with None": "x = ui.button.click is None",
    "another object's attribute": "other = object(); other.margin(); other.setNodeTypes([])",
    "the table's item": 'ui.table.setItem(0, 0, qt.QTableWidgetItem("x")); ui.table.item(0, 0).text().strip()',
}

# What is planted → a word that the sentence must contain.
PYTHON_FAULTS = {
    "property typo": ("ui.button.enabledd = True", "did you mean enabled"),
    "attribute typo": ("print(ui.slider.valu)", "did you mean value"),
    "unknown widget": ("ui.buton.click()", "no widget buton"),
    "unknown widget by getattr": ('getattr(ui, "buton").click()', "no widget buton"),
    "C++ setter of a node selector": ("ui.selector.setNodeTypes([])", "use the property nodeTypes"),
    "C++ setter of a slider": ("ui.slider.setSingleStep(1)", "use the property singleStep"),
    "C++ range setter": ("ui.slider.setRange(0, 1)", "minimum and maximum"),
    "C++ getter called": ("x = ui.path.currentPath()", "without ()"),
    "Qt property called": ("x = ui.label.text()", "without ()"),
    "property that hides an invokable": ("x = ui.selector.currentNodeId()", "without ()"),
    "method used as a value": ("if ui.button.isVisible: pass", "without () it is always true"),
    "method assigned": ("ui.button.setEnabled = True", "no property"),
    "read-only property": ("ui.slider.rect = None", "read-only"),
    "string for a list": ('ui.selector.nodeTypes = "vtkMRMLScalarVolumeNode"', "split into its letters"),
    "string for a bool": ('ui.button.enabled = "yes"', "no truth value"),
    "None for a string": ("ui.label.text = None", "no string"),
    "setattr": ('setattr(ui.slider, "valeu", 1)', "has no valeu"),
    "wrong argument type in a signature": ('ui.slider.connect("valueChanged(float)", self.on_value)', "double"),
    "unknown signal": ('ui.button.connect("clickd(bool)", self.on_click)', "no signal clickd"),
    "signal of another class": ('ui.selector.connect("currentIndexChanged(int)", self.on_value)', "no signal"),
    "disconnect of an unknown signal": ('ui.button.disconnect("clicked(int)", self.on_click)', "clicked"),
    "signature without arguments": ('ui.button.connect("clicked", self.on_click)', "no C++ signature"),
    "Qt 5 combo box signal": ('ui.combo.connect("currentIndexChanged(QString)", self.on_value)', "currentTextChanged"),
    "Qt 5 group signal": ('g = qt.QButtonGroup(); g.connect("buttonClicked(int)", self.on_value)', "idClicked"),
    "Qt 5 margin": ("ui.verticalLayout.margin = 0", "setContentsMargins"),
    "Qt 6 signal": ('qt.QCheckBox().connect("checkStateChanged(Qt::CheckState)", print)', "only in Qt 6"),
    "Qt 6 property": ("ui.table.horizontalHeader().sectionsMovable = True", "no property"),
    "Qt 6 method": ('qt.QProcess().startCommand("x")', "only in Qt 6"),
    "Qt 5 class": ('qt.QRegExp("x")', "QRegularExpression"),
    "Qt 5 codec": ('qt.QTextCodec.codecForName("x")', "decode bytes"),
    "QTime": ("t = qt.QTime()", "QElapsedTimer"),
    "qt.Signal": ("changed = qt.Signal()", "crashes Slicer"),
    "unknown Qt class": ("qt.QPushButon()", "no class of Qt 6"),
    "class without facts": ("w = ctk.ctkRangeWidget()", "CLASSES in Testing/slicer_harness/contract/extract_facts.py"),
    "qMRML class without facts": ("w = slicer.qMRMLTreeView()", "extract_facts.py"),
    "keyword argument in a constructor": ('qt.QPushButton(text="x")', "no keyword arguments"),
    "enumerator typo": ("x = qt.QSizePolicy.Expandin", "has no Expandin"),
    "CTK enumerator typo": ("x = ctk.ctkPathLineEdit.Dir", "has no Dir"),
    "enumerator without facts": ("x = ctk.ctkSliderWidget.Fine", "add Fine to ENUMERATORS"),
    "isinstance": ("isinstance(ui.button, qt.QWidget)", "inherits"),
    "widget made in code": ("self.more.txt = 1", "has no txt"),
    "local made in code": ("b = qt.QLabel()\n        b.setTxt(1)", "has no setTxt"),
    "alias": ("names = self._ui\n        names.slider.setPageStep(1)", "use the property pageStep"),
    "through a property of the panel": ("self.names.slider.setPageStep(1)", "use the property pageStep"),
    "through a closure": ("f = lambda: ui.slider.setDecimal(1)", "has no setDecimal"),
    "value type": ("qt.QColor().setRedd(1)", "has no setRedd"),
    "handler needs more": ('ui.button.connect("clicked()", self.on_value)', "gives 0 arguments, on_value needs 1"),
    "lambda needs more": ('ui.button.connect("clicked(bool)", lambda a, b: None)', "gives 1 argument, the lambda"),
    "handler called": ('ui.button.connect("clicked()", self.on_click())', "leave out its ()"),
    "slot of the receiver": ('ui.button.connect("clicked()", ui.path, "brows()")', "no slot brows()"),
    "attribute of a signal": ("ui.button.clicked.conect(print)", "connect, disconnect and emit"),
    "application": ("slicer.app.layoutManger()", "did you mean layoutManager"),
    "layout manager without a guard": ("slicer.app.layoutManager().sliceViewNames()", "None without a main window"),
    "named layout manager without a guard": (
        "l = slicer.app.layoutManager()\n        l.resetSliceViews()",
        "None without",
    ),
    "main window without a guard": ("slicer.util.mainWindow().show()", "None without"),
    "torch in a function": ("import torch", "never imported"),
    "pandas": ("from pandas import DataFrame", "never imported"),
}

UI_FAULTS = {
    "property typo": ('"noneEnabled"', '"noneEnabledd"', "did you mean noneEnabled"),
    "property of another class": (
        'name="button"><property name="text"',
        'name="button"><property name="value"',
        "value",
    ),
    "C++ only name": ('<property name="nodeTypes">', '<property name="nodeFactory">', "Python does not see it"),
    "value of another type": (
        "<bool>true</bool></property>\n     <property",
        "<string>x</string></property>\n     <property",
        "bool",
    ),
    "string for a list": (
        "<stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>",
        "<string>x</string>",
        "stringlist",
    ),
    "enumerator typo": ("Qt::AlignTop", "Qt::AlignTopp", "AlignTopp is no"),
    "enumerator as Qt 6 writes it": ("Qt::AlignLeft|", "Qt::AlignmentFlag::AlignLeft|", "Qt 5.15 cannot read"),
    "CTK enumerator typo": ("ctkPathLineEdit::Dirs", "ctkPathLineEdit::Dir", "ctkPathLineEdit has no Dir"),
    "spacer enumerator": ("Qt::Vertical", "Qt::Vertikal", "a spacer's orientation"),
    "layout margin": ('"leftMargin"', '"margin"', "only in Qt 5"),
    "dynamic property nobody reads": ('"SlicerParameterName"', '"SlicerParametrName"', "SlicerParametrName"),
    "header attribute typo": ("StretchLastSection", "StretchLast", "horizontalHeaderStretchLast"),
    "unknown Qt class": ('class="QLabel"', 'class="QLable"', "no class of Qt 6"),
    "class without facts": ('class="ctkSliderWidget"', 'class="ctkRangeWidget"', "extract_facts.py"),
    "custom widget not listed": (
        "<customwidget><class>ctkPathLineEdit</class>",
        "<customwidget><class>ctkCheckBox</class>",
        "not listed under <customwidgets>",
    ),
    "custom widget header": (">ctkSliderWidget.h<", ">ctkSlider.h<", "the header of ctkSliderWidget"),
    "custom widget base": (
        "<class>ctkSliderWidget</class><extends>QWidget<",
        "<class>ctkSliderWidget</class><extends>QSlider<",
        "does not extend QSlider",
    ),
    "connection signal": ("mrmlSceneChanged(vtk", "mrmlSceneChangd(vtk", "did you mean mrmlSceneChanged"),
    "connection slot": ("<slot>setMRMLScene(vtkMRMLScene*)", "<slot>setScene(vtkMRMLScene*)", "no slot setScene"),
    "connection receiver": ("<receiver>selector<", "<receiver>selektor<", "does not define"),
    "connection arguments": (
        "<slot>setMRMLScene(vtkMRMLScene*)",
        "<slot>setCurrentNode(vtkMRMLNode*)",
        "does not give",
    ),
    "name given twice": ('name="combo"', 'name="label"', "given 2 times"),
    "broken XML": ("</ui>", "", "XML"),
}


def extension(folder: Path, plant: str = "pass", ui: str = UI) -> Path:
    """Write a small extension; `plant` stands in the constructor of a panel that gets `ui` from the widget."""
    (folder / "Resources/UI").mkdir(parents=True)
    (folder / "DemoLib").mkdir()
    (folder / "Resources/UI/Demo.ui").write_text(ui, encoding="utf-8")
    (folder / "DemoLib/__init__.py").write_text("", encoding="utf-8")
    (folder / "Demo.py").write_text(MODULE, encoding="utf-8")
    (folder / "DemoLib/panel.py").write_text(PANEL.replace("PLANT", plant), encoding="utf-8")
    return folder
