"""The lower half of the panel: one result's notice, warnings and scores, and a heat map over the slice views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from GreenRFMLib import overlay, record, results, text_map
from GreenRFMLib.advice import in_viewer
from GreenRFMLib.analysis import Found
from GreenRFMLib.heat_map import Peak
from GreenRFMLib.panels import findings_table
from GreenRFMLib.panels.quiet import Quiet
from GreenRFMLib.panels.words import remark, sentence_case
from GreenRFMLib.parameters import Parameters
from GreenRFMLib.study import Study

if TYPE_CHECKING:
    from greenrfm.reading import Reading


class FindingsPanel(VTKObservationMixin):
    """Shows `result`, which lies in the scene; or, of a reading whose scores are withheld, the reason alone."""

    def __init__(self, ui: Any, quietly: Quiet) -> None:
        """Set up the widgets `ui`."""
        VTKObservationMixin.__init__(self)
        self._ui, self._quietly = ui, quietly
        self._parameters: Parameters | None = None
        self.result: record.Result | None = None
        self._text: text_map.TextMap | None = None
        self._found: tuple[Study, Found] | None = None  # what the text's map is made of, for every plane
        self._map_belongs = True
        findings_table.prepare(ui.findingsTable)
        ui.findingsTable.connect("itemSelectionChanged()", self._on_finding)
        ui.heatMapCheckBox.connect("toggled(bool)", self._on_heat_map)
        ui.planeComboBox.connect("activated(int)", self._on_plane)
        ui.opacitySlider.connect("valueChanged(double)", self._on_opacity)
        ui.hideTextButton.connect("clicked(bool)", self._on_hide_text)

    def show(self, parameters: Parameters | None, volume: Any, withheld: Reading | None) -> None:
        """Show the scene's result for `volume`, or the empty state, or why the scores of `withheld` are not shown."""
        former, self._parameters = self.result, parameters
        self.result = results.find(volume) if withheld is None else None
        if former is not None and (self.result is None or self.result.table is not former.table):
            self._drop_text()
        self._follow()
        kept = [one.heat_map for one in self.result.planes] if self.result is not None else []
        for heat_map in [one.heat_map for one in former.planes] if former is not None else []:
            if heat_map not in kept:
                overlay.hide(heat_map)
        self._quietly(self._fill, withheld)
        self._show_map(jump=False)

    def show_text(self, study: Study, found: Found) -> None:
        """Lay the heat map of a text query over the views, in place of a finding's."""
        if self.result is None:
            return
        self._drop_text()
        self._found = study, found
        self._put_text()
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
            any(one.heat_map is None for one in self.result.planes)
            or (self._text is not None and not self._text.in_scene)
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

    def _on_plane(self, index: int) -> None:
        if self._parameters is None or self.result is None:
            return
        self._parameters.plane = self.result.planes[index].plane
        if self._text is not None:
            self._remove_text()
            self._put_text()
        self._show_map(jump=True)

    def _on_hide_text(self) -> None:
        self._drop_text()
        self._show_map(jump=False)

    def _on_opacity(self, value: float) -> None:
        if self._quietly.active or self._parameters is None:
            return
        self._parameters.opacity = value
        node = self._text.node if self._text is not None else self._maps.heat_map if self.result is not None else None
        if node is not None:
            overlay.fade(node, value)

    def _on_volume_modified(self, caller: Any, event: Any) -> None:
        if self._quietly.active or self.result is None or self._parameters is None:
            return
        # Only what is needed while somebody drags a transform; the map follows it by itself.
        if (self._text is not None or self._parameters.heat_map) and self._follows() != self._map_belongs:
            self._show_map(jump=False)

    # What the user sees

    @property
    def _maps(self) -> record.PlaneMaps:
        """Return the maps of the chosen plane."""
        assert self.result is not None
        assert self._parameters is not None
        return self.result.of_plane(self._parameters.plane)

    def _follow(self) -> None:
        """Watch the volumes on which heat maps lie: somebody may move them, or change their voxels."""
        self.removeObservers()
        for volume in {one.volume for one in self.result.planes} - {None} if self.result is not None else ():
            changes = (vtk.vtkCommand.ModifiedEvent, volume.TransformModifiedEvent, volume.ImageDataModifiedEvent)
            for event in changes:
                self.addObserver(volume, event, self._on_volume_modified)

    def _follows(self) -> bool:
        return results.follow_volume(self._maps, self._text.node if self._text is not None else None)

    def _fill(self, withheld: Reading | None) -> None:
        ui, result = self._ui, self.result
        scores = results.ranked(result.scores) if result else []
        findings_table.fill(ui.findingsTable, scores)
        keys = [score.key for score in scores]
        if self._parameters is not None and keys:
            if self._parameters.finding not in keys:
                self._parameters.finding = keys[0]
            findings_table.select(ui.findingsTable, self._parameters.finding)
        self._fill_planes()
        notice = withheld.notice if withheld is not None else result.notice if result is not None else ""
        ui.noticeLabel.text = notice or _("Not for diagnostic use.")
        ui.withheldLabel.text = _why(withheld) if withheld is not None else ""
        ui.withheldLabel.visible = ui.overruleButton.visible = withheld is not None
        ui.warningsLabel.text = "\n".join(remark(one) for one in self._remarks(withheld))
        ui.warningsLabel.visible = bool(ui.warningsLabel.text)
        maps = (ui.heatMapCheckBox, ui.opacityLabel, ui.opacitySlider, ui.cellSizeLabel)
        for widget in (ui.findingsTable, *maps, ui.textLabel, ui.textLineEdit, ui.textButton, ui.hideTextButton):
            widget.visible = withheld is None
        ui.heatMapCheckBox.enabled = ui.opacitySlider.enabled = ui.findingsTable.enabled = bool(keys)

    def _fill_planes(self) -> None:
        """Offer the planes of the result, if there are several."""
        ui = self._ui
        planes = [one.plane for one in self.result.planes] if self.result is not None else []
        ui.planeComboBox.clear()
        ui.planeComboBox.addItems(planes)
        if planes and self._parameters is not None:
            ui.planeComboBox.setCurrentIndex(planes.index(self._maps.plane))
        ui.planeLabel.visible = ui.planeComboBox.visible = len(planes) > 1

    def _remarks(self, withheld: Reading | None) -> tuple[record.Remark, ...]:
        """Return the warnings to show; the reasons for withholding stand by themselves while they do."""
        if withheld is not None:
            return tuple(one for one in record.remarks_of(withheld) if one.level != "withhold")
        return self.result.remarks if self.result is not None else ()

    def _put_text(self) -> None:
        """Put the text's map of the chosen plane into the scene."""
        if self._found is not None:
            (study, found), plane = self._found, self._maps.plane
            image = study.of_plane(plane)
            self._text = self._quietly(text_map.put, image.node, image.voxels, found.text, found.heatmaps[plane])

    def _drop_text(self) -> None:
        self._found = None
        self._remove_text()

    def _remove_text(self) -> None:
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
            _hide_maps(result)
            return
        maps, self._map_belongs = self._maps, self._follows()
        if not self._map_belongs:
            self._hide()
            ui.cellSizeLabel.text = _("The volume was moved or changed since; analyze it again.")
            return
        if self._text is not None:
            node, peak, about = self._text.node, self._text.peak, _about_text(self._text.text)
        else:
            found = results.show_finding(result, parameters.finding, maps.plane)
            if found is None:
                self._hide()
                ui.cellSizeLabel.text = _("The heat maps of this result are no longer in the scene. Analyze again.")
                return
            node, peak, about = maps.heat_map, found, _about_finding(found)
        overlay.show(maps.volume, node, parameters.opacity)
        if jump:
            overlay.jump(peak.position)
        size = " × ".join(f"{length:.0f}" for length in maps.cell_size_mm)
        sentence = _("One cell of the heat map is {size} mm: it points to a region, it does not outline anything.")
        ui.cellSizeLabel.text = "\n".join([*about[:-1], f"{sentence.format(size=size)} {about[-1]}"])

    def _hide(self) -> None:
        """Take every map off the views, whichever plane's was shown."""
        if self._text is not None:
            overlay.hide(self._text.node)
        if self.result is not None:
            _hide_maps(self.result)


def _hide_maps(result: record.Result) -> None:
    for one in result.planes:
        overlay.hide(one.heat_map)


def _why(withheld: Reading) -> str:
    """Return why there are no scores, and what can be done."""
    return _("Scores and heat map are withheld: {reason}").format(reason=sentence_case(in_viewer(withheld.withheld)))


def _about_finding(peak: Peak) -> list[str]:
    if peak.reaches:
        return [_("Colour begins half way from this finding's threshold to its highest cell.")]
    return [_("No inner cell reaches this finding's threshold, so nothing is coloured.")]


def _about_text(text: str) -> list[str]:
    return [
        _("“{text}”: text query, not a calibrated score.").format(text=text),
        _("Colour begins half way from the map's mean to its highest cell: some place is always the most similar."),
    ]
