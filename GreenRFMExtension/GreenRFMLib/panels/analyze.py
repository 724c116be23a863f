"""The Analyze panel: choose a volume and a model bundle, read, see findings and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from greenrfm.errors import UserError
from GreenRFMLib import overlay, results
from GreenRFMLib.analysis import Analysis, Failed, Finished
from GreenRFMLib.heat_map import Peak
from GreenRFMLib.panels import findings_table
from GreenRFMLib.parameters import Parameters
from GreenRFMLib.requirements import Requirements, names
from GreenRFMLib.scene import Voxels, problem_with, voxels_of
from GreenRFMLib.unexpected import sentence_for

BUNDLE_SETTING = "GreenRFM/Bundle"


class AnalyzePanel(VTKObservationMixin):
    """Connects the widgets of Analyze.ui with an analysis, the scene and the settings.

    The scene may be replaced under it: `use` gives it the parameters of the scene at hand, or None while
    there is none.
    """

    def __init__(self, ui: Any, analysis: Analysis, requirements: Requirements) -> None:
        """Set up the widgets `ui`, as slicer.util.childWidgetVariables gives them; nothing is installed."""
        VTKObservationMixin.__init__(self)
        self._ui, self._analysis, self._requirements = ui, analysis, requirements
        self._parameters: Parameters | None = None
        self._result: results.Result | None = None
        self._message = ""
        self._volume_id = ""  # of the volume that is shown, to which the message belongs
        self._map_belongs = True
        self._updating = False
        self._missing = requirements.missing()
        findings_table.prepare(ui.findingsTable)
        ui.bundlePathLineEdit.currentPath = slicer.util.settingsValue(BUNDLE_SETTING, "", str)
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_volume)
        ui.bundlePathLineEdit.connect("currentPathChanged(QString)", self._on_bundle)
        ui.installButton.connect("clicked(bool)", self._on_install)
        ui.analyzeButton.connect("clicked(bool)", self._on_analyze)
        ui.cancelButton.connect("clicked(bool)", self._on_cancel)
        ui.findingsTable.connect("itemSelectionChanged()", self._on_finding)
        ui.heatMapCheckBox.connect("toggled(bool)", self._on_heat_map)
        ui.opacitySlider.connect("valueChanged(double)", self._on_opacity)
        self._refresh()

    def use(self, parameters: Parameters | None) -> None:
        """Show what `parameters` say and what the scene holds; None closes the scene and ends a running analysis."""
        self._parameters = parameters
        if parameters is None:
            self._message = ""
            if self._analysis.running:
                self._analysis.cancel()
                self._message = _("The scene was closed, so the analysis was cancelled.")
        else:
            self._quietly(self._take_over, parameters)
            if self._ui.volumeSelector.currentNodeID != self._volume_id:
                self._message = ""
        self._show_result()

    def wait_for_import(self) -> None:
        """Ignore the selector until the next `use`: it loses its node while a scene is added to the one at hand."""
        self._parameters = None

    def close(self) -> None:
        """Let go of the scene and end a running analysis."""
        self.removeObservers()
        self._analysis.close()

    def look_for_removed(self) -> None:
        """Show no longer a result of which somebody removed the table or the heat map."""
        result = self._result
        if self._updating or self._parameters is None or result is None:
            return
        if not slicer.mrmlScene.IsNodePresent(result.table):
            self._message = ""
            self._show_result()
        elif result.heat_map is None:
            self._show_result()

    def look_again(self) -> None:
        """Look whether the packages were installed meanwhile, and show the scene's result again."""
        self._missing = self._requirements.missing()
        self._show_result()

    def _take_over(self, parameters: Parameters) -> None:
        # A new scene's parameters name no volume: then the selector's own choice counts.
        if parameters.volume is not None:
            self._ui.volumeSelector.setCurrentNode(parameters.volume)
        else:
            parameters.volume = self._ui.volumeSelector.currentNode()
        self._ui.heatMapCheckBox.checked = parameters.heat_map
        self._ui.opacitySlider.value = parameters.opacity

    def _quietly(self, change: Callable[..., Any], *arguments: Any) -> Any:
        """Change widgets or nodes without taking it for something the user did."""
        was, self._updating = self._updating, True
        try:
            return change(*arguments)
        finally:
            self._updating = was

    # What the user does

    def _on_volume(self, node: Any) -> None:
        if self._updating or self._parameters is None:
            return
        self._parameters.volume = node
        self._message = ""
        self._show_result()

    def _on_bundle(self, path: str) -> None:
        self._message = ""
        self._refresh()

    def _on_install(self) -> None:
        try:
            self._requirements.install()
            self._message = ""
        except UserError as error:
            self._message = str(error)
        self._missing = self._requirements.missing()
        self._refresh()

    def _on_analyze(self) -> None:
        node, folder = self._ui.volumeSelector.currentNode(), self._folder()
        if self._analysis.running or folder is None:
            return
        try:
            voxels = voxels_of(node)
        except UserError as error:
            self._message = str(error)
            self._refresh()
            return
        qt.QSettings().setValue(BUNDLE_SETTING, str(folder))
        self._ui.bundlePathLineEdit.addCurrentPathToHistory()
        self._message = ""
        self._analysis.start(voxels, folder, lambda outcome: self._on_outcome(node, voxels, outcome), self._show_stage)
        self._refresh()

    def _on_outcome(self, node: Any, voxels: Voxels, outcome: Finished | Failed) -> None:
        if isinstance(outcome, Failed):
            self._message = outcome.sentence
        elif not voxels.still_in(node):
            self._message = _("The volume was changed, moved or removed while it was read. Analyze it again.")
        else:
            try:
                result = self._quietly(results.store, node, voxels, outcome.reading, outcome.decision_logits)
            except Exception as error:
                self._message = sentence_for(error)
            else:
                self._message = self._summary(result, outcome.seconds)
        if node is not self._ui.volumeSelector.currentNode():  # an added scene brought another volume
            self._message = _("Of {name}: {message}").format(name=node.GetName(), message=self._message)
        self._show_result()

    def _on_cancel(self) -> None:
        self._analysis.cancel()
        self._message = _("Cancelled. Nothing was changed.")
        self._refresh()

    def _on_finding(self) -> None:
        if self._updating or self._parameters is None:
            return
        self._parameters.finding = findings_table.selected_key(self._ui.findingsTable)
        self._show_heat_map(jump=True)

    def _on_heat_map(self, shown: bool) -> None:
        if self._updating or self._parameters is None:
            return
        self._parameters.heat_map = shown
        self._show_heat_map(jump=True)

    def _on_opacity(self, value: float) -> None:
        if self._updating or self._parameters is None:
            return
        self._parameters.opacity = value
        if self._result is not None and self._result.heat_map is not None:
            overlay.fade(self._result.heat_map, value)

    # What the user sees

    def _show_result(self) -> None:
        """Show the scene's result for the chosen volume, or the empty state."""
        volume = self._ui.volumeSelector.currentNode() if self._parameters is not None else None
        former = self._result
        self._volume_id = volume.GetID() if volume is not None else ""
        self._result = results.find(volume)
        self._follow(volume if self._result is not None else None)
        if former is not None and (self._result is None or former.heat_map is not self._result.heat_map):
            overlay.hide(former.heat_map)
        self._quietly(self._fill)
        self._show_heat_map(jump=False)
        self._refresh()

    def _follow(self, volume: Any) -> None:
        """Watch the volume whose heat map is shown: somebody may move it, or change its voxels."""
        self.removeObservers()
        if volume is not None:
            changes = (vtk.vtkCommand.ModifiedEvent, volume.TransformModifiedEvent, volume.ImageDataModifiedEvent)
            for event in changes:
                self.addObserver(volume, event, self._on_volume_modified)

    def _on_volume_modified(self, caller: Any, event: Any) -> None:
        if self._updating or self._result is None or self._parameters is None or not self._parameters.heat_map:
            return
        # Only what is needed while somebody drags a transform; the map follows it by itself.
        if results.follow_volume(self._result) != self._map_belongs:
            self._show_heat_map(jump=False)

    def _fill(self) -> None:
        ui, result = self._ui, self._result
        scores = results.ranked(result.scores) if result else []
        findings_table.fill(ui.findingsTable, scores)
        keys = [score.key for score in scores]
        if self._parameters is not None and keys:
            if self._parameters.finding not in keys:
                self._parameters.finding = keys[0]
            findings_table.select(ui.findingsTable, self._parameters.finding)
        ui.noticeLabel.text = result.notice if result and result.notice else _("Not for diagnostic use.")
        ui.warningsLabel.text = "\n".join("⚠ " + sentence_case(text) for text in result.warnings) if result else ""
        ui.warningsLabel.visible = bool(ui.warningsLabel.text)
        ui.heatMapCheckBox.enabled = ui.opacitySlider.enabled = ui.findingsTable.enabled = bool(keys)

    def _show_heat_map(self, jump: bool) -> None:
        ui, result = self._ui, self._result
        ui.cellSizeLabel.text = ""
        if result is None or self._parameters is None:
            return
        if not self._parameters.heat_map:
            overlay.hide(result.heat_map)
            return
        self._map_belongs = results.follow_volume(result)
        if not self._map_belongs:
            overlay.hide(result.heat_map)
            ui.cellSizeLabel.text = _("The volume was moved or changed since; analyze it again.")
            return
        peak = results.show_finding(result, self._parameters.finding)
        if peak is None:
            overlay.hide(result.heat_map)
            ui.cellSizeLabel.text = _("The heat maps of this result are no longer in the scene. Analyze again.")
            return
        overlay.show(result.volume, result.heat_map, self._parameters.opacity)
        if jump:
            overlay.jump(peak.position)
        ui.cellSizeLabel.text = self._about_heat_map(result, peak)

    def _about_heat_map(self, result: results.Result, peak: Peak) -> str:
        size = " × ".join(f"{length:.0f}" for length in result.cell_size_mm)
        sentence = _("One cell of the heat map is {size} mm: it points to a region, it does not outline anything.")
        if peak.reaches:
            sentence += " " + _("Colour begins half way from this finding's threshold to its highest cell.")
        else:
            sentence += " " + _("No inner cell reaches this finding's threshold, so nothing is coloured.")
        return sentence.format(size=size)

    def _refresh(self) -> None:
        """Enable what can be used now, and say what is going on or what comes next."""
        ui, running, obstacle = self._ui, self._analysis.running, self._obstacle()
        ui.installButton.visible = bool(self._missing)
        ui.installButton.enabled = not running
        ui.analyzeButton.enabled = not running and not obstacle
        ui.analyzeButton.toolTip = obstacle or _("Read the volume with the model.")
        ui.volumeSelector.enabled = ui.bundlePathLineEdit.enabled = not running
        ui.cancelButton.enabled = running
        ui.progressBar.visible = running
        if not running:
            ui.statusLabel.text = sentence_case(self._message or obstacle or self._ready())

    def _show_stage(self, stage: str) -> None:
        self._ui.statusLabel.text = _("{stage}. The viewer can be used meanwhile.").format(stage=stage)

    def _summary(self, result: results.Result, seconds: float) -> str:
        present = sum(score.present for score in result.scores)
        sentence = _("{present} of {all} findings called present, read in {seconds} s.")
        return sentence.format(present=present, all=len(result.scores), seconds=f"{seconds:.1f}")

    def _ready(self) -> str:
        if self._result is None:
            return _("Press Analyze to read this volume.")
        return _("Result of {time}, bundle {bundle}.").format(
            time=self._result.time, bundle=self._result.bundle_hash[:8]
        )

    def _obstacle(self) -> str:
        """Return what stands against analyzing, as a sentence that says what to do, or ""."""
        volume, folder = self._ui.volumeSelector.currentNode(), self._folder()
        if self._missing:
            return _("Reading needs {names}: press Install.").format(names=names(self._missing))
        if volume is None and folder is None:
            return _("Choose a volume and the folder of a model bundle.")
        if folder is None:
            return problem_with(volume) or _("Choose the folder of a model bundle.")
        return problem_with(volume)

    def _folder(self) -> Path | None:
        text = self._ui.bundlePathLineEdit.currentPath.strip()
        return Path(text) if text else None


def sentence_case(text: str) -> str:
    """Return the sentence with a capital and a full stop; greenrfm's own begin small, for the command line."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text[-1] in ".!?" else ".")
