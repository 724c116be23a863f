"""Generated knee MR: one anatomy in every plane, findings where the truth says, parts missing, honest reports."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from command_line import Command
from greenrfm.cohort import read_cohort
from greenrfm.findings import LabelTable, State, load_finding_set
from greenrfm.phantoms.knee_anatomy import SEQUENCES
from greenrfm.phantoms.knee_lesions import GAINS, LESIONS, draw_findings
from greenrfm.phantoms.knee_study import KneeStudy, draw_knee_study
from greenrfm.phantoms.phrases import Instance, StudyFacts, wording
from greenrfm.phantoms.reports import write_report
from greenrfm.volumes import PLANES, Volume, plane_of, read_volume

KEYS = load_finding_set("knee-mr-14").keys


@pytest.fixture(scope="module")
def studies() -> list[KneeStudy]:
    return [draw_knee_study(seed, 0, 56) for seed in range(6)]


def at(volume: Volume, points: np.ndarray) -> np.ndarray:
    """Return the nearest voxels' values at points (N, 3) in LPS mm, those outside left out."""
    index = np.rint((np.linalg.inv(volume.affine) @ np.c_[points, np.ones(len(points))].T)[:3]).astype(int)
    inside = (index >= 0).all(axis=0) & (index < np.array(volume.shape)[:, None]).all(axis=0)
    return np.asarray(volume.array[tuple(index[:, inside])])


def points_of(study: KneeStudy, key: str) -> np.ndarray:
    index = np.argwhere(study.masks[key])
    return np.asarray((study.affine @ np.c_[index, np.ones(len(index))].T)[:3].T)


class TestAStudy:
    def test_is_the_same_for_the_same_seed(self, studies: list[KneeStudy]) -> None:
        again = draw_knee_study(1, 0, 56)
        assert again.report == studies[1].report
        for key, volume in studies[1].volumes.items():
            np.testing.assert_array_equal(again.volumes[key].array, volume.array)

    def test_has_thick_slices_in_the_plane_of_its_name_a_little_oblique(self, studies: list[KneeStudy]) -> None:
        for study in studies:
            for (_, plane), volume in study.volumes.items():
                assert plane_of(volume) == plane
                assert max(volume.spacing) > 1.2 * sorted(volume.spacing)[1]
                turned = np.abs(volume.affine[:3, :3] / volume.spacing).max(axis=0)
                assert 0.9 < turned.min() < 1

    def test_lacks_some_planes_or_sequences_but_never_all(self, studies: list[KneeStudy]) -> None:
        assert all(study.volumes for study in studies)
        assert any(len(study.volumes) < len(PLANES) * len(SEQUENCES) for study in studies)

    def test_has_a_scale_of_its_own_in_each_volume(self, studies: list[KneeStudy]) -> None:
        tops = [float(np.percentile(volume.array, 99)) for study in studies for volume in study.volumes.values()]
        assert max(tops) > 3 * min(tops)

    def test_shows_fluid_bright_in_fat_suppressed_t2_of_every_plane(self, studies: list[KneeStudy]) -> None:
        seen = set()
        for study in studies:
            for (sequence, plane), volume in study.volumes.items():
                if sequence == "t2fs" and "effusion_or_baker_cyst" in study.masks:
                    inside = at(volume, points_of(study, "effusion_or_baker_cyst"))
                    assert np.median(inside) > np.percentile(volume.array, 85)
                    seen.add(plane)
        assert len(seen) >= 2

    def test_has_the_medial_meniscus_on_the_medial_side(self, studies: list[KneeStudy]) -> None:
        found = 0
        for study in studies:
            if "medial_meniscus" in study.masks:
                middle = (study.affine @ [*((np.array(study.masks["medial_meniscus"].shape) - 1) / 2), 1])[0]
                left = points_of(study, "medial_meniscus")[:, 0].mean() > middle
                assert left == (study.patient.side == "right")
                found += 1
        assert found

    def test_has_a_mask_for_what_is_present_and_no_other(self, studies: list[KneeStudy]) -> None:
        for study in studies:
            assert set(study.masks) <= set(LESIONS)
            assert {instance.finding for instance in study.instances} <= set(study.masks)
            assert all(mask.any() for mask in study.masks.values())


def test_every_finding_but_normal_can_be_drawn_and_worded() -> None:
    assert set(LESIONS) == set(GAINS) == set(wording("knee")[0]) == set(KEYS) - {"normal"}


def test_findings_are_neither_rare_nor_the_rule() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_findings(44, rng) for _ in range(600)]
    for key in LESIONS:
        assert 0.05 < np.mean([key in findings for findings in drawn]) < 0.6, key
    assert 0.1 < np.mean([not findings for findings in drawn]) < 0.5
    assert all("bone_marrow_edema" in findings for findings in drawn if "fracture" in findings)


class TestAReport:
    def facts(self, seed: int) -> StudyFacts:
        rng = np.random.default_rng(seed)
        places = {"medial_meniscus": "body", "lateral_meniscus": "posterior horn", "cartilage_defect": "patella",
                  "bone_marrow_edema": "medial femoral condyle", "fracture": "lateral tibial plateau",
                  "effusion_or_baker_cyst": "cyst", "synovitis_or_bursitis": "bursitis"}  # fmt: skip
        found = draw_findings(44, rng)
        instances = tuple(Instance(key, "", places.get(key, ""), 12, severity) for key, severity in found.items())
        return StudyFacts(instances, 44, "F", contrast=False)

    def test_states_no_finding_that_is_not_there_and_denies_none_that_is(self) -> None:
        stated = dict.fromkeys(State, 0)
        for seed in range(150):
            facts = self.facts(seed)
            present = {instance.finding for instance in facts.instances}
            report = write_report(facts, np.random.default_rng(seed), "knee")
            assert set(report.said) == set(KEYS)
            for key in LESIONS:
                stated[report.said[key]] += 1
                if report.said[key] is State.PRESENT:
                    assert key in present
                elif report.said[key] is State.ABSENT:
                    assert key not in present
        assert min(stated.values()) > 20

    def test_is_normal_only_where_it_says_so_and_finds_nothing(self) -> None:
        seen = set()
        for seed in range(150):
            report = write_report(self.facts(seed), np.random.default_rng(seed), "knee")
            others = {state for key, state in report.said.items() if key != "normal"}
            normal = report.said["normal"]
            seen.add(normal)
            assert (normal is State.ABSENT) == bool(others & {State.PRESENT, State.UNCERTAIN})
            if normal is State.PRESENT:
                assert re.search("normal|unremarkable|no internal derangement", report.text, re.IGNORECASE)
        assert seen == {State.PRESENT, State.ABSENT, State.NOT_MENTIONED}

    def test_leaves_no_slot_unfilled(self) -> None:
        for seed in range(150):
            text = write_report(self.facts(seed), np.random.default_rng(seed), "knee").text
            assert not re.search(r"[{}<>\[\]|]|a/an|  ", text), text
            assert "CT" not in text


class TestACohort:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("knees") / "cohort"

    def test_is_written_with_a_column_for_each_image(self, greenrfm: Command, folder: Path) -> None:
        options = ("--matrix", "56", "--workers", "1", "--seed", "3")
        answer = greenrfm("phantoms", "knee", "--studies", "3", "--out", folder, *options, "--json")
        assert answer.code == 0, answer.err
        cohort = read_cohort(folder / "cohort.csv")
        with (folder / "cohort.csv").open(encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream))
        assert {name for name in header if name.startswith("image")} <= {
            f"image_{sequence}_{plane}" for sequence in SEQUENCES for plane in PLANES
        }
        for study in cohort:
            assert study.modality == "MR"
            for column, path in study.images.items():
                assert plane_of(read_volume(path)) == column.rpartition("_")[2]
        truth, said = LabelTable.read(folder / "truth.csv", KEYS), LabelTable.read(folder / "labels.csv", KEYS)
        assert truth.study_ids == said.study_ids == tuple(study.study_id for study in cohort)
        rows = truth.rows(truth.study_ids)
        np.testing.assert_array_equal(rows[:, KEYS.index("normal")] == 1, rows.sum(axis=1) == rows[:, -1])

    def test_of_another_seed_is_not_mixed_in(self, greenrfm: Command, folder: Path) -> None:
        answer = greenrfm("phantoms", "knee", "--studies", "3", "--out", folder, "--matrix", "56", "--seed", "4")
        assert answer.code == 1
        assert "made with other settings" in answer.err
