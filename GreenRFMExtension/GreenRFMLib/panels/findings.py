"""The lower half of the panel: one result's notice, warnings and scores, and a heat map over the slice views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from GreenRFMLib import overlay, record, results, text_map
from GreenRFMLib.heat_map import Peak
from GreenRFMLib.panels import findings_table
from GreenRFMLib.panels.quiet import Quiet
from GreenRFMLib.panels.words import remark, sentence_case
from GreenRFMLib.parameters import Parameters
from GreenRFMLib.scene import Voxels

if TYPE_CHECKING:
    from greenrfm.reading import HeatMaps, Reading


class FindingsPanel(VTKObservationMixin):
    """Shows `result`, which lies in the scene; or, of a reading whose scores are withheld, the reason alone."""

    def __init__(self, ui: Any, quietly: Quiet) -> None:
        """Set up the widgets `ui`."""
        VTKObservationMixin.__init__(self)
        self._ui, self._quietly = ui, quietly
        self._parameters: Parameters | None = None
        self.result: record.Result | None = None
        self._text: text_map.TextMap | None = None
        self._map_belongs = True
        findings_table.prepare(ui.findingsTable)
        ui.findingsTable.connect("itemSelectionChanged()", self._on_finding)
        ui.heatMapCheckBox.connect("toggled(bool)", self._on_heat_map)
        ui.opacitySlider.connect("valueChanged(double)", self._on_opacity)
        ui.hideTextButton.connect("clicked(bool)", self._on_hide_text)

    def show(self, parameters: Parameters | None, volume: Any, withheld: Reading | None) -> None:
        """Show the scene's result for `volume`, or the empty state, or why the scores of `withheld` are not shown."""
        former, self._parameters = self.result, parameters
        self.result = results.find(volume) if withheld is None else None
        if former is not None and (self.result is None or self.result.table is not former.table):
            self._drop_text()
        self._follow(volume if self.result is not None else None)
        if former is not None and (self.result is None or former.heat_map is not self.result.heat_map):
            overlay.hide(former.heat_map)
        self._quietly(self._fill, withheld)
        self._show_map(jump=False)

    def show_text(self, voxels: Voxels, text: str, heatmaps: HeatMaps) -> None:
        """Lay the heat map of a text query over the views, in place of a finding's."""
        if self.result is None:
            return
        self._drop_text()
        self._text = self._quietly(text_map.put, self.result.volume, voxels, text, heatmaps)
        self._show_map(jump=True)

    def pause(self) -> None:
        """Take nothing for a choice of the user until `show`."""
        self._parameters = None

    def close(self) -> None:
        """Let go of the scene; the text's map leaves it."""
        self.removeObservers()
        self._drop_text()

    @property
    def lost(self) -> bool:
        """Return whether somebody removed a map of the result that is shown."""
        return self.result is not None and (
            self.result.heat_map is None or (self._text is not None and not self._text.in_scene)
        )

    # What the user does

    def _on_finding(self) -> None:
        if self._quietly.active or self._parameters is None:
            return
        self._parameters.finding = findings_table.selected_key(self._ui.findingsTable)
        self._drop_text()
        self._show_map(jump=True)

    def _on_heat_map(self, shown: bool) -> None:
        if self._quietly.active or self._parameters is None:
            return
        self._parameters.heat_map = shown
        self._drop_text()
        self._show_map(jump=True)

    def _on_hide_text(self) -> None:
        self._drop_text()
        self._show_map(jump=False)

    def _on_opacity(self, value: float) -> None:
        if self._quietly.active or self._parameters is None:
            return
        self._parameters.opacity = value
        node = self._text.node if self._text is not None else self.result.heat_map if self.result is not None else None
        if node is not None:
            overlay.fade(node, value)

    def _on_volume_modified(self, caller: Any, event: Any) -> None:
        if self._quietly.active or self.result is None or self._parameters is None:
            return
        # Only what is needed while somebody drags a transform; the map follows it by itself.
        if (self._text is not None or self._parameters.heat_map) and self._follows() != self._map_belongs:
            self._show_map(jump=False)

    # What the user sees

    def _follow(self, volume: Any) -> None:
        """Watch the volume whose heat map is shown: somebody may move it, or change its voxels."""
        self.removeObservers()
        if volume is not None:
            changes = (vtk.vtkCommand.ModifiedEvent, volume.TransformModifiedEvent, volume.ImageDataModifiedEvent)
            for event in changes:
                self.addObserver(volume, event, self._on_volume_modified)

    def _follows(self) -> bool:
        assert self.result is not None
        return results.follow_volume(self.result, self._text.node if self._text is not None else None)

    def _fill(self, withheld: Reading | None) -> None:
        ui, result = self._ui, self.result
        scores = results.ranked(result.scores) if result else []
        findings_table.fill(ui.findingsTable, scores)
        keys = [score.key for score in scores]
        if self._parameters is not None and keys:
            if self._parameters.finding not in keys:
                self._parameters.finding = keys[0]
            findings_table.select(ui.findingsTable, self._parameters.finding)
        notice = withheld.notice if withheld is not None else result.notice if result is not None else ""
        ui.noticeLabel.text = notice or _("Not for diagnostic use.")
        ui.withheldLabel.text = _why(withheld) if withheld is not None else ""
        ui.withheldLabel.visible = ui.overruleButton.visible = withheld is not None
        ui.warningsLabel.text = "\n".join(remark(one) for one in self._remarks(withheld))
        ui.warningsLabel.visible = bool(ui.warningsLabel.text)
        for widget in (ui.findingsTable, ui.heatMapCheckBox, ui.opacityLabel, ui.opacitySlider, ui.cellSizeLabel):
            widget.visible = withheld is None
        ui.textLabel.visible = ui.textLineEdit.visible = ui.textButton.visible = ui.hideTextButton.visible = (
            withheld is None
        )
        ui.heatMapCheckBox.enabled = ui.opacitySlider.enabled = ui.findingsTable.enabled = bool(keys)

    def _remarks(self, withheld: Reading | None) -> tuple[record.Remark, ...]:
        """Return the warnings to show; the reasons for withholding stand by themselves while they do."""
        if withheld is not None:
            return tuple(one for one in record.remarks_of(withheld) if one.level != "withhold")
        return self.result.remarks if self.result is not None else ()

    def _drop_text(self) -> None:
        shown, self._text = self._text, None
        if shown is not None:
            overlay.hide(shown.node)
            self._quietly(text_map.remove, shown)

    def _show_map(self, jump: bool) -> None:
        """Lay the text's map, or else the selected finding's if it is wanted, over the views."""
        ui, result, parameters = self._ui, self.result, self._parameters
        if self._text is not None and not self._text.in_scene:
            self._drop_text()
        ui.cellSizeLabel.text = ""
        ui.hideTextButton.enabled = self._text is not None
        if result is None or parameters is None:
            return
        if self._text is None and not parameters.heat_map:
            overlay.hide(result.heat_map)
            return
        self._map_belongs = self._follows()
        if not self._map_belongs:
            overlay.hide(self._text.node if self._text is not None else result.heat_map)
            ui.cellSizeLabel.text = _("The volume was moved or changed since; analyze it again.")
            return
        if self._text is not None:
            node, peak, about = self._text.node, self._text.peak, _about_text(self._text.text)
        else:
            found = results.show_finding(result, parameters.finding)
            if found is None:
                overlay.hide(result.heat_map)
                ui.cellSizeLabel.text = _("The heat maps of this result are no longer in the scene. Analyze again.")
                return
            node, peak, about = result.heat_map, found, _about_finding(found)
        overlay.show(result.volume, node, parameters.opacity)
        if jump:
            overlay.jump(peak.position)
        size = " × ".join(f"{length:.0f}" for length in result.cell_size_mm)
        sentence = _("One cell of the heat map is {size} mm: it points to a region, it does not outline anything.")
        ui.cellSizeLabel.text = "\n".join([*about[:-1], f"{sentence.format(size=size)} {about[-1]}"])


def _why(withheld: Reading) -> str:
    """Return why there are no scores, and what can be done."""
    return _("Scores and heat map are withheld: {reason}").format(reason=sentence_case(withheld.withheld))


def _about_finding(peak: Peak) -> list[str]:
    if peak.reaches:
        return [_("Colour begins half way from this finding's threshold to its highest cell.")]
    return [_("No inner cell reaches this finding's threshold, so nothing is coloured.")]


def _about_text(text: str) -> list[str]:
    return [
        _("“{text}”: text query, not a calibrated score.").format(text=text),
        _("Colour begins half way from the map's mean to its highest cell: some place is always the most similar."),
    ]
