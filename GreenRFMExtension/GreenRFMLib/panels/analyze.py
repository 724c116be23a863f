"""The Analyze panel: choose a volume and a model bundle, read, see findings and where they come from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from greenrfm.errors import UserError
from GreenRFMLib import results
from GreenRFMLib.analysis import Analysis, Failed, Finished, Found
from GreenRFMLib.panels import status
from GreenRFMLib.panels.findings import FindingsPanel
from GreenRFMLib.panels.images import ImagesPanel
from GreenRFMLib.panels.quiet import Quiet
from GreenRFMLib.panels.similar import SimilarPanel
from GreenRFMLib.panels.status import Read
from GreenRFMLib.panels.words import sentence_case
from GreenRFMLib.parameters import Parameters
from GreenRFMLib.requirements import Requirements
from GreenRFMLib.study import Key, Study, gather, keys_of
from GreenRFMLib.unexpected import sentence_for

BUNDLE_SETTING = "GreenRFM/Bundle"


class AnalyzePanel:
    """Connects the widgets of Analyze.ui with an analysis, the scene and the settings.

    The scene may be replaced under it: `use` gives it the parameters of the scene at hand, or None while
    there is none.
    """

    def __init__(self, ui: Any, analysis: Analysis, requirements: Requirements, similar: SimilarPanel) -> None:
        """Set up the widgets `ui`, as slicer.util.childWidgetVariables gives them; nothing is installed.

        `similar` is the panel below, which is told of each reading.
        """
        self._ui, self._analysis, self._requirements, self._similar = ui, analysis, requirements, similar
        self._quietly = Quiet()
        self._findings = FindingsPanel(ui, self._quietly)
        self._images = ImagesPanel(ui, self._quietly, self._on_image)
        self._keys: tuple[Key, ...] = ()  # the images that the bundle reads
        self._parameters: Parameters | None = None
        self._read: Read | None = None
        self._message = ""
        self._volume_id = ""  # of the volume that is shown, to which the message belongs
        self._missing = requirements.missing()
        ui.bundlePathLineEdit.currentPath = slicer.util.settingsValue(BUNDLE_SETTING, "", str)
        ui.volumeSelector.connect("currentNodeChanged(vtkMRMLNode*)", self._on_volume)
        ui.bundlePathLineEdit.connect("currentPathChanged(QString)", self._on_bundle)
        ui.installButton.connect("clicked(bool)", self._on_install)
        ui.analyzeButton.connect("clicked(bool)", self._on_analyze)
        ui.cancelButton.connect("clicked(bool)", self._on_cancel)
        ui.overruleButton.connect("clicked(bool)", self._on_overrule)
        ui.textButton.connect("clicked(bool)", self._on_text)
        ui.textLineEdit.connect("returnPressed()", self._on_text)
        # A volume's node is announced before it has its voxels, by which it belongs into the list of images or not.
        self._added = qt.QTimer()
        self._added.setSingleShot(True)
        self._added.connect("timeout()", self._refresh)
        self._keys = keys_of(self._folder())
        self._show_result()

    def use(self, parameters: Parameters | None) -> None:
        """Show what `parameters` say and what the scene holds; None closes the scene and ends a running analysis."""
        self._parameters = parameters
        if parameters is None:
            self._message = ""
            self._ui.textLineEdit.clear()  # it may name the patient of the scene that was closed
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
        self._findings.pause()

    def close(self) -> None:
        """Let go of the scene and end a running analysis."""
        self._added.stop()
        self._findings.close()
        self._analysis.close()
        self._similar.close()

    def look_for_added(self) -> None:
        """Offer a volume that comes into the scene as another image of the study."""
        if self._keys and self._parameters is not None and not self._quietly.active:
            self._added.start(0)

    def look_for_removed(self) -> None:
        """Show no longer a result of which somebody removed the table or the heat map."""
        self.look_for_added()
        result = self._findings.result
        if self._quietly.active or self._parameters is None or result is None:
            return
        if not slicer.mrmlScene.IsNodePresent(result.table):
            self._message = ""
            self._show_result()
        elif self._findings.lost:
            self._show_result()

    def look_again(self) -> None:
        """Look whether the packages were installed meanwhile, and show the scene's result again."""
        self._missing = self._requirements.missing()
        self._keys = keys_of(self._folder())
        self._show_result()

    def _take_over(self, parameters: Parameters) -> None:
        # A new scene's parameters name no volume: then the selector's own choice counts.
        if parameters.volume is not None:
            self._ui.volumeSelector.setCurrentNode(parameters.volume)
        else:
            parameters.volume = self._ui.volumeSelector.currentNode()
        self._ui.heatMapCheckBox.checked = parameters.heat_map
        self._ui.opacitySlider.value = parameters.opacity

    # What the user does

    def _on_volume(self, node: Any) -> None:
        if self._quietly.active or self._parameters is None:
            return
        self._parameters.volume = node
        self._message = ""
        self._show_result()

    def _on_bundle(self, path: str) -> None:
        self._message = ""
        self._keys = keys_of(self._folder())
        self._refresh()

    def _on_image(self) -> None:
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
        folder = self._folder()
        if self._analysis.running or folder is None:
            return
        try:
            study = gather(self._ui.volumeSelector.currentNode(), self._keys)
        except UserError as error:
            self._message = str(error)
            self._refresh()
            return
        qt.QSettings().setValue(BUNDLE_SETTING, str(folder))
        self._ui.bundlePathLineEdit.addCurrentPathToHistory()
        self._message = ""
        self._analysis.start(study.voxels(), folder, lambda outcome: self._on_outcome(study, outcome), self._show_stage)
        self._refresh()

    def _on_outcome(self, study: Study, outcome: Finished | Failed) -> None:
        if isinstance(outcome, Failed):
            self._message = outcome.sentence
        else:
            self._take(Read(study, outcome))
        if study.volume is not self._ui.volumeSelector.currentNode():  # an added scene brought another volume
            self._message = _("Of {name}: {message}").format(name=study.volume.GetName(), message=self._message)
        self._show_result()

    def _take(self, read: Read) -> None:
        """Keep a reading, and put it into the scene unless its scores are withheld."""
        self._read = None
        if not read.study.unchanged:
            self._message = _("The volume was changed, moved or removed while it was read. Analyze it again.")
            return
        if read.withheld is not None:
            self._message = status.withheld(read)
        else:
            try:
                result = self._quietly(results.store, read.study, read.finished.reading, read.finished.decision_logits)
            except Exception as error:
                self._message = sentence_for(error)
                return
            self._message = status.summary(result, read)
        self._read = read

    def _on_overrule(self) -> None:
        if self._read is None or self._parameters is None or self._analysis.running:
            return
        finished = replace(self._read.finished, reading=self._read.finished.reading.overrule())
        self._take(replace(self._read, finished=finished))
        self._show_result()

    def _on_text(self) -> None:
        read, text = self._read, str(self._ui.textLineEdit.text).strip()
        if read is None or self._analysis.running or status.text_obstacle(self._findings.result, self._read):
            return
        self._message = ""
        self._analysis.query(text, read.finished, lambda outcome: self._on_found(read, outcome), self._show_stage)
        self._refresh()

    def _on_found(self, read: Read, outcome: Found | Failed) -> None:
        if isinstance(outcome, Failed):
            self._message = outcome.sentence
        elif read is self._read:  # an added scene may have brought another volume
            try:
                self._findings.show_text(read.study, outcome)
            except Exception as error:
                self._message = sentence_for(error)
        self._refresh()

    def _on_cancel(self) -> None:
        self._analysis.cancel()
        self._message = _("Cancelled. Nothing was changed.")
        self._refresh()

    # What the user sees

    def _show_result(self) -> None:
        """Show the scene's result for the chosen volume, or why it is withheld, or the empty state."""
        volume = self._ui.volumeSelector.currentNode() if self._parameters is not None else None
        self._volume_id = volume.GetID() if volume is not None else ""
        if self._read is not None and self._read.volume is not volume:
            self._read = None
        self._findings.show(self._parameters, volume, self._read.withheld if self._read is not None else None)
        self._similar.show(volume, self._read)
        self._refresh()

    def _refresh(self) -> None:
        """Enable what can be used now, and say what is going on or what comes next."""
        ui, running, result = self._ui, self._analysis.running, self._findings.result
        volume = ui.volumeSelector.currentNode() if self._parameters is not None else None
        self._images.show(volume, self._keys)
        obstacle = status.obstacle(self._missing, ui.volumeSelector.currentNode(), self._folder(), self._keys)
        ui.installButton.visible = bool(self._missing)
        ui.installButton.enabled = not running
        ui.analyzeButton.enabled = not running and not obstacle
        ui.analyzeButton.toolTip = obstacle or _("Read the volume with the model.")
        ui.volumeSelector.enabled = ui.bundlePathLineEdit.enabled = ui.imagesTable.enabled = not running
        ui.cancelButton.enabled = running
        ui.progressBar.visible = running
        text_obstacle = status.text_obstacle(result, self._read)
        ui.overruleButton.enabled = not running
        ui.textLineEdit.enabled = ui.textButton.enabled = not running and not text_obstacle
        ui.textLineEdit.toolTip = ui.textButton.toolTip = text_obstacle or _(
            "Lay over the views where this volume resembles the text. The text is not saved with the scene."
        )
        if not running:
            ui.statusLabel.text = sentence_case(self._message or obstacle or status.ready(result, self._read))

    def _show_stage(self, stage: str) -> None:
        self._ui.statusLabel.text = _("{stage}. The viewer can be used meanwhile.").format(stage=stage)

    def _folder(self) -> Path | None:
        text = self._ui.bundlePathLineEdit.currentPath.strip()
        return Path(text) if text else None
