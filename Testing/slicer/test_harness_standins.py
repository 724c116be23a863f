"""The stand-ins behave like the real widgets in what a panel relies on."""

from __future__ import annotations

import pytest

from slicer_harness.contract.surface import facts
from slicer_harness.events import choose_node, click, type_text
from slicer_harness.standins import STANDINS


@pytest.fixture
def selector(slicer):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def add_volume(slicer, name="CT", kind="vtkMRMLScalarVolumeNode"):
    return slicer.mrmlScene.AddNewNodeByClass(kind, name)


@pytest.mark.parametrize("name", sorted(STANDINS))
def test_every_property_is_read_and_every_signal_is_connected(slicer, qt, name):
    import ctk

    widget = getattr(ctk if name.startswith("ctk") else slicer, name)()
    meta = STANDINS[name].cls.staticMetaObject
    for index in range(meta.propertyCount()):
        prop = meta.property(index)
        value = getattr(widget, prop.name())
        if index >= meta.propertyOffset() and prop.isWritable():
            setattr(widget, prop.name(), value)
            again = getattr(widget, prop.name())
            assert again.isNull() if isinstance(value, qt.QIcon) else again == value
    for signature in STANDINS[name].signals:
        assert widget.connect(signature, lambda *_: None)
    for method in STANDINS[name].exposed:
        assert callable(getattr(widget, method))


# What the real class shows and its stand-in does not play. Whoever needs one of these writes it first.
NOT_PLAYED = {
    "qMRMLWidget": {"pixmapFromIcon", "postInitializeApplication", "preInitializeApplication"},
    "qMRMLNodeComboBox": {"addMenuAction", "sortFilterProxyModel"},
    "qMRMLTableView": {
        "copySelection",
        "deleteColumn",
        "deleteRow",
        "insertColumn",
        "insertRow",
        "mrmlTableViewNode",
        "pasteSelection",
        "plotSelection",
        "setMRMLTableViewNode",
        "sortFilterProxyModel",
        "tableModel",
    },
}


@pytest.mark.parametrize("name", sorted(STANDINS))
def test_a_stand_in_plays_everything_of_the_real_class_but_what_is_listed(name):
    real = facts()[name]
    meta = STANDINS[name].cls.staticMetaObject
    properties = {meta.property(index).name() for index in range(meta.propertyCount())}
    methods = {signature.split("(")[0] for signature in real["methods"]}
    assert set(real["properties"]) <= properties
    assert methods - properties - STANDINS[name].exposed == NOT_PLAYED.get(name, set())
    assert set(real["signals"]) == set(STANDINS[name].signals)
    for enumerator in real["enumerators"]:
        assert isinstance(getattr(STANDINS[name].cls, enumerator), int)


def test_the_application_has_nothing_that_the_real_one_lacks(slicer):
    qt_application = {"applicationName", "applicationVersion", "setOverrideCursor", "restoreOverrideCursor"}
    qt_application |= {"thread", "topLevelWidgets", "connect"}
    switches_of_tests = {"layout_manager", "testing", "connections"}
    shown = {name for name in dir(slicer.app) if not name.startswith("_")}
    real = {"processEvents"}
    for name in ("qSlicerApplication", "qSlicerCoreApplication"):
        real |= set(facts()[name]["properties"]) | {key.split("(")[0] for key in facts()[name]["methods"]}
    assert shown - real == qt_application | switches_of_tests


def test_the_selector_follows_the_scene(slicer, selector):
    seen = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    assert selector.currentNode() is None
    first, second = add_volume(slicer, "CT"), add_volume(slicer, "MR")
    assert (selector.nodeCount(), selector.currentNode(), selector.currentNodeID) == (2, first, first.GetID())
    slicer.mrmlScene.RemoveNode(first)
    assert selector.currentNode() == second
    slicer.mrmlScene.Clear(0)
    assert (selector.nodeCount(), selector.currentNode(), selector.currentNodeID) == (0, None, "")
    assert seen == [first, second, None]


def test_the_selector_offers_none_only_where_it_is_enabled(slicer, selector):
    selector.noneEnabled = True
    volume = add_volume(slicer)
    assert selector.currentNode() is None
    selector.setCurrentNode(volume)
    assert selector.currentNode() == volume
    choose_node_shown(selector, None)
    assert selector.currentNode() is None
    selector.noneEnabled = False
    with pytest.raises(AssertionError, match="does not offer None"):
        choose_node_shown(selector, None)


def choose_node_shown(selector, node):
    selector.show()
    choose_node(selector, node)


def test_the_selector_emits_every_signal_of_a_change_and_only_on_a_change(slicer, selector):
    calls = []
    volume, other = add_volume(slicer), add_volume(slicer, "MR")
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: calls.append(node))
    selector.connect("currentNodeChanged(bool)", lambda valid: calls.append(valid))
    selector.connect("currentNodeIDChanged(QString)", lambda node_id: calls.append(node_id))
    selector.setCurrentNode(volume)
    assert calls == []
    selector.setCurrentNode(other)
    assert calls == [other, True, other.GetID()]
    calls.clear()
    selector.setCurrentNode(None)
    assert calls == [None, False, ""]


def test_the_selector_offers_only_visible_nodes_of_its_types_and_attributes(slicer, selector):
    label_map = add_volume(slicer, "labels", "vtkMRMLLabelMapVolumeNode")
    hidden = add_volume(slicer, "hidden")
    hidden.SetHideFromEditors(True)
    add_volume(slicer, "table", "vtkMRMLTableNode")
    selector.showHidden = True
    selector.showHidden = False
    assert [selector.nodeFromIndex(index) for index in range(selector.nodeCount())] == [label_map]
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 0
    selector.showHidden = True
    selector.addAttribute("vtkMRMLScalarVolumeNode", "GreenRFM.Role", "heat map")
    assert selector.nodeCount() == 0
    hidden.SetAttribute("GreenRFM.Role", "heat map")
    selector.removeAttribute("vtkMRMLScalarVolumeNode", "GreenRFM.Role")
    assert selector.nodeFromIndex(0) == hidden


def test_the_selector_is_disabled_without_a_scene_and_remembers_what_was_asked_for(slicer):
    volume, other = add_volume(slicer), add_volume(slicer, "MR")
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert not selector.enabled
    selector.setCurrentNode(other)
    assert selector.currentNode() is None
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.enabled
    assert selector.currentNode() == other
    assert volume != other


def test_the_selector_follows_a_batch_and_waits_for_the_end_of_an_import(slicer, selector):
    seen, scene = [], slicer.mrmlScene
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    scene.StartState(scene.BatchProcessState)
    volume = add_volume(slicer)
    assert seen == [volume]
    scene.EndState(scene.BatchProcessState)
    assert seen == [volume]
    scene.RemoveNode(volume)
    scene.StartState(scene.ImportState)
    other = add_volume(slicer)
    assert seen == [volume, None]
    scene.EndState(scene.ImportState)
    assert seen == [volume, None, other]


def test_the_user_adds_a_node_with_the_selector(slicer, selector):
    added = []
    selector.connect("nodeAddedByUser(vtkMRMLNode*)", added.append)
    selector.baseName = "heat map"
    node = selector.addNode()
    assert added == [node]
    assert selector.currentNode() == node
    assert node.GetName().startswith("heat map")
    assert selector.addNode("vtkMRMLModelNode") is None


def test_a_collapsed_button_hides_its_contents(qt, ctk):
    from slicer_harness.events import process_events

    button = ctk.ctkCollapsibleButton()
    button.text = "Heat map"
    layout = qt.QVBoxLayout(button)
    inside = qt.QPushButton("inside")
    layout.addWidget(inside)
    button.show()
    process_events()
    seen = []
    button.connect("contentsCollapsed(bool)", seen.append)
    assert inside.visible
    click(button)
    assert (button.collapsed, inside.visible, seen) == (True, False, [True])
    with pytest.raises(AssertionError, match="not visible"):
        click(inside)
    button.collapsed = False
    assert inside.visible
    assert seen == [True, False]


def test_a_group_box_collapses(qt, ctk):
    box = ctk.ctkCollapsibleGroupBox()
    layout = qt.QVBoxLayout(box)
    inside = qt.QLabel("inside")
    layout.addWidget(inside)
    box.show()
    assert box.collapsed is False
    click(box)
    assert box.collapsed is True
    assert not inside.visible


def test_a_slider_keeps_its_value_within_its_limits(ctk):
    slider = ctk.ctkSliderWidget()
    seen = []
    slider.connect("valueChanged(double)", seen.append)
    slider.maximum, slider.singleStep, slider.decimals = 1.0, 0.05, 2
    slider.value = 0.5
    slider.value = 7
    slider.value = 1
    assert (slider.value, seen) == (1.0, [0.5, 1.0])
    slider.minimum = 2
    assert slider.maximum >= slider.value


def test_a_path_is_typed_and_remembered(qt, ctk, tmp_path):
    edit = ctk.ctkPathLineEdit()
    edit.settingKey = "GreenRFM/Bundles"
    paths, valid = [], []
    edit.connect("currentPathChanged(QString)", paths.append)
    edit.connect("validInputChanged(bool)", valid.append)
    edit.show()
    folder = tmp_path / "Ünï cödé 胸部"
    folder.mkdir()
    edit.currentPath = str(folder)
    assert (paths[-1], valid) == (str(folder), [True])
    edit.addCurrentPathToHistory()
    type_text(edit, "/nowhere")
    assert (edit.currentPath, valid) == ("/nowhere", [True, False])
    again = ctk.ctkPathLineEdit()
    again.settingKey = "GreenRFM/Bundles"
    again.retrieveHistory()
    assert again.comboBox().itemText(0) == str(folder)


def test_a_table_view_shows_its_node_and_follows_it(slicer):
    node = add_volume(slicer, "findings", "vtkMRMLTableNode")
    column = node.AddColumn()
    column.SetName("finding")
    column.InsertNextValue("lung nodule")
    view = slicer.qMRMLTableView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLTableNode(node)
    model = view.model()
    assert (model.rowCount(), model.columnCount()) == (1, 1)
    assert model.index(0, 0).data() == "lung nodule"
    column.InsertNextValue("emphysema")
    node.Modified()
    assert model.rowCount() == 2
