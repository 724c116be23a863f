"""Scene, settings, processes, timers and packages are real, or scripted where they must not be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from slicer_harness import boot, environment
from slicer_harness.environment import packaging
from slicer_harness.events import Heartbeat, process_events, wait_until


def test_booting_twice_changes_nothing(slicer):
    scene = slicer.mrmlScene
    assert boot() is slicer
    assert slicer.mrmlScene is scene


def test_a_new_scene_is_empty_and_known_to_the_logics(slicer):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    before = slicer.mrmlScene
    scene = environment.new_scene()
    assert scene is slicer.mrmlScene is not before
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    for name in ("volumes", "colors", "tables", "subjecthierarchy"):
        assert getattr(slicer.modules, name).logic().GetMRMLScene() is scene
    assert slicer.app.applicationLogic().GetMRMLScene() is scene
    assert scene.GetSubjectHierarchyNode() is not None
    assert slicer.app.applicationLogic().GetSelectionNode().GetScene() is scene


def test_a_scene_of_volume_table_colours_and_parameters_survives_an_mrb(slicer, tmp_path):
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    volume = slicer.util.addVolumeFromArray(voxels, name="CT")
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "findings")
    column = table.AddColumn()
    column.SetName("finding")
    column.InsertNextValue("lung nodule")
    table.SetAttribute("notice", "not for diagnostic use")
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "heat")
    colors.SetTypeToUser()
    colors.SetNumberOfColors(2)
    colors.SetColor(0, "cold", 0.0, 0.0, 1.0, 0.0)
    colors.SetColor(1, "hot", 1.0, 0.5, 0.0, 1.0)
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().SetAndObserveColorNodeID(colors.GetID())
    logic = slicer.ScriptedLoadableModule.ScriptedLoadableModuleLogic()
    parameters = logic.getParameterNode()
    parameters.SetParameter("bundle", "Ünï cödé 胸部")
    parameters.SetNodeReferenceID("volume", volume.GetID())
    path = tmp_path / "Ünï cödé 胸部.mrb"
    slicer.app.coreIOManager().addDefaultStorageNodes()
    assert slicer.util.saveScene(str(path))

    slicer.mrmlScene.Clear(0)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    slicer.util.loadScene(str(path))
    volume = slicer.util.getNode("CT")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(volume), voxels)
    assert slicer.util.getNode("findings").GetCellText(0, 0) == "lung nodule"
    assert slicer.util.getNode("findings").GetAttribute("notice") == "not for diagnostic use"
    colors = volume.GetDisplayNode().GetColorNode()
    assert (colors.GetName(), colors.GetColorName(1)) == ("heat", "hot")
    parameters = logic.getParameterNode()
    assert parameters.GetParameter("bundle") == "Ünï cödé 胸部"
    assert parameters.GetNodeReference("volume") == volume
    assert len(logic.getAllParameterNodes()) == 1


def test_closing_the_scene_tells_observers_and_keeps_the_parameter_node_usable(slicer):
    logic = slicer.ScriptedLoadableModule.ScriptedLoadableModuleLogic()
    logic.getParameterNode().SetParameter("bundle", "a")
    events = []
    for event in ("StartCloseEvent", "EndCloseEvent"):
        slicer.mrmlScene.AddObserver(getattr(slicer.mrmlScene, event), lambda *_, event=event: events.append(event))
    slicer.mrmlScene.Clear(0)
    assert events == ["StartCloseEvent", "EndCloseEvent"]
    assert logic.getParameterNode().GetParameter("bundle") == ""
    assert logic.getParameterNode().GetAttribute("ModuleName") == logic.moduleName


def test_a_volume_file_is_loaded_through_the_volumes_logic(slicer, load_volume, tmp_path):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.full((4, 5, 6), 7, dtype=np.int16))
    image.SetSpacing((0.5, 1.0, 2.0))
    path = tmp_path / "ct.nrrd"
    sitk.WriteImage(image, str(path))
    volume = load_volume(path)
    assert (volume.GetName(), volume.GetSpacing()) == ("ct", (0.5, 1.0, 2.0))
    assert volume.GetDisplayNode() is not None
    assert load_volume(path, labelmap=True).GetClassName() == "vtkMRMLLabelMapVolumeNode"
    with pytest.raises(RuntimeError, match="Failed to load node"):
        load_volume(tmp_path / "missing.nrrd")


def test_settings_are_kept_in_a_file_of_their_own(slicer, qt):
    settings = qt.QSettings()
    settings.setValue("GreenRFM/Bundle", "/bundles/chest")
    settings.sync()
    assert slicer.app.temporaryPath.rsplit("/", 1)[0] in settings.fileName()
    assert slicer.app.userSettings().value("GreenRFM/Bundle") == "/bundles/chest"
    assert slicer.util.settingsValue("GreenRFM/Bundle", "") == "/bundles/chest"
    environment.clear_settings()
    assert qt.QSettings().value("GreenRFM/Bundle") is None


def test_a_process_runs_and_reports(slicer, qt):
    process = qt.QProcess()
    finished = []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, status: finished.append((code, status)))
    process.start(sys.executable, ["-c", "import sys; print(sys.stdin.read().upper(), end=''); sys.exit(3)"])
    process.write(b"cancel")
    process.closeWriteChannel()
    wait_until(lambda: finished, seconds=20)
    assert finished == [(3, qt.QProcess.NormalExit)]
    assert bytes(process.readAllStandardOutput().data()) == b"CANCEL"


def test_a_timer_beats_and_is_stopped(qt):
    timer = qt.QTimer()
    beats = []
    timer.interval = 5
    timer.connect("timeout()", lambda: beats.append(1))
    timer.start()
    wait_until(lambda: len(beats) >= 3, seconds=5)
    timer.stop()
    count = len(beats)
    process_events(30)
    assert len(beats) == count
    with pytest.raises(AssertionError, match="in vain"):
        wait_until(lambda: False, seconds=0.01)


def test_the_heartbeat_measures_a_standstill(slicer):
    import time

    with Heartbeat() as quiet:
        process_events(60)
    with Heartbeat() as blocked:
        process_events(30)
        time.sleep(0.3)
        process_events(30)
    with Heartbeat() as blocked_at_the_end:
        time.sleep(0.3)
    assert blocked.longest_gap_s >= 0.3
    assert blocked_at_the_end.longest_gap_s >= 0.3
    assert quiet.longest_gap_s < blocked.longest_gap_s


def test_there_is_no_layout_manager_unless_asked_for(slicer):
    assert slicer.app.layoutManager() is None
    assert slicer.util.mainWindow() is None


def test_the_layout_manager_has_real_slice_logics(slicer, layout_manager):
    assert slicer.app.layoutManager() is layout_manager
    assert layout_manager.sliceViewNames() == ("Red", "Yellow", "Green")
    volume = slicer.util.addVolumeFromArray(np.ones((8, 8, 8), dtype=np.float32))
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        widget = layout_manager.sliceWidget(name)
        assert widget.sliceLogic().GetBackgroundLayer().GetVolumeNode() == volume
        assert widget.mrmlSliceNode().GetOrientation() == orientation
        assert widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    assert slicer.app.applicationLogic().GetSliceLogics().GetNumberOfItems() == 3


@pytest.fixture
def requirements(slicer, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# the reading side\nonnxruntime>=1.0\nSimpleITK>=2\n-c constraints.txt\n")
    return slicer.packaging.load_requirements(path)


def test_requirements_are_read(requirements):
    assert [str(requirement) for requirement in requirements] == ["onnxruntime>=1.0", "SimpleITK>=2"]


def test_a_hidden_package_looks_not_installed_until_it_is_installed(slicer, dialogs, requirements):
    slicer.packaging.pip_ensure(requirements, requester="GreenRFM")
    assert dialogs.shown == []
    packaging.hide("onnxruntime")
    assert importlib.util.find_spec("onnxruntime") is None
    assert not slicer.packaging.pip_check(requirements)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("onnxruntime")
    dialogs.answer("slicer.util.confirmOkCancelDisplay", True)
    packaging.answers = ["installs"]
    slicer.packaging.pip_ensure(requirements, requester="GreenRFM")
    assert packaging.installed == ["onnxruntime>=1.0"]
    assert importlib.util.find_spec("onnxruntime") is not None
    assert slicer.packaging.pip_check(requirements)


def test_an_install_is_declined_or_fails(slicer, dialogs, requirements):
    packaging.hide("onnxruntime")
    dialogs.answer("slicer.util.confirmOkCancelDisplay", False)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(requirements, requester="GreenRFM")
    packaging.answers = ["fails"]
    with pytest.raises(subprocess.CalledProcessError):
        slicer.util.pip_install("onnxruntime>=1.0")
    assert packaging.installed == []


def test_an_install_that_no_test_expects_fails_it(slicer):
    with pytest.raises(AssertionError, match="did not expect"):
        slicer.util.pip_install("torch")


def test_nothing_is_installed_while_slicer_tests_itself(slicer, requirements):
    slicer.app.testing = True
    packaging.hide("onnxruntime")
    assert slicer.packaging.pip_ensure(requirements) is None
    assert importlib.util.find_spec("onnxruntime") is None


def test_an_older_slicer_has_no_packaging(slicer):
    packaging.withdraw()
    assert not hasattr(slicer, "packaging")
    assert importlib.util.find_spec("slicer.packaging") is None
    packaging.reset()
    assert hasattr(slicer, "packaging")


def test_an_install_from_another_thread_fails(slicer):
    import threading

    errors = []

    def install():
        try:
            slicer.util.pip_install("onnxruntime")
        except AssertionError as error:
            errors.append(str(error))

    thread = threading.Thread(target=install)
    thread.start()
    thread.join()
    assert errors == ["pip_install belongs on the main thread"]


WAITING = """
import sys
sys.path.insert(0, {testing!r})
from slicer_harness import boot
boot()
from slicer_harness.events import process_events
for _ in range(sys.getrefcount(None) % (1 << 40)):
    process_events()
print("still here")
"""


def test_a_long_wait_does_not_wear_out_none(request):
    # PySide6 gives back references to None that it never took; see slicer_harness/immortal.py.
    script = WAITING.format(testing=str(request.path.parents[1]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr
