"""GreenRFM for 3D Slicer: the module, its widget, and what the module factory asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from GreenRFMLib import sample_data
from GreenRFMLib.analysis import Analysis
from GreenRFMLib.panels.analyze import AnalyzePanel
from GreenRFMLib.panels.similar import SimilarPanel
from GreenRFMLib.parameters import Parameters
from GreenRFMLib.requirements import Requirements
from GreenRFMLib.scene import LPS, problem_with, voxels_of


class GreenRFM(ScriptedLoadableModule):
    """What Slicer lists of the module."""

    def __init__(self, parent):
        """Describe the module to Slicer; nothing is imported beyond the panel, nothing is installed."""
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("GreenRFM")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Informatics")]
        parent.dependencies = []
        parent.contributors = ["The GreenRFM for 3D Slicer developers"]
        parent.helpText = _(
            "Reads a CT or MR volume with a model bundle of the own department: a calibrated probability for each "
            "finding, and where in the volume it comes from. Research software, not for diagnostic use."
        )
        parent.acknowledgementText = _("GreenRFM is research software under the Apache License 2.0.")
        sample_data.register(Path(self.resourcePath("Icons/GreenRFM.png")))


class GreenRFMWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Holds the panels, and follows the scene: closing, loading, importing."""

    def __init__(self, parent=None):
        """Make an empty widget; `setup` fills it."""
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = self.panel = None

    def setup(self):
        """Load the panel's .ui and connect it with the scene."""
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/Analyze.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = GreenRFMLogic()
        similar = slicer.util.loadUI(self.resourcePath("UI/Similar.ui"))
        self.layout.addWidget(similar)
        self.similar_ui = slicer.util.childWidgetVariables(similar)
        needed = Requirements(Path(self.resourcePath("requirements-cases.txt")))
        panel = SimilarPanel(self.similar_ui, self.logic.library_work, needed)
        requirements = Requirements(Path(self.resourcePath("requirements.txt")))
        self.panel = AnalyzePanel(self.ui, self.logic.analysis, requirements, panel)
        for event, handler in (
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndCloseEvent, self.onSceneReplaced),
            (slicer.mrmlScene.StartImportEvent, self.onSceneStartImport),
            (slicer.mrmlScene.EndImportEvent, self.onSceneReplaced),
            (slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded),
            (slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved),
        ):
            # After the volume selector, which builds its list anew at the end of an import and of a closing.
            self.addObserver(slicer.mrmlScene, event, handler, priority=-1.0)
        self.panel.use(self.logic.parameters())

    def enter(self):
        """Show what changed while another module was open."""
        if self.panel is not None:
            self.panel.look_again()

    def cleanup(self):
        """Stop a running analysis before Slicer closes or reloads the module."""
        self.removeObservers()
        if self.panel is not None:
            self.panel.close()

    def onSceneStartClose(self, caller, event):
        """Let go of the scene's nodes before they are deleted."""
        self.panel.use(None)

    def onSceneStartImport(self, caller, event):
        """Take nothing that happens while nodes are added for a choice of the user."""
        self.panel.wait_for_import()

    def onNodeAdded(self, caller, event):
        """Notice that there may be another volume to read."""
        self.panel.look_for_added()

    def onNodeRemoved(self, caller, event):
        """Notice that the shown result's nodes are gone."""
        self.panel.look_for_removed()

    def onSceneReplaced(self, caller, event):
        """Take over the parameters of a new scene, or of one that was just loaded."""
        self.panel.use(self.logic.parameters())


class GreenRFMLogic(ScriptedLoadableModuleLogic):
    """The analysis, the work with a case library, and the module's parameters in the scene."""

    def __init__(self):
        """Be idle."""
        ScriptedLoadableModuleLogic.__init__(self)
        self.analysis = Analysis()
        self.library_work = Analysis()  # beside it: a library is searched while another volume is read

    def parameters(self) -> Parameters:
        """Return the parameters in the scene at hand."""
        return Parameters(self.getParameterNode())


class GreenRFMTest(ScriptedLoadableModuleTest):
    """What can be tested in the application without a bundle and without extra packages."""

    def runTest(self):
        """Run all tests."""
        self.test_volume_keeps_its_place()
        self.test_label_map_is_refused()

    def test_volume_keeps_its_place(self):
        """A turned and flipped volume under a transform gives the same place for a voxel as Slicer does."""
        slicer.mrmlScene.Clear()
        turned = np.array([[0.0, -2, 0, 10], [1.5, 0, 0, -20], [0, 0, -4, 30], [0, 0, 0, 1]])
        node = slicer.util.addVolumeFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5), ijkToRAS=turned)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        shift = np.eye(4)
        shift[:3, 3] = 5.0, 6.0, 7.0
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
        node.SetAndObserveTransformNodeID(transform.GetID())
        voxels = voxels_of(node)
        assert voxels.array[4, 2, 1] == 34
        np.testing.assert_allclose(LPS @ voxels.affine @ [4, 2, 1, 1], shift @ turned @ [4, 2, 1, 1], atol=1e-9)

    def test_label_map_is_refused(self):
        """A label map is refused with a sentence."""
        slicer.mrmlScene.Clear()
        voxels = np.zeros((3, 4, 5), np.int16)
        labels = slicer.util.addVolumeFromArray(voxels, nodeClassName="vtkMRMLLabelMapVolumeNode")
        assert "label map" in problem_with(labels)
