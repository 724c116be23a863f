"""The section "Similar cases": past cases that resemble the study at hand, and adding it to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from greenrfm.errors import UserError
from GreenRFMLib import cases
from GreenRFMLib.analysis import Analysis, Done, Failed
from GreenRFMLib.cases import SimilarCase
from GreenRFMLib.panels.status import Read
from GreenRFMLib.panels.words import sentence_case
from GreenRFMLib.requirements import Requirements, names

LIBRARY_SETTING = "GreenRFM/Library"


class SimilarPanel:
    """Connects the widgets of Similar.ui with a case library; of the scene it only reads.

    What it shows of patients, and what the user types, is here and in the library's folder alone: it goes with the
    volume.
    """

    def __init__(self, ui: Any, work: Analysis, requirements: Requirements) -> None:
        """Set up the widgets `ui`; `work` is this panel's own, nothing is opened or installed."""
        self._ui, self._work, self._requirements = ui, work, requirements
        self._missing = requirements.missing()
        self._volume: Any = None
        self._read: Read | None = None
        self._hits: tuple[SimilarCase, ...] = ()
        self._message = self._add_message = ""
        _prepare(ui.casesTable)
        ui.libraryPathLineEdit.currentPath = slicer.util.settingsValue(LIBRARY_SETTING, "", str)
        ui.libraryPathLineEdit.connect("currentPathChanged(QString)", self._on_library)
        ui.installCasesButton.connect("clicked(bool)", self._on_install)
        ui.findButton.connect("clicked(bool)", self._on_find)
        ui.addButton.connect("clicked(bool)", self._on_add)
        ui.casesTable.connect("itemSelectionChanged()", self._show_case)
        ui.studyLineEdit.connect("textChanged(QString)", self._on_id)
        ui.patientLineEdit.connect("textChanged(QString)", self._on_id)
        self._show_hits(())

    def show(self, volume: Any, read: Read | None) -> None:
        """Work with the chosen `volume` and its last reading, if there is one; None while there is no scene."""
        ui = self._ui
        self._missing = self._requirements.missing()
        if volume is not self._volume:
            ui.studyLineEdit.clear()
            ui.patientLineEdit.clear()
            ui.reportTextEdit.clear()
        if volume is not self._volume or read is not self._read:
            self._message = self._add_message = ""
            self._hits = ()
        self._volume, self._read = volume, read
        identity = cases.identity_of(volume)
        for edit, text in ((ui.studyLineEdit, identity.study_id), (ui.patientLineEdit, identity.patient_id)):
            if not edit.text:
                edit.text = text
        self._show_hits(self._hits)

    def close(self) -> None:
        """Wait a moment for what is being written."""
        self._work.close()

    # What the user does

    def _on_library(self, path: str) -> None:
        self._message = self._add_message = ""
        self._show_hits(())

    def _on_id(self, text: str) -> None:
        self._add_message = ""
        self._refresh()

    def _on_install(self) -> None:
        try:
            self._requirements.install()
            self._message = ""
        except UserError as error:
            self._message = str(error)
        self._missing = self._requirements.missing()
        self._refresh()

    def _on_find(self) -> None:
        folder, read, patient = self._folder(), self._read, _text(self._ui.patientLineEdit)
        if folder is None or read is None or self._work.running:
            return
        self._message = ""
        self._show_hits(())
        reading = read.finished.reading
        self._begin(
            lambda: cases.find(folder, reading, patient),
            _("Looking for similar cases"),
            lambda outcome: self._on_found(read, folder, patient, outcome),
        )

    def _on_found(self, read: Read, folder: Path, patient: str, outcome: Done | Failed) -> None:
        # Another volume, reading or library may have been chosen meanwhile: then nobody asks for these any more.
        if read is self._read and folder == self._folder():
            if isinstance(outcome, Failed):
                self._message = outcome.sentence
            else:
                self._message = _found(len(outcome.value), bool(patient))
                self._hits = outcome.value
        self._show_hits(self._hits)

    def _on_add(self) -> None:
        folder, read = self._folder(), self._read
        if folder is None or read is None or self._work.running or self._add_obstacle():
            return
        self._add_message = ""
        if not read.study.unchanged:
            self._add_message = _("The volume was changed or moved since it was read. Analyze it again.")
            self._refresh()
            return
        identity = replace(
            cases.identity_of(read.volume),
            study_id=_text(self._ui.studyLineEdit),
            patient_id=_text(self._ui.patientLineEdit),
        )
        report, finished = str(self._ui.reportTextEdit.plainText), read.finished
        self._begin(
            lambda: cases.add(folder, read.study, finished.reading, finished.preprocessing, identity, report),
            _("Adding the study"),
            lambda outcome: self._on_added(read, outcome),
        )

    def _on_added(self, read: Read, outcome: Done | Failed) -> None:
        sentence = outcome.sentence if isinstance(outcome, Failed) else _added(outcome.value)
        if read.volume is not self._volume:
            sentence = _("Of the volume before: {sentence}").format(sentence=sentence)
        self._add_message = sentence
        self._refresh()

    def _begin(self, work: Callable[[], Any], stage: str, when_done: Callable[[Any], None]) -> None:
        qt.QSettings().setValue(LIBRARY_SETTING, str(self._folder()))
        self._ui.libraryPathLineEdit.addCurrentPathToHistory()
        self._work.do(work, stage, when_done, self._show_stage)
        self._refresh()

    # What the user sees

    def _show_hits(self, hits: tuple[SimilarCase, ...]) -> None:
        """List the hits and select the first."""
        ui, self._hits = self._ui, hits
        table = ui.casesTable
        table.clearContents()
        table.setRowCount(len(hits))
        for row, hit in enumerate(hits):
            for column, text in enumerate((f"{hit.similarity:.3f}", hit.study_id, hit.study_date, _findings(hit))):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                table.setItem(row, column, item)
        table.resizeRowsToContents()
        if hits:
            table.selectRow(0)
        for widget in (table, ui.caseImageLabel, ui.caseReportTextEdit):
            widget.visible = bool(hits)
        self._show_case()
        self._refresh()

    def _show_case(self) -> None:
        """Show report and picture of the selected hit."""
        ui = self._ui
        items = ui.casesTable.selectedItems()
        row = items[0].row() if items else -1
        if not 0 <= row < len(self._hits):
            ui.caseReportTextEdit.plainText = ""
            ui.caseImageLabel.clear()
            return
        hit = self._hits[row]
        ui.caseReportTextEdit.plainText = hit.report or _("No report is kept with this case.")
        if hit.thumbnail is not None:
            ui.caseImageLabel.setPixmap(qt.QPixmap(str(hit.thumbnail)))
        else:
            ui.caseImageLabel.clear()

    def _refresh(self) -> None:
        """Enable what can be used now, and say what is going on or what comes next."""
        ui, running = self._ui, self._work.running
        obstacle, add_obstacle = self._obstacle(), self._add_obstacle()
        ui.installCasesButton.visible = bool(self._missing)
        ui.installCasesButton.enabled = not running
        ui.libraryPathLineEdit.enabled = not running
        ui.findButton.enabled = not running and not obstacle
        ui.findButton.toolTip = obstacle or _("Find the past cases that are most similar to this volume.")
        ui.addButton.enabled = not running and not add_obstacle
        ui.addButton.toolTip = add_obstacle or _("Keep this study, its report and its ids in the library's folder.")
        ui.libraryProgressBar.visible = running
        notice = self._read.finished.reading.notice if self._read is not None else ""
        ui.similarNoticeLabel.text = notice or _("Not for diagnostic use.")
        if not running:
            ui.similarStatusLabel.text = sentence_case(self._message or obstacle)
        # What stands against both is said once, above.
        ui.addStatusLabel.text = sentence_case(self._add_message or ("" if obstacle else add_obstacle))

    def _show_stage(self, stage: str) -> None:
        self._ui.similarStatusLabel.text = _("{stage}. The viewer can be used meanwhile.").format(stage=stage)

    def _obstacle(self) -> str:
        """Return what stands against using a library, as a sentence, or ""."""
        if self._missing:
            return _("Case libraries need {names}: press Install.").format(names=names(self._missing))
        if self._read is None:
            return _("Analyze a volume first; what cases are compared with is not saved with a scene.")
        if self._folder() is None:
            return _("Choose the folder of a case library, or an empty folder for a new one.")
        return ""

    def _add_obstacle(self) -> str:
        """Return what stands against adding the study, as a sentence, or ""."""
        obstacle = self._obstacle()
        if obstacle or self._read is None:
            return obstacle
        if self._read.withheld is not None:
            return _("The scores of this reading are withheld, so it is not added unless you show them anyway.")
        if not _text(self._ui.studyLineEdit) or not _text(self._ui.patientLineEdit):
            return _("To add this study, give its id and the patient's.")
        return ""

    def _folder(self) -> Path | None:
        text = str(self._ui.libraryPathLineEdit.currentPath).strip()
        return Path(text) if text else None


def _prepare(table: Any) -> None:
    """Set up an empty table; done here because .ui files cannot say it in a way that all Qt versions load."""
    table.setColumnCount(4)
    table.setHorizontalHeaderLabels([_("Similarity"), _("Study"), _("Date"), _("Findings")])
    header = table.horizontalHeader()
    for column in (0, 2):
        header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
    header.setSectionResizeMode(1, qt.QHeaderView.Interactive)
    header.setSectionResizeMode(3, qt.QHeaderView.Stretch)
    table.verticalHeader().hide()


def _text(edit: Any) -> str:
    return str(edit.text).strip()


def _findings(hit: SimilarCase) -> str:
    """Return which findings a case shares with the study at hand, a line for each kind."""
    if not hit.compared:
        return _("not compared")
    kinds = ((_("shared"), hit.shared), (_("only here"), hit.only_here), (_("only there"), hit.only_there))
    return "\n".join(f"{kind}: {', '.join(found)}" for kind, found in kinds if found) or _("none in either")


def _found(count: int, patient_known: bool) -> str:
    if not count:
        return _("No case was found: the library is empty, or holds this patient's alone.")
    if patient_known:
        return _("{count} cases of other patients, the most similar first.").format(count=count)
    sentence = _("{count} cases, the most similar first. No patient id is given: some may be of this patient.")
    return sentence.format(count=count)


def _added(outcome: cases.Added) -> str:
    what = _("Replaced") if outcome.replaced else _("Added")
    sentence = _("{what}. The library holds {count}; the report stays in that folder.")
    return sentence.format(what=what, count=outcome.count)
