"""The demo on a small cohort: its page and its numbers."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from transformers import BertConfig, BertModel

from greenrfm.bundle import Bundle, TextEncoder
from greenrfm.cohort import read_cohort
from greenrfm.commands.demo import run_demo
from greenrfm.commands.demo.clock import Clock
from greenrfm.commands.demo.verdicts import verdicts
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable
from greenrfm.library import CaseLibrary
from greenrfm.networks import text_encoder_folder, tokenizer_file
from greenrfm.progress import silent
from greenrfm.reading import Reader
from greenrfm.volumes import read_volume

pytestmark = pytest.mark.timeout(300)
STUDIES, SEED, MATRIX = 120, 4, 48
# The topology of the paper, one epoch: it learns nothing, which the page must say.
RECIPE = """
name: one-epoch
description: for tests
preprocessing: {spacing: [4, 4, 6], size: [96, 96, 56], crop: [88, 88, 48],
                intensity: window, window: [-1000, 200], shift: 400, scale: 600}
network: {width: 4, stem: [4, 4, 4], vision_weights: random, text_encoder: BERT, max_tokens: 128}
labels: {not_mentioned_weight: 1.0}
stage1_vision: {epochs: 1, batch: 8, rate: 1.0e-3}
stage1_text: {epochs: 1, batch: 16, rate: 1.0e-3}
stage2: {epochs: 1, batch: 16, rate: 1.0e-4}
"""


def small_bert(folder: Path) -> Path:
    """Write an untrained BERT of one layer with MiniLM's tokenizer: the real one would cost this test a minute."""
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(SEED)
    BertModel(config).save_pretrained(folder)
    shutil.copy(tokenizer_file(text_encoder_folder("minilm")), folder)
    return folder


class Demo:
    """A finished demo, what it said and which stages reported."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.recipe = folder / "one-epoch.yaml"
        self.recipe.write_text(RECIPE.replace("BERT", str(small_bert(folder / "bert"))), encoding="utf-8")
        self.said: list[str] = []
        self.stages: dict[str, tuple[int, int]] = {}
        self.run()
        self.page = (self.out / "index.html").read_text(encoding="utf-8")
        self.summary: dict[str, Any] = json.loads((self.out / "summary.json").read_text(encoding="utf-8"))

    def run(self, **changed: Any) -> None:
        """Run the demo, or go on with it."""
        settings = {"seed": SEED, "studies": STUDIES, "recipe": str(self.recipe), "matrix": MATRIX, **changed}
        run_demo(self.out, progress=self._progress, say=self.said.append, **settings)

    def _progress(self, stage: str, done: int, total: int, metrics: Any = None) -> None:
        self.stages[stage] = (done, total)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("demo"))


def table(path: str) -> tuple[list[str], list[str], np.ndarray]:
    """Read a CSV with nothing but the standard library: columns, study ids, values of the finding columns."""
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name not in ("study_id", "patient_id")]
    return columns, [row["study_id"] for row in rows], np.array([[float(row[key]) for key in columns] for row in rows])


def test_anyone_recomputes_the_macro_auc_from_the_two_tables(demo: Demo) -> None:
    keys, studies, scores = table(demo.summary["scores"])
    truth_keys, truth_studies, truth = table(demo.summary["truth"])
    assert (keys, studies) == (truth_keys, truth_studies)
    assert set(np.unique(truth)) <= {0.0, 1.0}
    both = [column for column in range(len(keys)) if 0 < truth[:, column].sum() < len(truth)]
    areas = [roc_auc_score(truth[:, column], scores[:, column]) for column in both]
    assert demo.summary["macro_auc"] == pytest.approx(np.mean(areas))
    assert {keys[column] for column in both} == set(keys) - set(demo.summary["left_out_of_macro_auc"])


def test_the_tables_hold_exactly_the_held_out_studies_with_their_true_state(demo: Demo) -> None:
    cohort = read_cohort(demo.out / "cohort" / "cohort.csv")
    keys, studies, truth = table(demo.summary["truth"])
    assert studies == sorted(study.study_id for study in cohort.by_split("test"))
    shown = LabelTable.read(demo.out / "cohort" / "truth.csv").select(keys).rows(studies)
    assert np.array_equal(shown, truth)
    assert demo.summary["n_test"] == len(studies)


def test_the_scores_are_those_of_the_bundle_reading_the_file(demo: Demo) -> None:
    keys, studies, scores = table(demo.summary["scores"])
    volume = read_volume(demo.out / "cohort" / "volumes" / f"{studies[0]}.nii.gz")
    reading = Reader(Bundle.load(Path(demo.summary["bundle"]))).read(volume)
    assert [score.key for score in reading.scores] == keys
    assert [score.probability for score in reading.scores] == pytest.approx(scores[0].tolist(), abs=1e-6)
    assert "generated phantoms" in reading.notice
    assert "mean nothing" in reading.notice


def test_recall_is_that_of_the_bundle_s_own_encoders(demo: Demo) -> None:
    bundle = Bundle.load(Path(demo.summary["bundle"]))
    test = sorted(read_cohort(demo.out / "cohort" / "cohort.csv").by_split("test"), key=lambda study: study.study_id)
    reader = Reader(bundle)
    volumes = np.stack([reader.read(read_volume(study.images["image"])).latent for study in test])
    products = TextEncoder(bundle).encode([study.report for study in test]) @ volumes.T
    place = (products > np.diag(products)[:, None]).sum(axis=1)
    assert demo.summary["recall_at_5"] == pytest.approx(np.mean(place < 5))
    assert demo.summary["chance_recall_at_5"] == pytest.approx(5 / len(test))


def test_calibration_stands_beside_that_of_a_perfect_model(demo: Demo) -> None:
    _, _, scores = table(demo.summary["scores"])
    _, _, truth = table(demo.summary["truth"])
    said, found = scores.ravel(), truth.ravel()
    tenth = np.minimum((said * 10).astype(int), 9)
    gaps = [abs((found - said)[tenth == number].sum()) for number in range(10)]
    assert demo.summary["ece"] == pytest.approx(sum(gaps) / len(said))
    assert demo.summary["n_pairs"] == len(said)
    low, high = demo.summary["intervals"]["perfect_ece"]
    assert 0 < low < demo.summary["perfect_ece"] < high
    assert f"{demo.summary['ece']:.3f}" in demo.page
    assert f"{demo.summary['perfect_ece']:.3f}" in demo.page


def test_volumes_search_volumes_of_other_patients_beside_chance(demo: Demo) -> None:
    alike = demo.summary["retrieval"]["honest"]["image_to_image"]
    assert alike["candidates"] == demo.summary["n_test"]
    assert demo.summary["image_to_image_recall_at_5"] == alike["recall_at_5"]
    low, high = demo.summary["intervals"]["image_to_image_recall_at_5"]
    assert low <= alike["recall_at_5"] <= high
    assert f"{alike['chance_recall_at_5']:.3f}" in demo.page


def test_label_f1_counts_every_entry_that_the_reports_leave_open_as_absent(demo: Demo) -> None:
    truth = LabelTable.read(demo.out / "cohort" / "truth.csv")
    labels = LabelTable.read(demo.out / "labels.csv").rows(truth.study_ids)
    scores = [
        f1_score(truth.states[:, column] == 1, labels[:, column] == 1)
        for column in range(len(truth.keys))
        if (truth.states[:, column] == 1).any()
    ]
    assert demo.summary["label_macro_f1"] == pytest.approx(np.mean(scores))
    assert (demo.out / "labels.evidence.jsonl").is_file()


def test_the_page_needs_nothing_beside_it(demo: Demo) -> None:
    assert not re.search(r"https?://", demo.page)
    assert not re.search(r"<(script|link|iframe)\b|@import|url\(", demo.page)
    sources = re.findall(r'src="([^"]*)"', demo.page)
    assert len(sources) >= 5
    assert all(re.match(r"data:image/(svg\+xml|jpeg|png);base64,[A-Za-z0-9+/]{500,}", source) for source in sources)
    assert len(demo.page) < 8_000_000


def test_the_page_says_what_it_is_and_what_it_is_not(demo: Demo) -> None:
    assert "Research software, not for diagnostic use" in demo.page
    assert "one-epoch" in demo.page
    assert "width 4 instead of 64" in demo.page
    assert "phantoms" in demo.page


def test_an_untrained_model_keeps_no_promise_and_the_page_says_so(demo: Demo) -> None:
    judged = [item["met"] for item in demo.summary["criteria"]]
    assert len(judged) == 5
    assert not judged[0]
    assert demo.page.count("NOT met") == judged.count(False)


def calibration(ece: float | None, pairs: int) -> dict[str, Any]:
    """Return what `verdicts` takes of a pooled calibration."""
    perfect = {"ece": 0.02, "interval": [0.01, 0.03]}
    return {"ece": ece, "pairs": pairs, "intervals": {"ece": [0.0, 0.1]}, "perfect": perfect}


@pytest.mark.parametrize(
    ("auc", "recall", "hits", "interval", "ece", "pairs", "met"),
    [
        (0.90, 0.25, 0.41, [0.05, 0.3], 0.05, 1000, [True, True, True, True, True]),
        (0.89, 0.24, 0.39, [0.05, 0.3], 0.051, 1000, [False, False, False, True, False]),
        (0.95, 0.30, 0.90, [-0.01, 0.9], 0.01, 999, [True, True, False, False, False]),
        (None, 0.30, 0.90, None, None, 0, [False, True, False, False, False]),
    ],
)
def test_each_promise_is_judged_by_its_own_number(
    auc: float | None,
    recall: float,
    hits: float,
    interval: list[float] | None,
    ece: float | None,
    pairs: int,
    met: list[bool],
) -> None:
    macro = {"auroc": auc, "intervals": {"auroc": None}, "findings": 3}
    found = {"recall_at_5": recall, "chance_recall_at_5": 0.05, "intervals": {"recall_at_5": [0.1, 0.4]}}
    maps = {
        "hit_rate": hits,
        "chance": 0.2,
        "above_chance": hits - 0.2,
        "n": 9,
        "intervals": {"above_chance": interval},
    }
    baseline = {"macro": {"auroc": auc and auc - 0.15, "intervals": {"auroc": None}}}
    said = calibration(ece, pairs)
    judged = verdicts({"macro": macro, "n": 9, "patients": 8}, {**found, "candidates": 100}, maps, baseline, said)
    assert [item.met for item in judged] == met


def test_without_any_heat_map_the_third_promise_is_not_met() -> None:
    macro = {"auroc": 1.0, "intervals": {"auroc": [1.0, 1.0]}, "findings": 1}
    found = {"recall_at_5": 1.0, "chance_recall_at_5": 0.1, "intervals": {"recall_at_5": None}, "candidates": 50}
    model, said = {"macro": macro, "n": 9, "patients": 8}, calibration(0.01, 5000)
    assert not verdicts(model, found, None, {"macro": macro}, said)[2].met


def test_the_library_holds_the_training_studies_and_no_held_out_patient(demo: Demo) -> None:
    cohort = read_cohort(demo.out / "cohort" / "cohort.csv")
    bundle = Bundle.load(Path(demo.summary["bundle"]))
    with CaseLibrary.open(demo.summary["library"], bundle.hash) as library:
        assert library.study_ids() == sorted(study.study_id for study in cohort.by_split("train"))
        assert library.get(library.study_ids()[0]).thumbnail.startswith(b"\x89PNG")


def test_it_ends_with_where_things_are_and_how_to_read_one_s_own_scan(demo: Demo) -> None:
    text = "\n".join(demo.said[:4])
    for name in (demo.out / "index.html", demo.summary["bundle"], demo.summary["library"]):
        assert str(name) in text
    command = shlex.split(demo.said[3].splitlines()[-1])
    assert Path(command[0]).is_file()
    assert command[-3:] == ["read", demo.summary["bundle"], "your_scan.nii.gz"]


def test_every_stage_reported_its_end(demo: Demo) -> None:
    assert [stage for stage, (done, total) in demo.stages.items() if done != total] == []
    for stage in ("generate studies", "distil reports", "stage 2 align", "control: shuffled labels", "export"):
        assert stage in demo.stages
        assert stage in demo.page
    assert demo.summary["seconds"] > 0
    assert demo.summary["peak_rss_mb"] > 100


def test_a_demo_with_other_settings_is_refused(demo: Demo, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other settings"):
        demo.run(seed=SEED + 1)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        run_demo(tmp_path, seed=1, studies=9, progress=silent, say=print, recipe=str(demo.recipe))


def test_a_killed_demo_goes_on_and_comes_to_the_same_numbers(demo: Demo) -> None:
    for name in ("index.html", "summary.json", "run/stage2.pt", "library/library.json"):
        (demo.out / name).unlink()
    trained = (demo.out / "run" / "stage1_vision.pt").stat().st_mtime_ns
    demo.run()
    again = json.loads((demo.out / "summary.json").read_text(encoding="utf-8"))
    assert (demo.out / "run" / "stage1_vision.pt").stat().st_mtime_ns == trained
    assert again["resumed"]
    for name in ("macro_auc", "recall_at_5", "heatmap_hit_rate", "label_macro_f1", "shuffled_macro_auc"):
        assert again[name] == pytest.approx(demo.summary[name], abs=1e-6), name


def test_the_clock_s_stages_add_up_to_the_whole() -> None:
    calls: list[tuple[str, int]] = []
    clock = Clock(lambda stage, done, total, metrics=None: calls.append((stage, done)))
    for stage, done in (("a", 1), ("b", 1), ("a", 2)):
        clock(stage, done, 2)
    assert calls == [("a", 1), ("b", 1), ("a", 2)]
    assert [cost.name for cost in clock.costs] == ["a", "b"]
    assert sum(cost.seconds for cost in clock.costs) == pytest.approx(clock.seconds, abs=0.05)
