"""The command line: exit codes, one sentence per mistake, readings, the library, and no training packages."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from rich.console import Console

from greenrfm.bundle import Bundle, TextEncoder
from greenrfm.commands.main import run
from greenrfm.commands.show import BarDisplay, LineDisplay
from greenrfm.evaluation import ScoreTable
from greenrfm.findings import LabelTable
from greenrfm.library import CaseLibrary
from greenrfm.reading import Reader
from greenrfm.volumes import Volume, read_volume, write_volume
from make_tiny_bundle import make_tiny_bundle

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "demo",
    "cohort check",
    "distill",
    "labels compare",
    "phantoms chest",
    "train",
    "bundle check",
    "bundle info",
    "read",
    "library add",
    "library search",
    "library info",
    "evaluate scores",
    "evaluate retrieval",
)
REPORTS = {
    "s1": "There is a nodule in the right upper lobe. No pleural effusion.",
    "s2": "Moderate pleural effusion on the left. No lung nodule.",
    "s3": "Severe centrilobular emphysema.",
}


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def greenrfm(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs one command line in this process."""

    def command(*arguments: str | Path) -> Answer:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return command


def child(*arguments: str | Path, cwd: Path, prologue: str = "") -> Answer:
    """Run one command line in a Python of its own, after the code `prologue`."""
    code = f"{prologue}\nfrom greenrfm.commands.main import main\nmain()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "train"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env=environment,
        timeout=60,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def blocked(*packages: str) -> str:
    """Return code after which importing these packages fails."""
    return f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {set(packages)!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""


def chest(seed: int) -> Volume:
    """Return a soft-tissue body with air-filled lungs and a few dense spots, 96 × 96 × 96 mm."""
    random = np.random.default_rng(seed)
    array = random.normal(40, 20, (48, 48, 24))
    array[12:36, 6:20] = array[12:36, 28:42] = -850 + 60 * seed
    for _ in range(4 * seed):
        i, j, k = random.integers(4, 20, 3)
        array[i : i + 6, j : j + 6, k : k + 3] = 300
    affine = np.diag([2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = (-48, -48, 100)
    return Volume(array.astype(np.int16), affine)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the tiny bundle, for demonstration."""
    return make_tiny_bundle(tmp_path_factory.mktemp("commands") / "tiny", "demonstration")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """Return a cohort.csv of three patients with volumes and reports."""
    return make_cohort(tmp_path)


def make_cohort(folder: Path) -> Path:
    lines = [["study_id", "patient_id", "image", "report", "modality", "study_date", "split"]]
    for number, (study, report) in enumerate(REPORTS.items(), start=1):
        write_volume(chest(number), folder / f"{study}.nii.gz")
        lines.append([study, f"p{number}", f"{study}.nii.gz", report, "CT", f"2024-01-0{number}", "test"])
    path = folder / "cohort.csv"
    write_csv(path, lines)
    return path


def write_csv(path: Path, lines: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)


def one_line(answer: Answer) -> str:
    """Return what stderr says, which must be one line and no traceback."""
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert "Traceback" not in lines[0]
    return lines[0]


# --- help and usage ---


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, greenrfm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    answer = greenrfm(*name.split(), "--help")
    assert answer.code == 0
    assert f"Example: greenrfm {name}" in answer.out
    assert answer.err == ""


def test_help_needs_nothing_but_typer_and_rich(tmp_path: Path) -> None:
    answer = child("--help", cwd=tmp_path, prologue=blocked("numpy", "SimpleITK", "onnxruntime", "torch", "yaml"))
    assert answer.code == 0, answer.err
    assert all(name.split()[0] in answer.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("raed", "did you mean 'read'"),
        ("--verbose", "--verbose"),
        ("read", "BUNDLE"),
        ("read tiny", "either volumes or --cohort"),
        ("read tiny a.nii --cohort cohort.csv", "either volumes or --cohort"),
        ("read tiny a.nii b.nii --series 1.2.3", "--series"),
        ("read tiny a.nii --field big", "--field"),
        ("read tiny a.nii --threads 0", "--threads"),
        ("library search lib --bundle tiny", "either --image or --text"),
        ("library search lib --bundle tiny --image a.nii --text nodule", "either --image or --text"),
        ("distill cohort.csv --findings chest-ct-18", "--out"),
        ("distill cohort.csv --findings chest-ct-18 --labeler oracle --out l.csv", "--labeler"),
        ("phantoms chest --studies 0 --out p", "--studies"),
        ("labels compare a.csv b.csv --uncertain maybe", "--uncertain"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: str, says: str, greenrfm: Command) -> None:
    answer = greenrfm(*arguments.split())
    assert answer.code == 2
    assert says.lower() in one_line(answer).lower()
    assert "--help" in answer.err
    assert answer.out == ""


def test_a_group_without_a_command_shows_its_help(greenrfm: Command) -> None:
    answer = greenrfm("library")
    assert answer.code == 2
    assert "search" in answer.out + answer.err


# --- mistakes of the user ---


@pytest.fixture
def mistakes(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with faulty files; `tiny` is the bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").symlink_to(bundle.folder)
    write_volume(chest(1), tmp_path / "good.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:2000])
    (tmp_path / "note.txt").write_text("no volume")
    (tmp_path / "empty").mkdir()
    write_csv(tmp_path / "unknown.csv", [["study_id", "patient_id", "imgae"], ["a", "p", "x.nii"]])
    write_csv(tmp_path / "twice.csv", [["study_id", "patient_id", "image"], ["a", "p", "x.nii"], ["a", "p", "y.nii"]])
    write_csv(tmp_path / "lost.csv", [["study_id", "patient_id", "image", "report"], ["a", "p", "x.nii", "Normal."]])
    write_csv(tmp_path / "mute.csv", [["study_id", "patient_id", "image"], ["a", "p", "good.nii.gz"]])
    write_csv(tmp_path / "labels.csv", [["study_id", "lung_nodule"], ["a", "1"]])
    write_csv(tmp_path / "other.csv", [["study_id", "gallstone"], ["a", "1"]])
    write_csv(tmp_path / "scores.csv", [["study_id", "lung_nodule"], ["a", "1.5"]])
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("read tiny missing.nii", "missing.nii"),
        ("read tiny cut.nii.gz", "damaged or cut off"),
        ("read tiny note.txt", "note.txt"),
        ("read tiny empty", "empty"),
        ("read empty good.nii.gz", "no bundle in empty"),
        ("read tiny good.nii.gz good.nii.gz", "given twice"),
        ("read tiny --cohort missing.csv", "missing.csv"),
        ("read tiny --cohort unknown.csv", "did you mean 'image'"),
        ("read tiny --cohort twice.csv", "study a twice"),
        ("read tiny --cohort lost.csv", "x.nii"),
        ("read tiny good.nii.gz --heatmaps note.txt/heat", "note.txt"),
        ("cohort check twice.csv", "study a twice"),
        ("cohort check note.txt", "no column 'study_id'"),
        ("distill lost.csv --findings chest-ct-81 --out l.csv", "did you mean 'chest-ct-18'"),
        ("distill mute.csv --findings chest-ct-18 --out l.csv", "no report"),
        ("labels compare missing.csv labels.csv", "missing.csv"),
        ("labels compare labels.csv other.csv", "lung_nodule"),
        ("phantoms chest --studies 1 --out .", "not empty"),
        ("train lost.csv --labels labels.csv --recipe lite --out run", "--findings"),
        ("train lost.csv --labels labels.csv --findings chest-ct-18 --recipe lite --out run", "no column"),
        ("bundle check missing", "no bundle in missing"),
        ("bundle info note.txt", "no bundle in note.txt"),
        ("library info empty", "empty"),
        ("library search missing --bundle tiny --text nodule", "missing"),
        ("library add lib mute.csv --bundle tiny --labels other.csv", "none of the bundle's findings"),
        ("evaluate scores scores.csv labels.csv", "from 0 to 1"),
        ("evaluate scores missing.csv labels.csv", "missing.csv"),
        ("evaluate retrieval tiny lost.csv", "split 'test'"),
        ("evaluate retrieval tiny mute.csv --split all", "no report"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_1(arguments: str, says: str, greenrfm: Command, mistakes: Path) -> None:
    answer = greenrfm(*arguments.split())
    assert answer.code == 1
    assert says in one_line(answer)
    assert answer.out == ""


@pytest.mark.parametrize(
    "arguments", ["read tiny cut.nii.gz", "cohort check unknown.csv", "cohort check twice.csv", "read tiny missing.nii"]
)
def test_a_mistake_is_one_sentence_in_a_real_process_too(arguments: str, mistakes: Path) -> None:
    answer = child(*arguments.split(), cwd=mistakes)
    assert answer.code == 1
    one_line(answer)
    assert answer.out == ""


def test_an_unknown_recipe_is_refused(greenrfm: Command, cohort: Path) -> None:
    pytest.importorskip("pydantic")
    labels = cohort.with_name("labels.csv")
    assert greenrfm("distill", cohort, "--findings", "chest-ct-18", "--out", labels).code == 0
    answer = greenrfm("train", cohort, "--labels", labels, "--recipe", "light", "--out", cohort.with_name("run"))
    assert answer.code == 1
    assert "did you mean 'lite'" in one_line(answer)


def test_a_missing_package_is_named_with_the_way_to_install_it(tmp_path: Path) -> None:
    answer = child("evaluate", "scores", "s.csv", "l.csv", cwd=tmp_path, prologue=blocked("scipy"))
    assert answer.code == 1
    assert "'scipy'" in one_line(answer)
    assert "greenrfm[train]" in answer.err


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to one child is a POSIX matter")
def test_an_interruption_is_one_sentence_and_exit_130(tmp_path: Path) -> None:
    settings = ["--studies", "200", "--out", "out", "--matrix", "32", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "greenrfm", "phantoms", "chest", *settings],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "train")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("generate studies: 10 %")
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert rest.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in rest


# --- read ---


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_every_file_format_gives_the_same_reading(
    suffix: str, greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(2), tmp_path / f"scan{suffix}")
    answer = greenrfm("read", bundle.folder, tmp_path / f"scan{suffix}", "--json", "--threads", "1")
    assert answer.code == 0
    (entry,) = answer.json
    expected = Reader(bundle, threads=1).read(chest(2), study_id="scan").to_dict()
    assert entry["study"] == "scan"
    assert set(entry) == {"study", "findings", "warnings", "notice", "bundle"}
    assert [finding["call"] for finding in entry["findings"]] == [f["call"] for f in expected["findings"]]
    np.testing.assert_allclose(
        [finding["probability"] for finding in entry["findings"]],
        [finding["probability"] for finding in expected["findings"]],
        atol=1e-4,
    )


def test_the_notice_stands_above_the_scores(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    write_volume(chest(1), tmp_path / "scan.nii.gz")
    out = greenrfm("read", bundle.folder, tmp_path / "scan.nii.gz").out
    order = [out.index(text) for text in ("Not for diagnostic use", "mean nothing", "Lung nodule")]
    assert order == sorted(order)
    research = make_tiny_bundle(tmp_path / "research")
    out = greenrfm("read", research.folder, tmp_path / "scan.nii.gz").out
    assert "Not for diagnostic use" in out
    assert "phantoms" not in out


def test_warnings_stand_between_notice_and_scores(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    odd = Volume((chest(1).array // 20 + 100).astype(np.int16), chest(1).affine)
    write_volume(odd, tmp_path / "odd.nii.gz")
    out = greenrfm("read", bundle.folder, tmp_path / "odd.nii.gz").out
    assert out.index("mean nothing") < out.index("Warning: ") < out.index("Lung nodule")


def test_one_unreadable_volume_does_not_stop_the_others(greenrfm: Command, mistakes: Path) -> None:
    write_volume(chest(2), mistakes / "second.nrrd")
    answer = greenrfm("read", "tiny", "good.nii.gz", "cut.nii.gz", "second.nrrd", "--json", "--out", "out")
    assert answer.code == 1
    assert [entry["study"] for entry in answer.json] == ["good", "second"]
    said = [line for line in answer.err.splitlines() if not line.startswith("read: ")]
    assert len(said) == 1
    assert "cut.nii.gz" in said[0]
    assert ScoreTable.read(mistakes / "out" / "scores.csv").study_ids == ("good", "second")


def test_out_holds_what_json_prints_and_scores_that_evaluation_reads(
    greenrfm: Command, bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    answer = greenrfm("read", bundle.folder, "--cohort", cohort, "--json", "--out", tmp_path / "out")
    assert answer.code == 0
    assert json.loads((tmp_path / "out" / "readings.json").read_text(encoding="utf-8")) == answer.json
    scores = ScoreTable.read(tmp_path / "out" / "scores.csv", bundle.findings.keys)
    assert scores.study_ids == tuple(REPORTS)
    assert scores.patient_ids == ("p1", "p2", "p3")
    expected = [[finding["probability"] for finding in entry["findings"]] for entry in answer.json]
    np.testing.assert_array_equal(scores.probabilities, expected)


def test_heat_maps_are_one_file_per_finding_whose_mean_is_the_score(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(2), tmp_path / "scan.nii.gz")
    answer = greenrfm("read", bundle.folder, tmp_path / "scan.nii.gz", "--json", "--heatmaps", tmp_path / "heat")
    calibration = bundle.manifest.calibration
    means = []
    for key in bundle.findings.keys:
        heat = read_volume(tmp_path / "heat" / "scan" / f"{key}.nii.gz")
        assert heat.shape == (8, 8, 8)
        means.append(heat.array.mean())
    probabilities = [finding["probability"] for finding in answer.json[0]["findings"]]
    np.testing.assert_allclose(calibration.probability(means), probabilities, atol=1e-4)


def test_volumes_of_one_name_in_two_folders_are_told_apart(greenrfm: Command, bundle: Bundle, tmp_path: Path) -> None:
    for folder in ("left", "right"):
        write_volume(chest(1), tmp_path / folder / "ct.nii.gz")
    answer = greenrfm("read", bundle.folder, tmp_path / "left/ct.nii.gz", tmp_path / "right/ct.nii.gz", "--json")
    assert [entry["study"] for entry in answer.json] == ["left-ct", "right-ct"]


def test_a_study_id_that_no_file_system_takes_stays_inside_the_folder(
    greenrfm: Command, bundle: Bundle, tmp_path: Path
) -> None:
    write_volume(chest(1), tmp_path / "scan.nii.gz")
    rows = [["../../escape", "p1", "scan.nii.gz"], ["a/b", "p2", "scan.nii.gz"], ["a_b", "p3", "scan.nii.gz"]]
    write_csv(tmp_path / "cohort.csv", [["study_id", "patient_id", "image"], *rows])
    heat = tmp_path / "deep" / "er" / "heat"
    assert greenrfm("read", bundle.folder, "--cohort", tmp_path / "cohort.csv", "--heatmaps", heat).code == 0
    assert len(list(heat.iterdir())) == 3
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"er"}


def test_reading_distilling_and_searching_need_no_training_package(
    bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    without = blocked("torch", "transformers", "pandas", "scipy", "sklearn", "monai", "onnx", "matplotlib")
    library, labels = tmp_path / "library", tmp_path / "labels.csv"
    for arguments in (
        ("read", bundle.folder, cohort.with_name("s1.nii.gz"), "--heatmaps", tmp_path / "heat", "--out", tmp_path),
        ("distill", cohort, "--findings", "chest-ct-18", "--out", labels),
        ("library", "add", library, cohort, "--bundle", bundle.folder, "--labels", labels),
        ("library", "search", library, "--bundle", bundle.folder, "--text", "lung nodule", "--json"),
    ):
        answer = child(*arguments, cwd=tmp_path, prologue=without)
        assert answer.code == 0, answer.err
    assert len(answer.json) == 3


def test_every_real_ct_is_read(greenrfm: Command, bundle: Bundle, shared_data: Path) -> None:
    from test_shared_volumes import CT

    paths = [shared_data / name for name, *_ in CT]
    answer = greenrfm("read", bundle.folder, *paths, "--json")
    assert answer.code == 0, answer.err
    assert len(answer.json) == len({entry["study"] for entry in answer.json}) == len(paths)
    for entry in answer.json:
        assert "mean nothing" in entry["notice"]
        assert all(0 <= finding["probability"] <= 1 for finding in entry["findings"])


# --- library ---


@pytest.fixture(scope="module")
def library(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library of the cohort with the labels of its reports."""
    folder = tmp_path_factory.mktemp("library")
    cohort, labels = make_cohort(folder), folder / "labels.csv"
    assert run(["distill", str(cohort), "--findings", "chest-ct-18", "--out", str(labels)]) == 0
    settings = ["--bundle", str(bundle.folder), "--labels", str(labels)]
    assert run(["library", "add", str(folder / "library"), str(cohort), *settings]) == 0
    return folder / "library"


def test_a_search_by_image_ranks_by_the_dot_product_of_latents(
    greenrfm: Command, library: Path, bundle: Bundle
) -> None:
    reader = Reader(bundle, threads=1)
    latents = {study: reader.read(chest(number)).latent for number, study in enumerate(REPORTS, start=1)}
    expected = sorted(((float(latents["s2"] @ latent), study) for study, latent in latents.items()), reverse=True)
    query = ("library", "search", library, "--bundle", bundle.folder, "--image", library.with_name("s2.nii.gz"))
    hits = greenrfm(*query, "--json").json
    assert [hit["study"] for hit in hits] == [study for _, study in expected]
    np.testing.assert_allclose([hit["score"] for hit in hits], [score for score, _ in expected], rtol=1e-3)
    assert {hit["study"]: hit["report"] for hit in hits} == REPORTS
    assert hits[0]["rank"] == 1
    assert "s2" not in [hit["study"] for hit in greenrfm(*query, "--exclude-patient", "p2", "--json").json]


def test_a_search_by_text_uses_the_bundles_text_encoder_and_filters(
    greenrfm: Command, library: Path, bundle: Bundle
) -> None:
    text = TextEncoder(bundle, threads=1).encode(["lung nodule"])[0]
    query = ("library", "search", library, "--bundle", bundle.folder, "--text", "lung nodule", "--json")
    best = greenrfm(*query, "-k", "1").json
    assert len(best) == 1
    reader = Reader(bundle, threads=1)
    scores = [float(text @ reader.read(chest(number)).latent) for number in (1, 2, 3)]
    assert best[0]["score"] == pytest.approx(max(scores), rel=1e-3, abs=1e-6)
    assert [hit["study"] for hit in greenrfm(*query, "--present", "lung_nodule").json] == ["s1"]
    assert [hit["study"] for hit in greenrfm(*query, "--absent", "lung_nodule").json] == ["s2"]
    answer = greenrfm(*query, "--present", "lung_nodle")
    assert answer.code == 1
    assert "did you mean 'lung_nodule'" in one_line(answer)


def test_a_search_prints_reports_and_the_notice(greenrfm: Command, library: Path, bundle: Bundle) -> None:
    out = greenrfm("library", "search", library, "--bundle", bundle.folder, "--text", "emphysema").out
    assert out.index("Not for diagnostic use") < min(out.index(report) for report in REPORTS.values())


def test_a_case_keeps_a_picture_the_states_and_the_date(library: Path, tmp_path: Path) -> None:
    with CaseLibrary.open(library) as cases:
        case = cases.get("s2")
    assert case.study_date == "2024-01-02"
    assert {key: state.name for key, state in case.states.items()} == {"lung_nodule": "ABSENT"}
    picture = tmp_path / "picture.png"
    picture.write_bytes(case.thumbnail)
    grey = sitk.GetArrayFromImage(sitk.ReadImage(str(picture)))
    assert grey.shape == (128, 128)
    assert grey.dtype == np.uint8
    # Stored as (left, posterior): in the picture the two lungs lie above each other, tissue between them.
    assert grey[64, 64] > 200
    assert grey[35, 64] < 100
    assert grey[93, 64] < 100


def test_library_info_counts(greenrfm: Command, library: Path, bundle: Bundle) -> None:
    facts = greenrfm("library", "info", library, "--json").json
    assert (facts["cases"], facts["patients"], facts["bundle_hash"]) == (3, 3, bundle.hash)
    assert "3 cases of 3 patients" in greenrfm("library", "info", library).out


def test_a_study_without_a_readable_image_does_not_stop_the_library(
    greenrfm: Command, bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    (tmp_path / "s2.nii.gz").write_bytes(b"nothing")
    answer = greenrfm("library", "add", tmp_path / "library", cohort, "--bundle", bundle.folder, "--json")
    assert answer.code == 1
    assert answer.json["added"] == 2
    assert [line for line in answer.err.splitlines() if "s2.nii.gz" in line]
    assert greenrfm("library", "info", tmp_path / "library", "--json").json["cases"] == 2


# --- tables ---


def test_distilling_writes_labels_and_evidence_and_prints_no_report(greenrfm: Command, cohort: Path) -> None:
    labels = cohort.with_name("labels.csv")
    answer = greenrfm("distill", cohort, "--findings", "chest-ct-18", "--labeler", "lexicon", "--out", labels)
    assert answer.code == 0
    table = LabelTable.read(labels)
    assert table.study_ids == tuple(REPORTS)
    assert table.select(["lung_nodule", "pleural_effusion", "emphysema"]).states.tolist() == [
        [1, 0, -2],
        [0, 1, -2],
        [-2, -2, 1],
    ]
    evidence = [json.loads(line) for line in labels.with_name("labels.evidence.jsonl").read_text("utf-8").splitlines()]
    assert {(row["study_id"], row["finding"]) for row in evidence} >= {("s1", "lung_nodule"), ("s3", "emphysema")}
    assert "lobe" not in answer.out + answer.err
    assert "centrilobular" not in answer.out + answer.err


def test_labels_are_compared_by_the_policy_that_is_asked_for(greenrfm: Command, tmp_path: Path) -> None:
    write_csv(tmp_path / "gold.csv", [["study_id", "nodule"], ["a", "1"], ["b", "0"], ["c", "1"], ["d", ""]])
    write_csv(tmp_path / "labels.csv", [["study_id", "nodule"], ["a", "1"], ["b", "0"], ["c", ""], ["d", "-1"]])
    command = ("labels", "compare", tmp_path / "gold.csv", tmp_path / "labels.csv")
    assert greenrfm(*command, "--json").json["macro"]["recall"] == pytest.approx(0.5)
    assert greenrfm(*command, "--json", "--not-mentioned", "exclude").json["macro"]["recall"] == 1
    assert "nodule" in greenrfm(*command).out


def test_scores_are_evaluated(greenrfm: Command, tmp_path: Path) -> None:
    states, values = "111000", (0.9, 0.8, 0.3, 0.4, 0.2, 0.1)
    write_csv(tmp_path / "labels.csv", [["study_id", "nodule"], *([f"s{n}", s] for n, s in enumerate(states))])
    write_csv(tmp_path / "scores.csv", [["study_id", "nodule"], *([f"s{n}", str(v)] for n, v in enumerate(values))])
    command = ("evaluate", "scores", tmp_path / "scores.csv", tmp_path / "labels.csv")
    result = greenrfm(*command, "--json").json
    assert result["macro"]["auroc"] == pytest.approx(8 / 9)
    assert result["n"] == 6
    assert "0.889" in greenrfm(*command).out


def test_retrieval_stands_beside_its_chance(greenrfm: Command, bundle: Bundle, cohort: Path) -> None:
    answer = greenrfm("evaluate", "retrieval", bundle.folder, cohort, "--json")
    assert answer.code == 0
    result = answer.json
    assert (result["n"], result["split"]) == (3, "test")
    assert result["chance_recall_at_1"] == pytest.approx(1 / 3)
    assert result["recall_at_5"] == 1
    assert "chance 0.333" in greenrfm("evaluate", "retrieval", bundle.folder, cohort, "--split", "all").out


def test_a_cohort_is_checked(greenrfm: Command, cohort: Path) -> None:
    answer = greenrfm("cohort", "check", cohort, "--json")
    assert answer.code == 0
    assert answer.json["studies"] == 3
    assert answer.json["splits"] == {"test": 3}
    cohort.with_name("s3.nii.gz").unlink()
    answer = greenrfm("cohort", "check", cohort)
    assert answer.code == 1
    assert "1 problem" in one_line(answer)
    assert "s3.nii.gz does not exist" in answer.out


def test_phantoms_are_a_cohort_that_passes_the_check(
    greenrfm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("--studies", "3", "--matrix", "32", "--workers", "1", "--seed", "5", "--json")
    answer = greenrfm("phantoms", "chest", "--out", "made", *settings)
    assert answer.code == 0
    assert answer.json["studies"] == 3
    assert greenrfm("cohort", "check", "made/cohort.csv").code == 0
    assert len(LabelTable.read(tmp_path / "made" / "truth.csv").study_ids) == 3


# --- bundle ---


def test_a_bundle_is_checked_and_described(greenrfm: Command, bundle: Bundle) -> None:
    checks = greenrfm("bundle", "check", bundle.folder, "--json").json
    assert [check["ok"] for check in checks] == [True] * 5
    facts = greenrfm("bundle", "info", bundle.folder, "--json").json
    assert facts["hash"] == bundle.hash
    assert facts["intended_use"] == "demonstration"
    assert "mean nothing" in greenrfm("bundle", "info", bundle.folder).out


def test_a_bundle_that_was_changed_fails_its_check(greenrfm: Command, tmp_path: Path) -> None:
    folder = make_tiny_bundle(tmp_path / "changed").folder
    content = bytearray((folder / "tokenizer.json").read_bytes())
    content[-2] ^= 1
    (folder / "tokenizer.json").write_bytes(bytes(content))
    answer = greenrfm("bundle", "check", folder)
    assert answer.code == 1
    assert "fails files" in one_line(answer)
    assert "FAILED  files" in answer.out


# --- progress ---


def test_a_log_gets_ten_lines_per_stage_with_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    with LineDisplay() as show:
        for done in range(1001):
            show("stage 1 vision", done, 1000, {"loss": 0.5})
        show("export", 3, 3)
        show("export", 3, 3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert lines[4].startswith("stage 1 vision: 50 % (500/1000), loss 0.5, ")
    assert lines[9:] == ["stage 1 vision: 100 % (1000/1000), loss 0.5", "export: 100 % (3/3)"]


def test_a_bar_shows_percent_and_metrics_and_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    screen = io.StringIO()
    with BarDisplay(Console(file=screen, force_terminal=True, width=120)) as show:
        show("train", 0, 4)
        show("train", 2, 4, {"loss": 0.25})
        show.say("a result")
        print("[]")
        show("train", 4, 4, {"loss": 0.125})
        show("export", 0, 2)
    assert capsys.readouterr().out == "a result\n[]\n"
    assert "100%" in screen.getvalue()
    assert "loss 0.125" in screen.getvalue()
    assert "export" in screen.getvalue()
