"""Retrieval in the honest definition and in that of public scripts: who counts, what is a hit, what chance reaches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import Command, one_line, write_csv
from greenrfm.bundle import Bundle
from greenrfm.evaluation import Volumes, evaluate_retrieval, mean_average_precision, recall_at_k, retrieval_measures
from greenrfm.evaluation.public_scripts import label_overlap_with_itself, recall_of_own_row
from greenrfm.evaluation.similar import label_overlap

Floats = NDArray[np.float64]


def some_cohort(seed: int, studies: int = 60) -> tuple[Floats, Floats, Volumes, NDArray[np.int8]]:
    """Return latents of images and texts, who they belong to (two studies a patient), and states."""
    rng = np.random.default_rng(seed)
    states = (rng.random((studies, 4)) < 0.35).astype(np.int8)
    images = rng.normal(size=(studies, 8)) + 2 * states @ rng.normal(size=(4, 8))
    texts = images + rng.normal(size=images.shape)
    volumes = Volumes(tuple(f"p{row // 2}" for row in range(studies)), tuple(f"r{row}" for row in range(studies)))
    return images, texts, volumes, states


def doubled(material: Any) -> Any:
    """Return the cohort with a second reconstruction of every scan: other images of the same report and patient."""
    images, texts, volumes, states = material
    other = images + np.random.default_rng(9).normal(size=images.shape) / 4
    return (
        np.concatenate([images, other]),
        np.concatenate([texts, texts]),
        Volumes(volumes.patients * 2, volumes.reports * 2),
        np.concatenate([states, states]),
    )


# Honest


def test_reconstructions_of_a_report_are_one_query_and_each_of_them_a_hit() -> None:
    images, texts, volumes, states = doubled(some_cohort(0))
    found = evaluate_retrieval(images, texts, volumes, states, bootstraps=0)
    assert (found["n"], found["reports"], found["patients"]) == (120, 60, 30)
    forward, backward = found["honest"]["text_to_image"], found["honest"]["image_to_text"]
    assert (forward["queries"], forward["candidates"]) == (60, 120)
    assert (backward["queries"], backward["candidates"]) == (120, 60)
    order = np.argsort(-(texts[:60] @ images.T), axis=1)
    for k in (1, 5, 10, 50):
        hit = [any(place % 60 == row for place in order[row, :k]) for row in range(60)]
        assert forward[f"recall_at_{k}"] == pytest.approx(np.mean(hit))
    order = np.argsort(-(images @ texts[:60].T), axis=1)
    hit = [row % 60 in order[row, :5] for row in range(120)]
    assert backward["recall_at_5"] == pytest.approx(np.mean(hit))
    # A random draw of 1 of 120 is one of two reconstructions.
    assert forward["chance_recall_at_1"] == pytest.approx(2 / 120)
    assert backward["chance_recall_at_1"] == pytest.approx(1 / 60)


def test_public_recall_calls_the_other_reconstruction_wrong_and_the_honest_one_does_not() -> None:
    images, texts, volumes, _ = doubled(some_cohort(1))
    # The two reconstructions of a scan change places: each text finds its twin first.
    images = images[np.roll(np.arange(120), 60)]
    texts = np.concatenate([images[60:], images[:60]])
    found = evaluate_retrieval(10 * images, texts, volumes, bootstraps=0)
    assert found["honest"]["text_to_image"]["recall_at_1"] > found["as_public_scripts"]["text_to_image"]["recall_at_1"]


def test_volume_to_volume_never_finds_itself_its_patient_or_a_reconstruction() -> None:
    images, _, volumes, states = doubled(some_cohort(2))
    found = evaluate_retrieval(images, None, volumes, states, bootstraps=0)
    alike = found["honest"]["image_to_image"]
    assert (alike["queries"] + alike["without_match"], alike["candidates"]) == (60, 60)
    patients = np.array(volumes.patients[:60])
    other = patients[:, None] != patients[None, :]
    relevant = (label_overlap(states[:60]) >= 0.5) & other
    similarity = np.where(other, images[:60] @ images[:60].T, -np.inf)
    order = np.argsort(-similarity, axis=1)
    findable = [row for row in range(60) if relevant[row].any()]
    for k in (1, 5, 10):
        expected = np.mean([relevant[row, order[row, :k]].any() for row in findable])
        assert alike[f"recall_at_{k}"] == pytest.approx(expected)
    assert found["honest"]["text_to_image"] is found["as_public_scripts"]["text_to_image"] is None


def test_a_latent_that_says_nothing_reaches_exactly_chance() -> None:
    _, _, volumes, states = some_cohort(3)
    found = evaluate_retrieval(np.ones((60, 3)), np.ones((60, 3)), volumes, states, bootstraps=0)
    for direction, measured in found["honest"].items():
        for k in found["ks"]:
            for name in ("recall", "map"):
                assert measured[f"{name}_at_{k}"] == pytest.approx(measured[f"chance_{name}_at_{k}"]), direction


def test_chance_of_volume_to_volume_is_what_random_latents_reach() -> None:
    _, _, volumes, states = some_cohort(4)
    rng = np.random.default_rng(0)
    reached, chance = [], 0.0
    for _ in range(40):
        found = evaluate_retrieval(rng.normal(size=(60, 40)), None, volumes, states, (5,), bootstraps=0)
        reached.append(found["honest"]["image_to_image"]["recall_at_5"])
        chance = found["honest"]["image_to_image"]["chance_recall_at_5"]
    assert np.mean(reached) == pytest.approx(chance, abs=0.03)


def test_k_above_the_number_of_volumes_is_left_out() -> None:
    images, texts, volumes, states = (part[:12] if not isinstance(part, Volumes) else part for part in some_cohort(5))
    own = Volumes(volumes.patients[:12], volumes.reports[:12])
    found = evaluate_retrieval(images, texts, own, states, bootstraps=0)
    assert found["ks"] == [1, 5, 10]
    assert "recall_at_50" not in found["honest"]["text_to_image"]


def test_the_interval_resamples_patients_and_not_volumes() -> None:
    images, texts, _, _ = some_cohort(6)
    reports = tuple(f"r{row % 60}" for row in range(300))

    def width(patients: tuple[str, ...]) -> float:
        volumes = Volumes(patients, reports)
        found = evaluate_retrieval(np.tile(images, (5, 1)), np.tile(texts, (5, 1)), volumes, bootstraps=400)
        low, high = found["honest"]["image_to_text"]["intervals"]["recall_at_5"]
        return float(high - low)

    # Five times the same volume of a patient is worth one; counting it as five patients narrows by sqrt(5).
    honest = width(tuple(f"p{row % 60}" for row in range(300)))
    assert width(tuple(f"p{row}" for row in range(300))) < 0.6 * honest
    one = evaluate_retrieval(images, texts, Volumes(("p",) * 60, reports[:60]), bootstraps=50)
    assert one["honest"]["text_to_image"]["intervals"]["recall_at_5"] is None


def test_map_at_k_by_hand() -> None:
    # Ranking: hit, miss, hit, miss, hit. At 3: (1 + 2/3) / min(3 relevant, 3).
    similarity = np.array([[5.0, 4, 3, 2, 1]])
    relevant = np.array([[1, 0, 1, 0, 1]], bool)
    found = retrieval_measures(similarity, relevant, ks=(1, 3, 5), bootstraps=0)
    assert found["map_at_1"] == 1
    assert found["map_at_3"] == pytest.approx((1 + 2 / 3) / 3)
    assert found["map_at_5"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)
    assert mean_average_precision(similarity, relevant, k=3, bootstraps=0)["map"] == found["map_at_3"]
    assert recall_at_k(similarity, ["a"], list("abaca"), (1, 3), bootstraps=0)["map_at_3"] == found["map_at_3"]


# As public scripts compute it


def ct_clip_volume_to_volume(images: Floats, labels: NDArray[np.int8], ks: tuple[int, ...]) -> list[float]:
    """Follow CT-CLIP's script step by step, with its list that is never emptied."""
    candidates = [row for row in range(len(images)) if labels[row].sum() != 0]
    everything, written = [], []
    for k in ks:
        for row in range(len(images)):
            cosines = [
                float(images[row] @ images[other] / np.linalg.norm(images[row]) / np.linalg.norm(images[other]))
                for other in candidates
            ]
            best = sorted(range(len(candidates)), key=lambda place: cosines[place], reverse=True)[:k]
            ratios = []
            for place in best:
                one, two = labels[row], labels[candidates[place]]
                ratios.append(((one == 1) & (two == 1)).sum() / (one != two).sum().__add__(((one & two) == 1).sum()))
            everything.append(np.mean(ratios))
        written.append(float(np.mean(everything)))
    return written


@pytest.mark.parametrize("seed", range(3))
def test_the_public_map_is_the_scripts_own_number(seed: int) -> None:
    images, _, volumes, states = some_cohort(seed, 40)
    assert volumes.patients is not None
    assert (states.sum(axis=1) == 0).any()
    got = label_overlap_with_itself(images, states, (1, 5, 10), volumes.patients, bootstraps=20)
    assert got is not None
    assert [got[f"as_written_at_{k}"] for k in (1, 5, 10)] == pytest.approx(
        ct_clip_volume_to_volume(images, states, (1, 5, 10))
    )
    assert got["overlap_at_5"] == pytest.approx(ct_clip_volume_to_volume(images, states, (5,))[0])
    # At k = 1 it finds nothing but itself: every volume with a finding scores 1, the others 0.
    assert got["overlap_at_1"] == pytest.approx(states.any(axis=1).mean())
    low, high = got["intervals"]["overlap_at_5"]
    assert low < got["overlap_at_5"] < high


def test_the_public_map_counts_the_query_itself_and_the_honest_one_does_not() -> None:
    rng = np.random.default_rng(7)
    states = np.ones((30, 1), np.int8)
    states[15:] = 0
    images = rng.normal(size=(30, 400))
    volumes = Volumes(tuple(f"p{row}" for row in range(30)), tuple(f"r{row}" for row in range(30)))
    states = np.hstack([states, (rng.random((30, 6)) < 0.3).astype(np.int8)])
    found = evaluate_retrieval(images, None, volumes, states, (1,), alike=1.0, bootstraps=0)
    assert found["as_public_scripts"]["image_to_image"]["overlap_at_1"] > 0.8
    honest = found["honest"]["image_to_image"]
    assert honest is None or honest["recall_at_1"] < 0.5


def test_the_public_recall_is_that_of_the_texts_own_row() -> None:
    rng = np.random.default_rng(8)
    similarity = rng.integers(0, 6, (25, 25)).astype(float)
    got = recall_of_own_row(similarity, (1, 5), [str(row) for row in range(25)], bootstraps=0)
    for k in (1, 5):
        top = [sorted(range(25), key=lambda place: row[place], reverse=True)[:k] for row in similarity]
        assert got[f"recall_at_{k}"] == np.mean([row in found for row, found in enumerate(top)])
        assert got[f"chance_recall_at_{k}"] == k / 25


def test_label_overlap_by_hand() -> None:
    states = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [-1, 1, 0, -2]], np.int8)
    overlap = label_overlap(states)
    assert overlap[0].tolist() == [1, pytest.approx(1 / 3), 0, 1]
    assert overlap[1, 3] == 0
    assert overlap[2, 2] == 1
    np.testing.assert_array_equal(overlap, overlap.T)


# The command


def test_the_command_names_every_definition_and_writes_its_page(
    greenrfm: Command, bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    write_csv(labels, [["study_id", "lung_nodule", "effusion"], ["s1", "1", "0"], ["s2", "1", "1"], ["s3", "", "0"]])
    answer = greenrfm(
        "evaluate", "retrieval", bundle.folder, cohort, "--labels", labels, "--out", tmp_path / "out", "--json"
    )
    assert answer.code == 0
    result = answer.json
    assert (result["n"], result["reports"], result["ks"]) == (3, 3, [1])
    assert set(result["honest"]) == {"text_to_image", "image_to_text", "image_to_image"}
    assert set(result["as_public_scripts"]) == {"text_to_image", "image_to_image"}
    for part in (result["honest"], result["as_public_scripts"]):
        assert all(measured is None or measured["definition"] for measured in part.values())
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    assert "the query counts itself" in page
    assert (tmp_path / "out/recall_at_k.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8")) == result
    text = greenrfm("evaluate", "retrieval", bundle.folder, cohort).out
    assert "text -> image, honest" in text
    assert "image -> image, honest\n  could not be measured" in text


def test_a_label_table_without_a_study_is_one_sentence(
    greenrfm: Command, bundle: Bundle, cohort: Path, tmp_path: Path
) -> None:
    write_csv(tmp_path / "labels.csv", [["study_id", "lung_nodule"], ["s1", "1"]])
    answer = greenrfm("evaluate", "retrieval", bundle.folder, cohort, "--labels", tmp_path / "labels.csv")
    assert answer.code == 1
    assert "no row for study s2" in one_line(answer)
