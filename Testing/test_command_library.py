"""`greenrfm library`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from command_line import REPORTS, Command, chest, make_cohort, one_line
from greenrfm.bundle import Bundle, TextEncoder
from greenrfm.commands.main import run
from greenrfm.library import CaseLibrary
from greenrfm.reading import Reader


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
