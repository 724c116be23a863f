"""The section "Similar cases": adding the study at hand to a case library, and finding the past ones like it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analyze_panel import Hand, panel, responsive, scan, tries_the_gap_again

from greenrfm.bundle import Bundle
from greenrfm.findings import State
from greenrfm.library import Case, CaseLibrary
from make_tiny_bundle import make_tiny_bundle
from slicer_harness.environment import packaging
from slicer_harness.events import click, click_cell, process_events, type_text, wait_until

PATIENT, STUDY, REPORT = "PAT-4711", "ACC-90210", "Zystennieren beidseits.\nKein Erguss."


class Librarian:
    """Uses the section as a person does."""

    def __init__(self, hand: Hand) -> None:
        self.hand, self.ui = hand, hand.module.widget.similar_ui
        click(self.ui.similarCollapsibleButton)

    def choose(self, folder: Path) -> None:
        self.ui.libraryPathLineEdit.currentPath = str(folder)
        process_events()

    def name(self, study: str, patient: str, report: str = REPORT) -> None:
        type_text(self.ui.studyLineEdit, study)
        type_text(self.ui.patientLineEdit, patient)
        self.ui.reportTextEdit.plainText = report

    def add(self) -> str:
        click(self.ui.addButton)
        self.wait()
        return self.add_status

    def find(self) -> str:
        click(self.ui.findButton)
        self.wait()
        return self.status

    def wait(self) -> None:
        wait_until(lambda: not self.ui.libraryProgressBar.visible, 30)

    @property
    def status(self) -> str:
        return str(self.ui.similarStatusLabel.text)

    @property
    def add_status(self) -> str:
        return str(self.ui.addStatusLabel.text)

    @property
    def rows(self) -> list[list[str]]:
        table = self.ui.casesTable
        return [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount)]


@pytest.fixture
def librarian(slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path) -> Librarian:
    """Return somebody who has analyzed a scan and chosen an empty folder."""
    one = Librarian(hand)
    hand.choose(scan(slicer), bundle.folder)
    hand.analyze()
    (tmp_path / "past").mkdir()
    one.choose(tmp_path / "past")
    return one


def made_library(folder: Path, bundle: Bundle, patients: tuple[str, ...]) -> None:
    """Make a library of one study for each patient, the last one the most like anything of large latent."""
    keys = bundle.findings.keys
    latents = np.random.default_rng(1).normal(size=(len(patients), bundle.latent_size)).astype(np.float32)
    states = {keys[0]: State.PRESENT, keys[1]: State.ABSENT}
    with CaseLibrary.create(folder, bundle_hash=bundle.hash, dimension=bundle.latent_size, keys=keys) as library:
        for number, patient in enumerate(patients):
            case = Case(f"study {number}", patient, states, f"Report {number}.", b"", "CT", "2024-05-06", "")
            library.add(case, latents[number])


def opened(folder: Path) -> dict[str, Case]:
    with CaseLibrary.open(folder) as library:
        return {case.study_id: case for case, _ in library.items()}


def file_with_dicom(slicer: Any, node: Any) -> None:
    """File a volume as a DICOM import does."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "somebody")
    hierarchy.SetItemAttribute(patient, "DICOM.PatientID", PATIENT)
    study = hierarchy.CreateStudyItem(patient, "a day")
    hierarchy.SetItemUID(study, "DICOM", "1.2.3")
    hierarchy.SetItemAttribute(study, "DICOM.StudyDate", "20240506")
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(study, node)
    hierarchy.SetItemParent(item, study)
    hierarchy.SetItemUID(item, "DICOM", "1.2.3.4")
    hierarchy.SetItemAttribute(item, "DICOM.Modality", "CT")


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[None]:
    """Hold a library open in another process."""
    code = "import sys; from greenrfm.library import CaseLibrary as L; l = L.open(sys.argv[1]); print(1); input()"
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
        yield
        child.communicate("\n")


@tries_the_gap_again
def test_a_study_is_added_to_an_empty_folder_and_replaced_the_second_time(
    librarian: Librarian, bundle: Bundle, tmp_path: Path
) -> None:
    assert "give its id and the patient's" in librarian.add_status
    assert not librarian.ui.addButton.enabled
    librarian.name(STUDY, PATIENT)
    with responsive():
        assert librarian.add() == "Added. The library holds 1; the report stays in that folder."
    case = opened(tmp_path / "past")[STUDY]
    assert (case.patient_id, case.report, case.states) == (PATIENT, REPORT, {})
    assert case.thumbnail.startswith(b"\x89PNG")
    with CaseLibrary.open(tmp_path / "past", bundle.hash) as library:  # this bundle's, and closed by the panel
        assert library.info()["keys"] == list(bundle.findings.keys)
    librarian.ui.reportTextEdit.plainText = "Amended."
    assert librarian.add().startswith("Replaced. The library holds 1;")
    assert opened(tmp_path / "past")[STUDY].report == "Amended."


def test_ids_day_and_series_come_from_dicom(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path, librarian: Librarian
) -> None:
    node = scan(slicer, "of DICOM")
    file_with_dicom(slicer, node)
    librarian.name("typed for the other volume", "other")
    hand.choose(node, bundle.folder)
    assert (librarian.ui.studyLineEdit.text, librarian.ui.patientLineEdit.text) == ("1.2.3", PATIENT)
    assert librarian.ui.reportTextEdit.plainText == ""
    hand.analyze()
    librarian.add()
    case = opened(tmp_path / "past")["1.2.3"]
    assert (case.study_date, case.series_uid, case.modality) == ("2024-05-06", "1.2.3.4", "CT")


def test_similar_cases_are_listed_with_what_they_share_report_and_picture(
    librarian: Librarian, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    librarian.name(STUDY, PATIENT)
    librarian.add()
    type_text(librarian.ui.patientLineEdit, "another")
    assert librarian.find() == "1 cases of other patients, the most similar first."
    ((similarity, study, day, findings),) = librarian.rows
    assert (study, day, findings) == (STUDY, "", "not compared")  # no labels, so nothing to compare with
    assert float(similarity) > 0
    assert librarian.ui.caseReportTextEdit.plainText == REPORT
    assert not librarian.ui.caseImageLabel.pixmap.isNull()
    assert "Not for diagnostic use" in str(librarian.ui.similarNoticeLabel.text)
    assert librarian.ui.similarNoticeLabel.visible

    made_library(tmp_path / "made", bundle, ("a", "b", "c"))
    librarian.choose(tmp_path / "made")
    assert librarian.rows == []
    librarian.find()
    rows = librarian.rows
    assert len(rows) == 3
    assert [float(row[0]) for row in rows] == sorted((float(row[0]) for row in rows), reverse=True)
    called = {name for name, _, call in hand.rows if call == "present"}
    assert called
    text = rows[0][3]
    for name in called:
        assert (f"shared: {name}" if name == "Lung nodule" else "only here: ") in text
    click_cell(librarian.ui.casesTable, 2, 1)
    assert librarian.ui.caseReportTextEdit.plainText == f"Report {rows[2][1][-1]}."
    assert rows[2][2] == "2024-05-06"


def test_the_same_patient_is_never_among_them(librarian: Librarian, bundle: Bundle, tmp_path: Path) -> None:
    made_library(tmp_path / "made", bundle, (PATIENT, "b", PATIENT))
    librarian.choose(tmp_path / "made")
    assert "some may be of this patient" in librarian.find()
    assert len(librarian.rows) == 3
    type_text(librarian.ui.patientLineEdit, f" {PATIENT} ")
    librarian.find()
    assert [row[1] for row in librarian.rows] == ["study 1"]


def test_no_more_than_ten_are_listed(librarian: Librarian, bundle: Bundle, tmp_path: Path) -> None:
    made_library(tmp_path / "made", bundle, tuple("abcdefghijkl"))
    librarian.choose(tmp_path / "made")
    librarian.find()
    assert len(librarian.rows) == 10


def test_a_library_of_another_bundle_is_refused_for_both(librarian: Librarian, tmp_path: Path) -> None:
    other = make_tiny_bundle(tmp_path / "other", "demonstration")
    made_library(tmp_path / "made", other, ("a",))
    librarian.choose(tmp_path / "made")
    librarian.name(STUDY, PATIENT)
    for sentence in (librarian.find(), librarian.add()):
        assert "was made with another bundle" in sentence
        assert sentence.endswith("analyze with the bundle it was made with, or choose another folder.")
    assert list(opened(tmp_path / "made")) == ["study 0"]


def test_a_library_that_another_process_holds_is_refused_until_it_lets_go(
    librarian: Librarian, bundle: Bundle, tmp_path: Path
) -> None:
    made_library(tmp_path / "made", bundle, ("a",))
    librarian.choose(tmp_path / "made")
    librarian.name(STUDY, PATIENT)
    with held_elsewhere(tmp_path / "made"):
        for sentence in (librarian.find(), librarian.add()):
            assert "is open elsewhere" in sentence
            assert sentence.endswith("close it in the other window or program and try again.")
    assert "1 cases" in librarian.find()
    assert librarian.add().startswith("Added. The library holds 2;")


def test_a_folder_that_is_none_or_no_library_is_a_sentence(librarian: Librarian, tmp_path: Path) -> None:
    librarian.name(STUDY, PATIENT)
    assert librarian.find().startswith("There is no case library in this folder.")
    (tmp_path / "past" / "notes.txt").write_text("mine", encoding="utf-8")
    assert "is not empty; choose a new folder" in librarian.add()
    librarian.choose(tmp_path / "nowhere")
    assert librarian.add() == "There is no such folder. Make it first, or choose another one."
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "past" / "library.json").write_text("{", encoding="utf-8")
    librarian.choose(tmp_path / "past")
    assert "is no case library" in librarian.find()


def test_another_patients_study_of_the_same_id_is_not_replaced(librarian: Librarian, tmp_path: Path) -> None:
    librarian.name(STUDY, "somebody else")
    librarian.add()
    librarian.name(STUDY, PATIENT)
    assert "from another patient" in librarian.add()
    assert opened(tmp_path / "past")[STUDY].patient_id == "somebody else"


def test_withheld_scores_are_searched_without_findings_and_not_added_unless_overruled(
    slicer: Any, librarian: Librarian, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    node = scan(slicer, "MR")
    file_with_dicom(slicer, node)
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(node), "DICOM.Modality", "MR")
    hand.choose(node, bundle.folder)
    hand.analyze()
    assert "withheld" in librarian.add_status
    assert not librarian.ui.addButton.enabled
    made_library(tmp_path / "made", bundle, ("a",))
    librarian.choose(tmp_path / "made")
    librarian.find()
    assert [row[3] for row in librarian.rows] == ["not compared"]
    click(hand.ui.overruleButton)
    assert librarian.rows == []
    librarian.find()
    assert [row[3] for row in librarian.rows] != ["not compared"]
    assert librarian.add().startswith("Added.")


def test_nothing_can_be_found_or_added_before_something_was_analyzed(
    slicer: Any, hand: Hand, bundle: Bundle, tmp_path: Path
) -> None:
    librarian = Librarian(hand)
    hand.choose(scan(slicer), bundle.folder)
    librarian.choose(tmp_path)
    assert librarian.status.startswith("Analyze a volume first")
    assert not librarian.ui.findButton.enabled
    assert not librarian.ui.addButton.enabled


def test_a_volume_that_was_changed_since_is_not_added(slicer: Any, librarian: Librarian, tmp_path: Path) -> None:
    librarian.name(STUDY, PATIENT)
    node = slicer.mrmlScene.GetFirstNodeByName("scan")
    slicer.util.arrayFromVolume(node)[:] += 1
    slicer.util.arrayFromVolumeModified(node)
    click(librarian.ui.addButton)
    assert "was changed or moved since" in librarian.add_status
    assert list((tmp_path / "past").iterdir()) == []


def test_another_volume_or_a_closed_scene_takes_all_of_the_former_one_away(
    slicer: Any, librarian: Librarian, hand: Hand, bundle: Bundle
) -> None:
    librarian.name(STUDY, PATIENT)
    librarian.add()
    type_text(librarian.ui.patientLineEdit, "another")
    librarian.find()
    slicer.mrmlScene.Clear(0)
    process_events()
    ui = librarian.ui
    assert librarian.rows == []
    shown = (ui.studyLineEdit.text, ui.patientLineEdit.text, ui.reportTextEdit.plainText)
    assert (*shown, ui.caseReportTextEdit.plainText, librarian.add_status) == ("", "", "", "", "")


def test_neither_report_nor_patient_id_gets_into_scene_settings_log_or_status(
    slicer: Any, qt: Any, librarian: Librarian, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    librarian.name(STUDY, PATIENT)
    with caplog.at_level(logging.DEBUG):
        said = [librarian.add(), librarian.add()]
        type_text(librarian.ui.patientLineEdit, "another")
        said.append(librarian.find())
        assert librarian.ui.caseReportTextEdit.plainText == REPORT
        type_text(librarian.ui.patientLineEdit, PATIENT)
        said.append(librarian.find())
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    with zipfile.ZipFile(tmp_path / "scene.mrb") as saved:
        content = b"\n".join(saved.read(name) for name in saved.namelist())
    assert b"vtkMRML" in content or b"<MRML" in content
    settings = qt.QSettings()
    kept = json.dumps([str(settings.value(key)) for key in settings.allKeys()])
    assert str(tmp_path / "past") in kept
    for secret in (PATIENT, STUDY, "Zystennieren", "Kein Erguss"):
        assert secret.encode() not in content
        assert secret not in kept + caplog.text + "".join(said)


def test_the_folder_is_remembered(librarian: Librarian, tmp_path: Path) -> None:
    librarian.find()
    librarian.hand.module.close()
    with panel() as other:
        assert other.module.widget.similar_ui.libraryPathLineEdit.currentPath == str(tmp_path / "past")


def test_without_qdrant_reading_works_and_the_section_offers_to_install_it(
    slicer: Any, bundle: Bundle, dialogs: Any, tmp_path: Path
) -> None:
    packaging.hide("qdrant-edge-py")
    with panel() as hand:
        librarian = Librarian(hand)
        hand.choose(scan(slicer), bundle.folder)
        hand.analyze()
        assert len(hand.rows) == 3
        assert librarian.status == "Case libraries need qdrant-edge-py: press Install."
        packaging.answers.append("installs")
        dialogs.answer("slicer.util.confirmOkCancelDisplay", True)
        click(librarian.ui.installCasesButton)
        assert packaging.installed == ["qdrant-edge-py>=0.9"]
        assert not librarian.ui.installCasesButton.visible
