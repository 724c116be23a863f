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
from make_tiny_bundle import make_tiny_bundle


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


def test_a_search_by_both_weighs_image_and_text(greenrfm: Command, library: Path, bundle: Bundle) -> None:
    image = ("--image", library.with_name("s2.nii.gz"))
    text = ("--text", "lung nodule")
    query = ("library", "search", library, "--bundle", bundle.folder, "--json")

    def scores(*asked: str | Path) -> dict[str, float]:
        return {hit["study"]: hit["score"] for hit in greenrfm(*query, *asked).json}

    of_image, of_text = scores(*image), scores(*text)
    spread_image, spread_text = np.std(list(of_image.values())), np.std(list(of_text.values()))
    for weight in (0.0, 0.5, 0.8, 1.0):
        both = scores(*image, *text, "--weight", str(weight))
        assert list(both) == sorted(both, key=lambda study: -both[study])
        for study, score in both.items():
            expected = weight * of_image[study] / spread_image + (1 - weight) * of_text[study] / spread_text
            assert score == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert greenrfm(*query, *image, *text, "--weight", "1.5").code == 2


def test_a_hit_says_what_it_shares_with_the_querys_labels_and_where_it_differs(
    greenrfm: Command, library: Path, bundle: Bundle
) -> None:
    query = ("library", "search", library, "--bundle", bundle.folder, "--text", "lung nodule")
    own = ("--labels", library.with_name("labels.csv"), "--study", "s1")
    findings = {hit["study"]: hit["findings"] for hit in greenrfm(*query, *own, "--json").json}
    assert set(findings) == set(REPORTS)
    assert findings["s1"]["shared"] == ["lung_nodule"]
    assert findings["s1"]["only_query"] == findings["s1"]["only_case"] == []
    assert findings["s2"]["only_query"] == ["lung_nodule"]
    assert "lung_nodule" not in findings["s2"]["shared"]
    assert findings["s3"]["only_case"] == ["emphysema"]
    printed = greenrfm(*query, *own).out
    assert "shared: lung_nodule" in printed
    assert "only here: lung_nodule" in printed
    assert "only in this case: emphysema" in printed
    # By text alone, without labels, there is nothing to compare with.
    assert {hit["findings"] for hit in greenrfm(*query, "--json").json} == {None}
    assert "no row of study 's9'" in one_line(greenrfm(*query, *own[:2], "--study", "s9"))


def test_an_export_imported_is_the_library_again(
    greenrfm: Command, library: Path, bundle: Bundle, tmp_path: Path
) -> None:
    assert greenrfm("library", "export", library, "--out", tmp_path / "export", "--json").json["cases"] == 3
    imported = greenrfm("library", "import", tmp_path / "export", "--out", tmp_path / "again", "--json")
    assert imported.json["cases"] == 3
    with CaseLibrary.open(library) as old, CaseLibrary.open(tmp_path / "again", bundle.hash) as new:
        for (case, latent), (other, copied) in zip(old.items(), new.items(), strict=True):
            assert other == case
            np.testing.assert_array_equal(copied, latent)
    # Not over a library that is there.
    again = greenrfm("library", "import", tmp_path / "export", "--out", tmp_path / "again")
    assert again.code == 1
    assert "already holds a case library" in one_line(again)


def test_a_library_is_rebuilt_for_another_bundle(
    greenrfm: Command, library: Path, bundle: Bundle, tmp_path: Path
) -> None:
    other = make_tiny_bundle(tmp_path / "other", "research")
    assert other.hash != bundle.hash
    search = ("library", "search", library, "--bundle", other.folder, "--text", "lung nodule")
    assert "greenrfm library rebuild" in one_line(greenrfm(*search))
    source, moved = library.with_name("s3.nii.gz"), library.with_name("elsewhere.nii.gz")
    source.rename(moved)
    rebuild = ("library", "rebuild", library, "--bundle", other.folder, "--out", tmp_path / "new", "--json")
    first = greenrfm(*rebuild)
    assert (first.code, first.json["added"]) == (1, 2)
    assert [line for line in first.err.splitlines() if "s3.nii.gz" in line]
    moved.rename(source)
    # The second run goes on where the first left a study out.
    second = greenrfm(*rebuild)
    assert (second.code, second.json["added"], second.json["cases"]) == (0, 1, 3)
    with CaseLibrary.open(library) as old, CaseLibrary.open(tmp_path / "new", other.hash) as new:
        for case, _ in old.items():
            taken = new.get(case.study_id)
            assert (taken.report, taken.states, taken.source) == (case.report, case.states, case.source)
