"""Vision trained alone, on a cohort with labels and no reports: from the study table to a reading and a search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from command_line import Command, make_cohort, one_line, write_csv
from greenrfm.bundle import Bundle, TextEncoder, check
from greenrfm.commands.main import run
from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.networks import VisionAlone, VisionEncoder, VisionExport
from greenrfm.reading import Reader
from greenrfm.training import run as training_run
from greenrfm.training import vram
from greenrfm.training.encoders import load_stage, untrained_vision
from greenrfm.training.initial import begin_vision
from greenrfm.training.precision import make_fabric
from greenrfm.training.recipe import load_recipe, parse_recipe
from greenrfm.volumes import Volume, read_volume, write_volume
from make_tiny_bundle import make_tiny_bundle

SIDE = 28


class TestABundleWithoutText:
    @pytest.fixture(scope="class")
    @staticmethod
    def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
        return make_tiny_bundle(tmp_path_factory.mktemp("alone") / "tiny", text=False)

    @pytest.fixture
    def folder(self, whole: Bundle, tmp_path: Path) -> Path:
        """Return a copy to damage."""
        return Path(shutil.copytree(whole.folder, tmp_path / "tiny"))

    def test_says_so_and_passes_every_check(self, whole: Bundle) -> None:
        manifest = json.loads((whole.folder / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["text"] is None
        assert set(manifest["files"]) == {"vision.onnx", "heads.npz", "reference.npz"}
        loaded = Bundle.load(whole.folder)
        assert (loaded.has_text, loaded.prompts, loaded.latent_size) == (False, None, 4)
        results = {result.name: result for result in check(loaded)}
        assert all(result.ok for result in results.values()), results
        assert results["text"].detail.startswith("none")

    def test_refuses_a_text_in_one_sentence(self, whole: Bundle) -> None:
        with pytest.raises(UserError, match="has no text encoder: it was trained on images and labels alone; give an"):
            TextEncoder(whole)

    def test_whose_manifest_promises_text_is_refused(self, folder: Path) -> None:
        edit(folder, lambda manifest: manifest.update(text={"max_tokens": 8}))
        with pytest.raises(UserError, match=r"'files' lacks 'text\.onnx'"):
            Bundle.load(folder)

    @pytest.mark.parametrize("name", ["text.onnx", "tokenizer.json", "prompts.npz"])
    def test_that_holds_a_file_for_text_is_refused(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes(b"of another bundle")
        with pytest.raises(UserError, match=f"holds {name}, but its manifest says it has no text encoder"):
            Bundle.load(folder, verify=False)
        record = {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
        edit(folder, lambda manifest: manifest["files"].update({name: record}))
        with pytest.raises(UserError, match=f"'files' names '{name}', but 'text' is null"):
            Bundle.load(folder)

    def test_is_not_one_with_text_whose_manifest_denies_it(self, tmp_path: Path) -> None:
        folder = make_tiny_bundle(tmp_path / "tiny").folder
        edit(folder, lambda manifest: manifest.update(text=None))
        with pytest.raises(UserError, match=r"'files' names 'text\.onnx', but 'text' is null"):
            Bundle.load(folder)
        edit(folder, lambda manifest: [manifest["files"].pop(name) for name in TEXT])
        with pytest.raises(UserError, match=r"holds text\.onnx, but its manifest says"):
            Bundle.load(folder)

    def test_whose_latent_has_another_length_than_its_heads_fails_the_check(self, folder: Path) -> None:
        content = dict(np.load(folder / "heads.npz"))
        content["projection"] = np.ones((5, 4), np.float32)
        content["weight"] = np.ones((3, 5), np.float32)
        np.savez(folder / "heads.npz", **content)
        record = {"sha256": sha256(folder / "heads.npz"), "bytes": (folder / "heads.npz").stat().st_size}
        edit(folder, lambda manifest: manifest["files"].update({"heads.npz": record}))
        failed = [result.name for result in check(Bundle.load(folder)) if not result.ok]
        assert failed == ["networks", "test vector", "heat map"]

    def test_with_text_still_needs_768_numbers(self, tmp_path: Path) -> None:
        folder = make_tiny_bundle(tmp_path / "tiny").folder
        shutil.copy(make_tiny_bundle(tmp_path / "alone", text=False).path("heads.npz"), folder)
        record = {"sha256": sha256(folder / "heads.npz"), "bytes": (folder / "heads.npz").stat().st_size}
        edit(folder, lambda manifest: manifest["files"].update({"heads.npz": record}))
        with pytest.raises(UserError, match="'projection' is float32 4 × 4, it must be finite float32 768 × any"):
            Bundle.load(folder)

    def test_fills_a_library_that_is_searched_by_image_only(
        self, greenrfm: Command, whole: Bundle, tmp_path: Path
    ) -> None:
        cohort, library = make_cohort(tmp_path), tmp_path / "library"
        assert greenrfm("library", "add", library, cohort, "--bundle", whole.folder).code == 0
        assert greenrfm("library", "info", library, "--json").json["dimension"] == 4
        query = ("library", "search", library, "--bundle", whole.folder)
        hits = greenrfm(*query, "--image", tmp_path / "s2.nii.gz", "--json").json
        latent = Reader(whole, threads=1).read(read_volume(tmp_path / "s2.nii.gz")).latent
        assert {hit["study"]: hit["score"] for hit in hits}["s2"] == pytest.approx(float(latent @ latent), rel=1e-3)
        answer = greenrfm(*query, "--text", "lung nodule")
        assert answer.code == 1
        assert "has no text encoder" in one_line(answer)
        assert "text: none" in greenrfm("bundle", "info", whole.folder).out
        assert greenrfm("bundle", "info", whole.folder, "--json").json["text"] is None
        assert greenrfm("bundle", "check", whole.folder).code == 0
        answer = greenrfm("evaluate", "retrieval", whole.folder, cohort)
        assert "has no text encoder" in one_line(answer)


TEXT = ("text.onnx", "tokenizer.json", "prompts.npz")


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def own_cohort(folder: Path, studies: int = 40) -> list[str]:
    """Write glands of 28³ voxels, every second one thick, in a cohort without a column of reports; return arguments."""
    rng = np.random.default_rng(0)
    grid = np.indices((SIDE, SIDE, SIDE)) - SIDE / 2
    cohort, labels = [["study_id", "patient_id", "image", "split", "modality"]], [["study_id", "hyperplasia"]]
    for index in range(studies):
        present = index % 2
        centre = rng.uniform(-3, 3, 3).reshape(3, 1, 1, 1)
        mask = (np.abs(grid - centre) < np.array([10, 3 + 4 * present, 5]).reshape(3, 1, 1, 1)).all(axis=0)
        write_volume(Volume(mask.astype(np.int16), np.diag([2.2857] * 3 + [1.0]), "CT"), folder / f"s{index}.nii.gz")
        split = "validation" if index % 10 < 2 else "train"
        cohort.append([f"s{index}", f"p{index}", f"s{index}.nii.gz", split, "CT"])
        labels.append([f"s{index}", str(present)])
    write_csv(folder / "cohort.csv", cohort)
    write_csv(folder / "labels.csv", labels)
    finding = {"key": "hyperplasia", "name": "Adrenal hyperplasia", "synonyms": ["adrenal gland hyperplasia"]}
    findings = {"name": "adrenal", "title": "Adrenal", "modality": "CT", "body_part": "adrenal gland"}
    (folder / "adrenal.yaml").write_text(yaml.safe_dump({**findings, "findings": [finding]}), encoding="utf-8")
    return [
        "train", str(folder / "cohort.csv"), "--labels", str(folder / "labels.csv"),
        "--findings", str(folder / "adrenal.yaml"), "--cache", str(folder / "cache"),
    ]  # fmt: skip


def small_recipe(folder: Path, name: str, **network: Any) -> Path:
    content = load_recipe("adrenal").model_dump(mode="json", exclude={"preprocessing"})
    content["preprocessing"] = load_recipe("adrenal").preprocessing.to_dict()
    content["network"] |= {"width": 4, **network}
    content["stage1_vision"] |= {"epochs": 1, "batch": 8}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder / f"{name}.yaml"


class TestARunWithoutReports:
    @pytest.fixture(scope="class")
    @staticmethod
    def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
        """Return the folder of a finished run `run`, and the arguments that name its cohort."""
        folder = tmp_path_factory.mktemp("cohort")
        arguments = own_cohort(folder)
        recipe = small_recipe(folder, "own", dilated_export=True)
        assert run([*arguments, "--recipe", str(recipe), "--out", str(folder / "run")]) == 0
        return folder, arguments

    def test_trains_one_stage_and_writes_a_bundle_that_says_so(self, made: tuple[Path, list[str]]) -> None:
        folder = made[0]
        assert [path.name for path in (folder / "run").glob("*.pt")] == ["stage1_vision.pt"]
        bundle = Bundle.load(folder / "run" / "bundle")
        assert all(result.ok for result in check(bundle)), check(bundle)
        assert not bundle.has_text
        np.testing.assert_array_equal(bundle.projection, np.eye(32, dtype=np.float32))
        metrics = bundle.manifest.metrics
        assert metrics["against"] == "the labels"
        assert metrics["findings"]["hyperplasia"]["n"] == 8
        network = bundle.manifest.training["recipe"]["network"]
        assert network["text_encoder"] is None

    def test_reads_what_torch_computes_and_its_heat_map_averages_to_the_logit(
        self, made: tuple[Path, list[str]]
    ) -> None:
        folder = made[0]
        recipe = load_recipe(str(folder / "own.yaml"))
        bundle = Bundle.load(folder / "run" / "bundle")
        volume = read_volume(folder / "s3.nii.gz")
        reading = Reader(bundle, threads=1).read(volume, heatmaps=True, field="padded")
        stage1 = load_stage(untrained_vision(recipe, 1), folder / "run" / "stage1_vision.pt").eval()
        field = torch.from_numpy(recipe.preprocessing.apply(volume).array)[None, None]
        with torch.no_grad():
            logit = float(stage1(field))
            latent = VisionExport(VisionAlone(stage1), dilated=True)(field)[0][0].numpy()
        assert reading.scores[0].logit == pytest.approx(logit, abs=1e-4)
        np.testing.assert_allclose(reading.latent, latent, atol=1e-4)
        assert reading.heatmaps is not None
        pooled = reading.heatmaps["hyperplasia"][::2, ::2, ::2]
        assert float(pooled.mean(dtype=np.float64)) == pytest.approx(logit, abs=1e-4)

    def test_is_where_another_begins(self, made: tuple[Path, list[str]]) -> None:
        folder = made[0]
        recipe = load_recipe(str(small_recipe(folder, "finer", vision_weights="run")))
        stage1 = load_stage(untrained_vision(recipe, 1), folder / "run" / "stage1_vision.pt")
        begun = begin_vision(VisionEncoder(4, 2), recipe)
        for name, tensor in stage1.encoder.state_dict().items():
            assert torch.equal(begun.state_dict()[name], tensor), name

    def test_that_trained_to_the_end_trains_no_more(
        self, greenrfm: Command, made: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def stop(model: VisionAlone, *rest: object) -> None:
            raise UserError(f"exports {type(model).__name__}")

        folder, arguments = made
        monkeypatch.setattr(training_run, "finish_bundle", stop)
        monkeypatch.setattr(training_run, "train_vision", None)
        more = ("--recipe", folder / "own.yaml", "--out", folder / "run")
        assert "already holds a run" in greenrfm(*arguments, *more).err
        assert "exports VisionAlone" in greenrfm(*arguments, *more, "--resume").err

    def test_has_no_text_encoder_to_begin_from(self, made: tuple[Path, list[str]]) -> None:
        content = {
            **load_recipe("lite").model_dump(mode="json", exclude={"preprocessing"}),
            "preprocessing": "chest-ct",
        }
        content["network"]["text_encoder"] = str(made[0] / "run")
        with pytest.raises(UserError, match="trained vision alone and has no text encoder; name minilm or a folder"):
            parse_recipe(content, "mine.yaml")


def test_a_recipe_with_text_asks_for_reports_and_names_the_way_without(greenrfm: Command, tmp_path: Path) -> None:
    arguments = own_cohort(tmp_path, studies=20)
    content = {
        **load_recipe("lite").model_dump(mode="json", exclude={"preprocessing"}),
        "preprocessing": load_recipe("adrenal").preprocessing.to_dict(),
    }
    (tmp_path / "text.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    answer = greenrfm(*arguments, "--recipe", tmp_path / "text.yaml", "--out", tmp_path / "run")
    assert answer.code == 1
    assert "has no report; alignment needs one" in answer.err
    assert "leave stage1_text and stage2 out of the recipe" in answer.err


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux measures a CPU's peak")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_measured_without_a_text_encoder(tmp_path: Path, checkpointing: bool) -> None:
    recipe = load_recipe(str(small_recipe(tmp_path, "own")))
    found = vram._step(recipe, 1, 2, checkpointing, make_fabric("32-true"))
    assert found.peak > 0
