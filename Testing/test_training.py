"""Training: losses, recipes, stages, and the full-width networks from a step to a reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from greenrfm.cohort import Cohort, Study
from greenrfm.errors import UserError
from greenrfm.findings import LabelTable, State, load_finding_set
from greenrfm.progress import silent
from greenrfm.reading import Reader
from greenrfm.training.losses import contrastive, masked_bce, targets_and_weights
from greenrfm.training.recipe import load_recipe, packaged_recipes, parse_recipe
from greenrfm.training.run import train
from greenrfm.training.volumes import Crops
from greenrfm.volumes import Volume, read_volume, write_volume

KEYS = ("pleural_effusion", "consolidation")


def test_masked_bce_is_the_mean_over_the_entries_that_count():
    states = torch.tensor([[1, 0, -1, -2], [0, -1, 1, -2]])
    logits = torch.randn(2, 4)
    targets, weights = targets_and_weights(states, not_mentioned=0.0)
    known = (states == 1) | (states == 0)
    expected = functional.binary_cross_entropy_with_logits(logits[known], (states[known] == 1).float())
    torch.testing.assert_close(masked_bce(logits, targets, weights), expected)


def test_uncertain_has_no_gradient_and_cannot_unbound_the_loss():
    logits = torch.full((1, 1), -1000.0, requires_grad=True)
    targets, weights = targets_and_weights(torch.tensor([[int(State.UNCERTAIN)]]), not_mentioned=1.0)
    loss = masked_bce(logits, targets, weights)
    loss.backward()
    assert float(loss) == 0
    assert float(logits.grad) == 0


def test_not_mentioned_counts_as_absent_with_its_weight():
    logits = torch.tensor([[2.0, 2.0]])
    targets, weights = targets_and_weights(torch.tensor([[0, -2]]), not_mentioned=0.5)
    assert targets.tolist() == [[0, 0]]
    assert weights.tolist() == [[1, 0.5]]
    torch.testing.assert_close(masked_bce(logits, targets, weights), functional.softplus(torch.tensor(2.0)))


def test_contrastive_is_symmetric_on_raw_products():
    vision, text = torch.randn(5, 8), torch.randn(5, 8)
    products = vision @ text.T
    rows = -torch.log_softmax(products, 1).diagonal().mean()
    columns = -torch.log_softmax(products, 0).diagonal().mean()
    torch.testing.assert_close(contrastive(vision, text), (rows + columns) / 2)
    assert not torch.isclose(contrastive(3 * vision, text), contrastive(vision, text))  # norms are not divided out


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_loads(name):
    assert load_recipe(name).name == name


def test_an_unknown_recipe_key_names_the_nearest_one():
    content = load_recipe("lite").model_dump(mode="json", exclude={"preprocessing"})
    content["preprocessing"] = "chest-ct"
    content["stage2"]["epoch"] = 3
    with pytest.raises(UserError, match="did you mean 'epochs'"):
        parse_recipe(content, "mine.yaml")


def cohort_of(folder: Path, studies: int, shape: tuple[int, int, int]) -> tuple[Cohort, LabelTable]:
    """Write volumes with a bright slab where a report says effusion, and return cohort and labels."""
    rng = np.random.default_rng(0)
    rows, states = [], []
    for index in range(studies):
        present = index % 2
        array = rng.normal(-700, 30, shape).astype(np.int16)
        array[-8:, :, :12] += np.int16(700 * present)
        image = folder / f"s{index}.nii.gz"
        write_volume(Volume(array, np.diag([3.0, 3.0, 4.0, 1.0]), "CT"), image)
        report = "Pleural effusion is seen." if present else "No pleural effusion."
        split = ("train", "train", "train", "train", "validation")[index // 2 % 5]
        rows.append(Study(f"s{index}", f"p{index}", {"image": image}, report, split, "CT"))
        states.append([present, 1 - present])
    labels = LabelTable(tuple(row.study_id for row in rows), KEYS, np.array(states, np.int8))
    return Cohort(folder / "cohort.csv", tuple(rows)), labels


def small_recipe(name: str = "lite", **network: object) -> object:
    content = load_recipe(name).model_dump(mode="json", exclude={"preprocessing"})
    size = [72, 72, 72] if name == "lite" else [40, 40, 40]
    content["preprocessing"] = {
        "spacing": [3.0, 3.0, 4.0], "size": size, "crop": [s - 4 for s in size],
        "intensity": "window", "window": [-1000.0, 200.0], "shift": 400.0, "scale": 600.0,
    }  # fmt: skip
    content["network"] |= network
    for stage in ("stage1_vision", "stage1_text", "stage2"):
        content[stage] |= {"epochs": 1, "batch": 8}
    return parse_recipe(content, "test")


@pytest.mark.parametrize("name", ["lite", "performant"])
def test_the_full_width_networks_train_export_and_read(name, tmp_path):
    cohort, labels = cohort_of(tmp_path, 20, (40, 40, 30))
    findings = load_finding_set("chest-ct-18").subset(KEYS)
    recipe = small_recipe(name, text_layers_frozen=5)
    result = train(cohort, labels, findings, recipe, tmp_path / "run", seed=0, resume=False, progress=silent)
    reading = Reader(result.bundle).read(read_volume(tmp_path / "s0.nii.gz"), heatmaps=True, field="padded")
    assert [score.key for score in reading.scores] == list(findings.keys)
    logits = [score.logit for score in reading.scores]
    np.testing.assert_allclose(reading.heatmaps.values.mean(axis=(1, 2, 3)), logits, atol=1e-4)
    assert result.bundle.projection.shape == (768, 512)


class TestARun:
    @pytest.fixture(scope="class")
    def parts(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("cohort")
        cohort, labels = cohort_of(folder, 20, (40, 40, 30))
        return folder, cohort, labels, load_finding_set("chest-ct-18").subset(KEYS)

    @pytest.fixture(scope="class")
    def run(self, parts):
        folder, cohort, labels, findings = parts
        recipe = small_recipe("performant", width=8, text_layers_frozen=6)
        return folder / "run", train(
            cohort, labels, findings, recipe, folder / "run", seed=0, resume=False, progress=silent
        )

    def test_goes_on_only_if_asked(self, parts, run):
        _, cohort, labels, findings = parts
        recipe = small_recipe("performant", width=8, text_layers_frozen=6)
        with pytest.raises(UserError, match="--resume"):
            train(cohort, labels, findings, recipe, run[0], seed=0, resume=False, progress=silent)
        with pytest.raises(UserError, match="another recipe, seed"):
            train(cohort, labels, findings, recipe, run[0], seed=1, resume=True, progress=silent)

    def test_puts_no_study_into_the_bundle(self, run):
        _, result = run
        travelling = result.bundle.reference()["input"]
        volumes = sorted((run[0] / "prepared").rglob("*.b2nd"))
        assert len(volumes) == 20
        for field in Crops(volumes, (36, 36, 36)).fields(range(20)):
            assert abs(np.corrcoef(field.ravel(), travelling.ravel())[0, 1]) < 0.05
        manifest = (result.bundle.folder / "manifest.json").read_text(encoding="utf-8")
        assert str(Path.home()) not in manifest
        assert '"p0"' not in manifest

    def test_repeats_no_finished_stage(self, parts, run):
        _, cohort, labels, findings = parts
        recipe = small_recipe("performant", width=8, text_layers_frozen=6)
        before = {path.name: path.stat().st_mtime_ns for path in run[0].glob("*.pt")}
        assert set(before) == {"stage1_vision.pt", "stage1_text.pt", "stage2.pt"}
        seen: set[str] = set()
        train(
            cohort, labels, findings, recipe, run[0], seed=0, resume=True,
            progress=lambda stage, done, total, metrics=None: seen.add(stage),
        )  # fmt: skip
        assert {path.name: path.stat().st_mtime_ns for path in run[0].glob("*.pt")} == before
        assert not any(stage.startswith("stage") for stage in seen)

    def test_stage_2_starts_from_stage_1(self, run):
        folder, _ = run
        stage1 = torch.load(folder / "stage1_vision.pt", weights_only=True)
        stage2 = torch.load(folder / "stage2.pt", weights_only=True)
        name = "net.layer4.1.conv2.weight"
        # One epoch at 1e-5 moves no weight by more than a step or two of Adam.
        assert (stage1[f"encoder.{name}"] - stage2[f"vision.{name}"]).abs().max() < 1e-4

    def test_stage_2_refuses_to_start_without_stage_1(self, parts, tmp_path):
        from greenrfm.training.align import train_alignment
        from greenrfm.training.precision import make_fabric
        from greenrfm.training.run import training_set
        from greenrfm.training.session import Session

        _, cohort, labels, _ = parts
        studies = cohort.by_split("train").studies
        recipe = small_recipe("performant", width=8, text_layers_frozen=6)
        data = training_set(studies, [], labels.rows(study.study_id for study in studies), recipe)
        with pytest.raises(UserError, match="does not exist; run the stage"):
            train_alignment(
                make_fabric(), recipe, data, tmp_path / "no.pt", tmp_path / "no.pt", seed=0, session=Session()
            )

    def test_a_missing_volume_stops_the_run_by_name(self, parts, tmp_path):
        _, cohort, labels, findings = parts
        lost = Study("s0", "p0", {"image": tmp_path / "gone.nii.gz"}, "No effusion.", "train", "CT")
        broken = Cohort(cohort.path, (lost, *cohort.studies[1:]))
        with pytest.raises(UserError, match=r"s0.*gone\.nii\.gz"):
            train(broken, labels, findings, small_recipe(), tmp_path / "r", seed=0, resume=False, progress=silent)

    def test_the_same_seed_gives_the_same_weights(self, parts, run, tmp_path):
        _, cohort, labels, findings = parts
        recipe = small_recipe("performant", width=8, text_layers_frozen=6)
        again = train(cohort, labels, findings, recipe, tmp_path / "r", seed=0, resume=False, progress=silent)
        np.testing.assert_array_equal(again.bundle.weight, run[1].bundle.weight)
        np.testing.assert_array_equal(again.bundle.projection, run[1].bundle.projection)
