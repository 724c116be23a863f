"""`greenrfm read --out`: a worklist that can be killed, resumed and audited."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command_line import ROOT, Answer, Command, blocked, chest, child, make_cohort, write_csv
from dicom_files import write_dicom
from greenrfm.bundle import Bundle
from greenrfm.errors import UserError
from greenrfm.evaluation import ScoreTable
from greenrfm.reading import speed
from greenrfm.results import ResultFolder, read_audit
from greenrfm.training.half import add_half
from greenrfm.volumes import Volume, read_volume, write_volume
from make_tiny_bundle import make_tiny_bundle

HEADER = ["study_id", "patient_id", "image", "modality", "study_date", "report"]


def patients(folder: Path, studies: int) -> Path:
    """Write a cohort of this many studies, two of each patient in following years, and return its path."""
    rows = [HEADER]
    for number in range(studies):
        write_volume(chest(1 + number % 3), folder / f"v{number}.nii.gz")
        day = f"20{20 + number % 2}-03-01"
        rows.append([f"s{number}", f"p{number // 2}", f"v{number}.nii.gz", "CT", day, "Secret finding of Mrs Smith."])
    write_csv(folder / "cohort.csv", rows)
    return folder / "cohort.csv"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def audited(out: Path) -> list[str]:
    return [record["study"] for record in read_audit(out / "audit.jsonl")]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle that takes about a fifth of a second per study, so that a kill meets it at work."""
    return make_tiny_bundle(tmp_path_factory.mktemp("slow") / "slow", layers=12, rounds=2)


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    code = "from greenrfm.commands.main import main\nmain()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "train"), "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment,
    )  # fmt: skip


def wait_for(out: Path, results: int, process: subprocess.Popen[str]) -> list[str]:
    """Wait until so many results are kept and return their studies."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        kept = sorted(path.stem for path in out.glob("studies/*.json") if not path.name.startswith("."))
        if len(kept) >= results:
            return kept
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError(f"no {results} results within a minute")


def test_a_worklist_has_every_form_and_its_links_lead_somewhere(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    cohort, out = patients(tmp_path, 4), tmp_path / "out"
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out, "--json")
    assert answer.code == 0, answer.err
    assert json.loads((out / "readings.json").read_text("utf-8")) == answer.json
    assert ScoreTable.read(out / "scores.csv", bundle.findings.keys).study_ids == ("s0", "s1", "s2", "s3")
    rows = table(out / "worklist.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    urgencies = [float(row["urgency"]) for row in rows]
    assert urgencies == sorted(urgencies, reverse=True)
    for row in rows:
        assert (out / row["page"]).read_text("utf-8").count("Not for diagnostic use") == 1
        assert json.loads((out / row["reading"]).read_text("utf-8"))["study_id"] == row["study_id"]
    calls = table(out / "calls.csv")
    assert len(calls) == 4 * len(bundle.findings.keys)
    for call in calls:
        value, present, absent = (float(call[name]) for name in ("probability", "present_from", "absent_below"))
        said = "present" if value >= present else "absent" if value < absent else "indeterminate"
        assert call["call"] == said
    assert "Not for diagnostic use" in (out / "index.html").read_text("utf-8")


@pytest.mark.parametrize("kept_first", [1, 4])
def test_a_killed_worklist_goes_on_with_what_is_missing(
    greenrfm: Command, slow: Bundle, tmp_path: Path, kept_first: int
) -> None:
    cohort, out = patients(tmp_path, 7), tmp_path / "out"
    arguments = ("read", slow.folder, "--cohort", cohort, "--out", out, "--threads", "1")
    process = start(*arguments, cwd=tmp_path)
    kept = wait_for(out, kept_first, process)
    process.kill()
    process.communicate()
    kept = sorted(path.stem for path in out.glob("studies/[!.]*.json"))
    assert kept_first <= len(kept) < 7
    assert set(kept) <= set(audited(out))  # none is kept that was not recorded
    answer = greenrfm(*arguments)
    assert answer.code == 0, answer.err
    assert len(table(out / "worklist.csv")) == 7
    assert set(audited(out)) == {f"s{number}" for number in range(7)}
    assert all(audited(out).count(study) == 1 for study in kept)  # what was finished is not read again
    again = greenrfm("read", slow.folder, "--cohort", cohort, "--json", "--threads", "1")
    assert json.loads((out / "readings.json").read_text("utf-8")) == again.json


def test_ctrl_c_keeps_what_is_finished_and_lists_what_is_not(slow: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 7), tmp_path / "out"
    process = start("read", slow.folder, "--cohort", cohort, "--out", out, "--threads", "1", cwd=tmp_path)
    wait_for(out, 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err.splitlines()[-1]
    assert "Traceback" not in err
    groups = [row["group"] for row in table(out / "worklist.csv")]
    assert 2 <= groups.count("read") < 7
    assert groups.count("read") + groups.count("not read yet") == 7
    assert "Not read yet" in (out / "index.html").read_text("utf-8")


def test_a_second_run_in_the_folder_is_refused_and_the_first_finishes(slow: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 5), tmp_path / "out"
    arguments = ("read", slow.folder, "--cohort", cohort, "--out", out, "--threads", "1")
    process = start(*arguments, cwd=tmp_path)
    wait_for(out, 1, process)
    process.send_signal(signal.SIGSTOP)  # or it would be done before the second has begun
    second = child(*arguments, cwd=tmp_path)
    process.send_signal(signal.SIGCONT)
    assert second.code == 1
    assert f"worklist {out} is open elsewhere (process {process.pid})" in second.err
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert audited(out) == [f"s{number}" for number in range(5)]


def test_only_what_changed_is_read_again(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 3), tmp_path / "out"

    def read(*more: str, using: Bundle = bundle) -> list[str]:
        before = len(audited(out)) if out.exists() else 0
        assert greenrfm("read", using.folder, "--cohort", cohort, "--out", out, *more).code == 0
        return audited(out)[before:]

    assert read() == ["s0", "s1", "s2"]
    assert read() == []
    write_volume(chest(3), tmp_path / "v1.nii.gz")
    assert read() == ["s1"]
    assert read("--field", "crop") == ["s0", "s1", "s2"]
    assert read("--field", "crop", "--heatmaps", str(tmp_path / "heat")) == ["s0", "s1", "s2"]
    (tmp_path / "heat" / "s2" / "emphysema.nii.gz").unlink()
    assert read("--field", "crop", "--heatmaps", str(tmp_path / "heat")) == ["s2"]
    assert read("--field", "crop", "--urgent", "emphysema") == []
    other = make_tiny_bundle(tmp_path / "other", "clinical-research")
    assert read("--field", "crop", using=other) == ["s0", "s1", "s2"]
    (out / "studies" / "s0.json").write_text("{")
    assert read("--field", "crop", using=other) == ["s0"]


def test_an_unreadable_study_is_listed_and_tried_again(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 3), tmp_path / "out"
    whole = (tmp_path / "v1.nii.gz").read_bytes()
    (tmp_path / "v1.nii.gz").write_bytes(whole[:3000])
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out)
    assert answer.code == 1
    assert len([line for line in answer.err.splitlines() if "v1.nii.gz" in line]) == 1
    assert [row["study_id"] for row in table(out / "worklist.csv") if row["group"] == "unreadable"] == ["s1"]
    assert "v1.nii.gz" in (out / "index.html").read_text("utf-8")
    assert [r["outcome"] for r in read_audit(out / "audit.jsonl")] == ["read", "unreadable", "read"]
    (tmp_path / "v1.nii.gz").write_bytes(whole)
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out).code == 0
    assert audited(out)[3:] == ["s1"]


def test_an_audit_says_what_read_and_nothing_of_the_patient(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 2), tmp_path / "out"
    greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out, "--field", "crop")
    record = next(read_audit(out / "audit.jsonl"))
    assert record["bundle"] == bundle.hash
    assert record["options"]["field"] == "crop"
    assert {"time", "greenrfm", "onnxruntime", "bundle_name", "series", "warnings", "seconds"} <= set(record)
    text = (out / "audit.jsonl").read_text("ascii")
    assert "Secret" not in text
    assert "Smith" not in text
    assert '"p0"' not in text


def test_a_prior_stands_beside_the_current_study(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 2), tmp_path / "out"
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out, "--json")
    old, new = answer.json
    assert old["prior"] is None
    assert (new["prior"]["study"], new["prior"]["study_date"]) == ("s0", "2020-03-01")
    for before, first, second in zip(new["prior"]["findings"], old["findings"], new["findings"], strict=True):
        assert before["probability"] == first["probability"]
        assert before["difference"] == pytest.approx(second["probability"] - first["probability"])
    assert "since s0, 2020-03-01" in (out / "index.html").read_text("utf-8")
    assert {row["study_id"]: row["prior_study"] for row in table(out / "worklist.csv")} == {"s0": "", "s1": "s0"}


def test_a_prior_comes_from_an_earlier_folder_but_not_from_another_bundle(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    cohort = patients(tmp_path, 2)
    lines = cohort.read_text("utf-8").splitlines()
    for name, kept in (("old.csv", 1), ("new.csv", 2)):
        (tmp_path / name).write_text("\n".join([lines[0], lines[kept]]), "utf-8")
    other = make_tiny_bundle(tmp_path / "other", "clinical-research")
    for using, out in ((bundle, "same"), (other, "foreign")):
        greenrfm("read", using.folder, "--cohort", tmp_path / "old.csv", "--out", tmp_path / out)
    command = ("read", bundle.folder, "--cohort", tmp_path / "new.csv", "--json")
    assert greenrfm(*command).json[0]["prior"] is None
    assert greenrfm(*command, "--prior", tmp_path / "same").json[0]["prior"]["study"] == "s0"
    foreign = greenrfm(*command, "--prior", tmp_path / "foreign").json[0]["prior"]
    assert foreign["not_compared"] == "it was read with another bundle"
    # The same --out folder, used day after day, is an earlier folder too.
    assert greenrfm(*command, "--out", tmp_path / "same").json[0]["prior"]["study"] == "s0"
    nothing = greenrfm(*command, "--prior", tmp_path)
    assert (nothing.code, len(nothing.err.splitlines())) == (1, 1)


def test_a_prior_comes_from_the_case_library_with_the_scores_it_would_have_been_given(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    cohort = patients(tmp_path, 2)
    lines = cohort.read_text("utf-8").splitlines()
    (tmp_path / "old.csv").write_text("\n".join(lines[:2]), "utf-8")
    (tmp_path / "new.csv").write_text("\n".join([lines[0], lines[2]]), "utf-8")
    added = greenrfm("library", "add", tmp_path / "library", tmp_path / "old.csv", "--bundle", bundle.folder)
    assert added.code == 0, added.err
    (old,) = greenrfm("read", bundle.folder, "--cohort", tmp_path / "old.csv", "--json").json
    command = ("read", bundle.folder, "--cohort", tmp_path / "new.csv", "--prior", tmp_path / "library", "--json")
    (new,) = greenrfm(*command).json
    assert (new["prior"]["study"], new["prior"]["study_date"]) == ("s0", "2020-03-01")
    before = [finding["probability"] for finding in new["prior"]["findings"]]
    np.testing.assert_allclose(before, [finding["probability"] for finding in old["findings"]], atol=1e-5)


def test_no_file_names_a_patient_where_that_is_not_wanted(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 2), tmp_path / "out"
    cohort.write_text(cohort.read_text("utf-8").replace(",p0,", ",MRN-4711,"), "utf-8")
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out).code == 0
    named = [path for path in out.rglob("*") if path.is_file() and b"MRN-4711" in path.read_bytes()]
    assert {path.suffix for path in named} == {".html", ".csv", ".json"}
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out, "--no-patient-ids", "--json")
    assert answer.json[1]["prior"]["study"] == "s0"
    assert not [path for path in out.rglob("*") if path.is_file() and b"MRN-4711" in path.read_bytes()]


def test_what_an_earlier_run_said_of_other_patients_is_forgotten_too(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    cohort, out = patients(tmp_path, 4), tmp_path / "out"
    text = cohort.read_text("utf-8").replace(",p0,", ",MRN-4711,")
    cohort.write_text(text, "utf-8")
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out).code == 0
    cohort.write_text("\n".join(line for line in text.splitlines() if "MRN-4711" not in line) + "\n", "utf-8")
    # What a kill may leave, and a reading of another format.
    (out / "studies" / ".123-0123abcd.s1.json").write_text("MRN-4711")
    (out / ".123-0123abcd.worklist.csv").write_text("MRN-4711")
    (out / "studies" / "old.json").write_text('{"patient": "MRN-4711"}')
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out, "--no-patient-ids").code == 0
    assert not [path for path in out.rglob("*") if path.is_file() and b"MRN-4711" in path.read_bytes()]


def test_a_study_whose_image_is_gone_is_in_the_record(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 2), tmp_path / "out"
    (tmp_path / "v1.nii.gz").unlink()
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out).code == 1
    records = list(read_audit(out / "audit.jsonl"))
    assert [(record["study"], record["outcome"]) for record in records] == [("s0", "read"), ("s1", "unreadable")]


def test_a_link_to_a_folder_and_a_pipe_are_passed_over(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    write_volume(chest(1), tmp_path / "root" / "a.nii.gz")
    write_volume(chest(2), tmp_path / "elsewhere" / "b.nii.gz")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "root" / "pipe.nii.gz")
    answer = greenrfm("read", bundle.folder, "--folder", tmp_path / "root", "--out", tmp_path / "out", "--json")
    assert [entry["study"] for entry in answer.json] == ["a"]
    assert "a link to a folder is not followed" in (tmp_path / "out" / "index.html").read_text("utf-8")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        read_volume(tmp_path / "root" / "pipe.nii.gz")


def test_maps_of_another_scan_do_not_stay(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, heat = patients(tmp_path, 1), tmp_path / "heat"
    command = ("read", bundle.folder, "--cohort", cohort, "--heatmaps", heat)
    assert greenrfm(*command, "--query", "lung nodule").code == 0
    (asked,) = heat.rglob("text.nii.gz")
    write_volume(chest(2), tmp_path / "v0.nii.gz")
    assert greenrfm(*command).code == 0
    assert not asked.exists()
    assert len(list(asked.parent.glob("*.nii.gz"))) == len(bundle.findings.keys)


def test_studies_whose_files_would_be_one_are_refused(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 2), tmp_path / "out"
    cohort.write_text(cohort.read_text("utf-8").replace("\ns1,", "\nS0,"), "utf-8")
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out).code == 0
    # What a disk looks like that takes "studies" and "STUDIES" for one.
    (out / "STUDIES").mkdir(exist_ok=True)
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--out", out)
    assert answer.code == 1
    assert "studies s0 and S0 differ only in capital letters" in answer.err


def test_half_precision_is_in_the_record(
    greenrfm: Command, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(speed.VARIABLE, str(tmp_path / "speed"))
    half = add_half(bundle, tmp_path / "half")
    command = ("read", half.folder, "--cohort", patients(tmp_path, 1), "--out", tmp_path / "out")
    assert greenrfm(*command).code == 0
    path = speed._path(half, None)
    path.parent.mkdir()
    path.write_text(json.dumps({"threads": 1, "half": True, "seconds": 1.0}))
    assert speed.stored(half) == speed.Setting(1, True, 1.0)
    assert greenrfm(*command).code == 0
    # Read again, because it is another reading.
    records = list(read_audit(tmp_path / "out" / "audit.jsonl"))
    assert [record["options"].get("half") for record in records] == [None, True]


def test_a_folder_is_read_with_all_that_lies_below_it(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "root" / "out"
    write_volume(chest(1), root / "a" / "ct.nii.gz")
    write_volume(chest(2), root / "b" / "ct.nii.gz")
    write_volume(chest(1), root / ".hidden" / "ct.nii.gz")
    write_dicom(lps(1), root / "dicom", "1.2.1", PatientID="p1", StudyDate="20240102", SeriesNumber=1)
    write_dicom(lps(2), root / "dicom2", "1.2.2", PatientID="p1", StudyDate="20250102", SeriesNumber=2)
    for path in (root / "dicom2").iterdir():
        path.rename(root / "dicom" / f"second-{path.name}")
    write_dicom(lps(1), root / "dicom" / "pet", "1.2.3", Modality="PT", SeriesNumber=3)
    write_dicom(lps(1), root / "scout", "1.2.4", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=5)
    (root / "note.txt").write_text("nothing")
    arguments = ("read", bundle.folder, "--folder", root, "--out", out, "--json", "--heatmaps", root / "heat")
    answer = greenrfm(*arguments)
    assert answer.code == 0, answer.err
    entries = {entry["study"]: entry for entry in answer.json}
    assert set(entries) == {"a-ct", "b-ct", "dicom-series1", "dicom-series2"}
    assert entries["dicom-series2"]["series_uid"] == "1.2.2"
    assert entries["dicom-series2"]["prior"]["study"] == "dicom-series1"
    page = (out / "index.html").read_text("utf-8")
    assert "series 3: it is PT, the bundle reads CT" in page
    assert "series 5: it has no two slices" in page
    assert len(greenrfm(*arguments).json) == 4  # its own heat maps and pages are nothing to read
    assert len(audited(out)) == 4


def test_a_folder_with_a_damaged_series_reads_the_others(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    write_dicom(lps(1), tmp_path / "good", "1.2.1")
    write_dicom(lps(1), tmp_path / "bad", "1.2.2", ImageOrientationPatient=[0, 0, 0, 0, 0, 0])
    answer = greenrfm("read", bundle.folder, "--folder", tmp_path, "--json", "--out", tmp_path / "out")
    assert answer.code == 1
    assert [entry["study"] for entry in answer.json] == ["good"]
    assert "damaged DICOM header" in (tmp_path / "out" / "index.html").read_text("utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are always text")
def test_a_name_that_is_no_text_neither_ends_the_run_nor_the_process(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    root = tmp_path / "in"
    write_volume(chest(1), root / "good.nii.gz")
    (root / "good.nii.gz").rename(root / os.fsdecode(b"M\xfcller.nii.gz"))
    write_volume(chest(1), root / "good.nii.gz")
    write_dicom(chest(2), root / os.fsdecode(b"M\xfcnchen"), "1.2.3")
    answer = child("read", bundle.folder, "--folder", root, "--out", tmp_path / "out", cwd=tmp_path)
    assert answer.code == 1, answer.err  # a child, because SimpleITK aborts the whole process at such a name
    assert "rename the file" in answer.err
    groups = {row["study_id"]: row["group"] for row in table(tmp_path / "out" / "worklist.csv")}
    assert groups["good"] in ("read", "withheld")
    assert groups["M\\xfcller"] == "unreadable"
    assert "M\\xfcnchen" in groups


def lps(seed: int) -> Volume:
    """Return the chest as a scanner's slices lie: its axes along left, posterior and head."""
    return chest(seed)


def test_heat_maps_of_the_most_urgent_findings_stand_on_the_study_s_page(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(2), tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    greenrfm("read", bundle.folder, tmp_path / "scan.nii.gz", "--out", out, "--heatmaps", tmp_path / "heat")
    page = (out / "studies" / "scan.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 3
    assert "A cell is 16 × 16 × 16 mm" in page
    assert "Where it comes from" not in (out / "index.html").read_text("utf-8")


def test_a_picture_shows_the_hottest_cell_where_it_lies(tmp_path: Path) -> None:
    import SimpleITK as sitk

    from greenrfm.reading import Reader
    from greenrfm.results.pictures import heat_picture

    bundle = make_tiny_bundle(tmp_path / "tiny")
    array = np.full((64, 64, 32), 40, np.int16)
    array[10:50, 10:50] = -100
    array[16:24, 40:48, 12:16] = 1500  # behind no border: left of the middle, in front
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    volume = Volume(np.ascontiguousarray(array.transpose(1, 0, 2)), affine)  # LPS: columns run to the left
    reading = Reader(bundle, threads=1).read(volume, heatmaps=True)
    assert reading.heatmaps is not None
    (tmp_path / "heat.jpg").write_bytes(heat_picture(volume, reading.heatmaps, "lung_nodule", bundle.preprocessing))
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "heat.jpg"))).astype(int)
    axial = picture[:256, 260:516]
    coloured = axial[..., 0] - axial[..., 2] > 60
    rows, columns = np.nonzero(coloured)
    # Voxel 20 of 64 down, 44 of 64 along, in a picture of 256 pixels.
    assert abs(np.median(rows) - 80) < 20
    assert abs(np.median(columns) - 176) < 20
    assert not (picture[:256, :256, 0] - picture[:256, :256, 2] > 60).any()  # the left one is plain


def test_reading_a_worklist_needs_neither_torch_nor_highdicom(bundle: Bundle, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path)
    without = blocked("torch", "scipy", "sklearn", "matplotlib", "jinja2", "blosc2", "highdicom", "PIL", "pandas")
    arguments = ("read", bundle.folder, "--cohort", cohort, "--out", "out", "--heatmaps", "heat")
    answer: Answer = child(*arguments, cwd=tmp_path, prologue=without)
    assert answer.code == 0, answer.err
    refused = child(*arguments, "--sr", "sr", cwd=tmp_path, prologue=without)
    assert refused.code == 1
    assert "pip install 'greenrfm[dicom]'" in refused.err


def test_the_worklist_is_kept_fresh_while_it_is_read(
    greenrfm: Command, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from greenrfm.commands import worklist

    seen = []
    real = worklist.Session.write

    def watched(session: worklist.Session) -> None:
        real(session)
        seen.append([row["group"] for row in table(tmp_path / "out" / "worklist.csv")])

    monkeypatch.setattr(worklist, "REFRESH_S", 0.0)
    monkeypatch.setattr(worklist, "REFRESH_SHARE", 0.0)
    monkeypatch.setattr(worklist.Session, "write", watched)
    assert greenrfm("read", bundle.folder, "--cohort", patients(tmp_path, 3), "--out", tmp_path / "out").code == 0
    assert seen[0] == ["read", "not read yet", "not read yet"]
    assert seen[-1] == ["read", "read", "read"]


def test_withheld_scores_are_listed_apart_and_nowhere_else(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort, out = patients(tmp_path, 2), tmp_path / "out"
    odd = Volume((chest(1).array // 20 + 100).astype(np.int16), chest(1).affine)
    write_volume(odd, tmp_path / "v1.nii.gz")
    arguments = ("read", bundle.folder, "--cohort", cohort, "--out", out, "--heatmaps", tmp_path / "heat")
    assert greenrfm(*arguments).code == 0
    rows = {row["study_id"]: row for row in table(out / "worklist.csv")}
    assert (rows["s0"]["group"], rows["s1"]["group"], rows["s1"]["findings"]) == ("read", "withheld", "")
    assert rows["s1"]["change"].startswith("not compared")
    assert ScoreTable.read(out / "scores.csv").study_ids == ("s0",)
    assert {call["study_id"] for call in table(out / "calls.csv")} == {"s0"}
    assert not (tmp_path / "heat" / "s1").exists()
    page = (out / "studies" / "s1.html").read_text("utf-8")
    assert "Scores withheld" in page
    assert "Lung nodule" not in page
    assert [record["outcome"] for record in read_audit(out / "audit.jsonl")] == ["read", "withheld"]
    assert "hounsfield" in list(read_audit(out / "audit.jsonl"))[1]["warnings"]
    assert greenrfm(*arguments, "--overrule").code == 0
    rows = {row["study_id"]: row for row in table(out / "worklist.csv")}
    assert rows["s1"]["group"] == "read"
    assert rows["s1"]["warnings"]
    assert list(read_audit(out / "audit.jsonl"))[-1]["options"]["overrule"] is True
    assert (tmp_path / "heat" / "s1").exists()
    # What the overrule showed is gone with the next reading that does not overrule.
    assert greenrfm(*arguments).code == 0
    assert not (tmp_path / "heat" / "s1").exists()
    assert not list((out / "studies").glob("s1.*.jpg"))
    assert list((out / "studies").glob("s0.*.jpg"))


def test_a_library_takes_no_scan_that_is_not_fit_for_its_bundle(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    cohort, library = patients(tmp_path, 2), tmp_path / "library"
    odd = Volume((chest(1).array // 20 + 100).astype(np.int16), chest(1).affine)
    write_volume(odd, tmp_path / "v1.nii.gz")
    answer = greenrfm("library", "add", library, cohort, "--bundle", bundle.folder)
    assert answer.code == 1
    assert "s1 is not added" in answer.err
    assert "1 studies added" in answer.out
    assert greenrfm("library", "add", library, cohort, "--bundle", bundle.folder, "--overrule").code == 0


def test_a_text_gets_its_own_map_and_zero_shot_scores_their_notice(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(2), tmp_path / "scan.nii.gz")
    out, heat = tmp_path / "out", tmp_path / "heat"
    arguments = ("read", bundle.folder, tmp_path / "scan.nii.gz", "--out", out, "--heatmaps", heat, "--zero-shot")
    assert greenrfm(*arguments, "--query", "seen by Dr Miller").code == 0
    assert read_volume(heat / "scan" / "text.nii.gz").shape == (8, 8, 8)
    page = (out / "studies" / "scan.html").read_text("utf-8")
    assert page.count("data:image/jpeg;base64,") == 4
    assert "text query, not a calibrated score" in page
    assert not any(b"Miller" in path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert "not calibrated" in page.lower()
    record = list(read_audit(out / "audit.jsonl"))[-1]
    assert record["options"] == {"field": "padded", "zero_shot": True, "query": True}


def test_wrong_usage_is_said_before_anything_is_read(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    cohort = patients(tmp_path, 1)
    for arguments in (
        ("--cohort", cohort, "--folder", tmp_path),
        (cohort.with_name("v0.nii.gz"), "--query", "nodule"),
        (),
    ):
        assert greenrfm("read", bundle.folder, *arguments).code == 2
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--urgent", "nodul", "--out", tmp_path / "out")
    assert (answer.code, len(answer.err.splitlines())) == (1, 1)
    assert not (tmp_path / "out").exists()
    images = make_tiny_bundle(tmp_path / "images", text=False).folder
    for arguments in (("--query", "nodule", "--heatmaps", tmp_path / "heat"), ("--zero-shot",)):
        answer = greenrfm("read", images, "--cohort", cohort, *arguments, "--out", tmp_path / "out")
        assert (answer.code, len(answer.err.splitlines())) == (1, 1)
        assert f"which {arguments[0]} needs" in answer.err
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", tmp_path / "file").code == 1
    with ResultFolder(tmp_path / "held"):
        assert greenrfm("read", bundle.folder, "--cohort", cohort, "--out", tmp_path / "held").code == 1
