"""The list of a study's images: which volumes a bundle of several planes or sequences reads, and each as what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from GreenRFMLib import study
from GreenRFMLib.panels.quiet import Quiet
from GreenRFMLib.study import ALONE, Key


class ImagesPanel:
    """A row for each volume that may be read, the chosen one first; hidden for a bundle that reads one volume."""

    def __init__(self, ui: Any, quietly: Quiet, when_chosen: Callable[[], None]) -> None:
        """Set up the widgets `ui`; `when_chosen` is called after the user said what a volume is."""
        self._ui, self._quietly, self._when_chosen = ui, quietly, when_chosen
        self._volume: Any = None
        self._keys: tuple[Key, ...] = ()
        # What the rows were built of: a list that is open must not be built anew under the user's hand.
        self._rows: list[tuple[str, str, tuple[Key, ...]]] = []
        ui.imagesTable.setColumnCount(2)
        ui.imagesTable.setHorizontalHeaderLabels([_("Volume"), _("Read as")])
        ui.imagesTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        ui.imagesTable.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        ui.imagesTable.verticalHeader().hide()

    def show(self, volume: Any, keys: tuple[Key, ...]) -> None:
        """Show what can be read with the chosen `volume` by a bundle that reads `keys`."""
        self._volume, self._keys = volume, keys
        shown = bool(keys) and volume is not None and not study.problem_with(volume)
        self._ui.imagesLabel.visible = self._ui.imagesTable.visible = shown
        if shown:
            self._quietly(study.settle, volume, keys)
        nodes = study.candidates(volume) if shown else []
        rows = [(node.GetID(), node.GetName() or "", self._choices(node)) for node in nodes]
        if rows != self._rows:
            self._rows = rows
            self._build()
        for row, node in enumerate(nodes):
            choice = self._ui.imagesTable.cellWidget(row, 1)
            choices = (ALONE, *rows[row][2])
            choice.setCurrentIndex(choices.index(study.read_as(node)))
            # First what the chosen one is: until then it is no study of which the others could be.
            choice.enabled = len(choices) > 1 and (node is volume or study.read_as(volume) != ALONE)

    def _choices(self, node: Any) -> tuple[Key, ...]:
        """Return what a volume can be said to be: nothing that would be taken from the chosen one."""
        fitting = study.keys_for(node, self._keys)
        chosen = study.read_as(self._volume)
        return fitting if node is self._volume else tuple(key for key in fitting if key != chosen)

    def _build(self) -> None:
        table = self._ui.imagesTable
        table.clearContents()
        table.setRowCount(len(self._rows))
        for row, (node_id, name, keys) in enumerate(self._rows):
            item = qt.QTableWidgetItem(name)
            item.setToolTip(name)
            table.setItem(row, 0, item)
            choice = qt.QComboBox()
            choice.addItem(_("not read") if row else _("choose"))
            for sequence, plane in keys:
                choice.addItem(f"{sequence} {plane}")
            choice.setToolTip(
                _("The sequence and plane that this volume is.")
                if keys
                else _("The model reads no volume whose slices lie in this plane.")
            )
            choice.connect(
                "activated(int)", lambda index, node_id=node_id, keys=keys: self._choose(node_id, (ALONE, *keys)[index])
            )
            table.setCellWidget(row, 1, choice)

    def _choose(self, node_id: str, key: Key) -> None:
        node = slicer.mrmlScene.GetNodeByID(node_id)
        if node is None or self._volume is None:
            return
        for other in study.candidates(self._volume):
            if key != ALONE and other is not node and study.read_as(other) == key:
                self._quietly(study.set_read_as, other, ALONE)
        self._quietly(study.set_read_as, node, key)
        self._when_chosen()
