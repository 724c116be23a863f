"""Checkpoints of the public GreenRFM code become bundles that compute what that code computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from command_line import Command
from greenrfm.bundle import NOT_CALIBRATED_BUNDLE, Bundle, TextEncoder, check
from greenrfm.errors import UserError
from greenrfm.findings import Finding, FindingSet
from greenrfm.findings.sets import PromptPair
from greenrfm.training.public_checkpoint import import_checkpoint
from greenrfm.training.public_names import read_public
from greenrfm.volumes import Preprocessing
from public_model import MultiPlaneNet, PublicModel, VideoResNet, small_bert, trained

FINDINGS = FindingSet(
    "pair",
    "Pair",
    "CT",
    "chest",
    (Finding("lung_nodule", "Lung nodule"), Finding("emphysema", "Emphysema")),
    (PromptPair("{x}.", "not {x}."), PromptPair("There is {x}.", "There is no {x}.")),
)
SMALL = Preprocessing((3.0, 3.0, 3.0), (40, 40, 32), (40, 36, 32), "window", (-1000.0, 200.0), None, 400.0, 600.0)
WIDTH = 4


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("text") / "bert"
    return folder, small_bert(folder)


@pytest.fixture(scope="module")
def model(bert: tuple[Path, Any]) -> PublicModel:
    torch.manual_seed(4)
    return trained(PublicModel(VideoResNet(WIDTH, (2, 2, 2)), 8 * WIDTH, bert[1], 2))


@pytest.fixture(scope="module")
def imported(model: PublicModel, bert: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return the bundle of a checkpoint as training/alignment.py saves it."""
    folder = tmp_path_factory.mktemp("imported")
    optimizer = torch.optim.AdamW(model.parameters())
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 4}
    torch.save(state, folder / "checkpoint_epoch_5.pt")
    done = import_checkpoint(
        folder / "checkpoint_epoch_5.pt", folder / "bundle", FINDINGS, SMALL, text_encoder=str(bert[0])
    )
    assert {"optimizer", "epoch", "logit_scale"} <= set(done.ignored)
    assert all(name in {"optimizer", "epoch", "logit_scale"} or ".pooler." in name for name in done.ignored)
    return done.bundle


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def theirs(volume: np.ndarray) -> Tensor:
    """Return our (N, C, H, W, D) as the public code's (N, C, D, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(volume.transpose(0, 1, 4, 2, 3)))


def test_the_imported_network_gives_the_latent_and_logits_of_the_public_one(
    imported: Bundle, model: PublicModel
) -> None:
    volume = np.random.default_rng(1).uniform(-1, 1, (2, 1, 36, 48, 40)).astype(np.float32)
    with torch.no_grad():
        expected = model.encode_image(theirs(volume))
        logits = model.classifier(expected).numpy()
    (latent,) = imported.vision().run(["latent"], {"volume": volume})
    np.testing.assert_allclose(latent, expected.numpy(), atol=1e-4 * np.abs(expected.numpy()).max())
    np.testing.assert_allclose(latent @ imported.weight.T + imported.bias, logits, atol=1e-4)


def test_the_imported_text_encoder_gives_the_latent_of_the_public_one(imported: Bundle, model: PublicModel) -> None:
    sentence = "There is no lung nodule."
    ids = TextEncoder(imported)._tokenizer.encode(sentence).ids
    with torch.no_grad():
        expected = model.encode_text(torch.tensor([ids])).numpy()
    np.testing.assert_allclose(TextEncoder(imported).encode([sentence]), expected, atol=1e-4)
    # The second pair's negative prompt of the first finding is this sentence, lower case but for its beginning.
    np.testing.assert_allclose(imported.prompts.negative[1, 0], expected[0], atol=1e-4)


def test_an_imported_bundle_passes_every_check_and_says_that_it_is_not_calibrated(
    imported: Bundle, greenrfm: Command
) -> None:
    assert all(result.ok for result in check(imported)), check(imported)
    manifest = imported.manifest
    assert not manifest.calibrated
    assert manifest.intended_use == "research"
    assert (manifest.fitness, dict(manifest.metrics)) == (None, {})
    assert set(manifest.calibration.slope) == {1.0}
    assert set(manifest.thresholds.present) == {0.5}
    said = greenrfm("bundle", "info", imported.folder).out
    assert NOT_CALIBRATED_BUNDLE.split(":")[0] in " ".join(said.split())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("key", ["", "model", "model_state_dict", "state_dict"])
def test_wrappers_and_places_of_the_state_dict_make_no_difference(
    model: PublicModel, tmp_path: Path, prefix: str, key: str
) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    found = read_public(save({key: state, "epoch": 1} if key else state, tmp_path / "c.pt"))
    plain = read_public(save(model.state_dict(), tmp_path / "plain.pt"))
    assert found.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in plain.tensors.items())


def test_one_command_makes_a_bundle_of_images_alone_from_a_supervised_stage(tmp_path: Path, greenrfm: Command) -> None:
    torch.manual_seed(5)
    encoder = trained(VideoResNet(WIDTH, (4, 4, 4)))
    head = torch.nn.Linear(8 * WIDTH, 2)
    file = save({"encoder": encoder.state_dict(), "classifier": head.state_dict(), "epoch": 0}, tmp_path / "c.pt")
    (tmp_path / "two.yaml").write_text(
        "name: two\nmodality: CT\nbody_part: chest\nfindings:\n  - {key: lung_nodule}\n  - {key: emphysema}\n"
    )
    options = ["--findings", tmp_path / "two.yaml", "--preprocessing", "chest-ct", "--axes", "zxy"]
    said = greenrfm("bundle", "import", file, *options, "--out", tmp_path / "b").out
    assert "not used: epoch" in said
    assert "not calibrated" in said
    bundle = Bundle.load(tmp_path / "b")
    assert not bundle.has_text
    assert bundle.findings.keys == ("lung_nodule", "emphysema")
    assert bundle.manifest.features.stride == (32.0, 32.0, 32.0)
    # Columns before rows: the same network of a volume whose rows and columns are exchanged.
    volume = np.random.default_rng(2).uniform(-1, 1, (1, 1, 64, 96, 64)).astype(np.float32)
    with torch.no_grad():
        expected = head(encoder(theirs(volume.transpose(0, 1, 3, 2, 4)))).numpy()
    (latent,) = bundle.vision().run(["latent"], {"volume": volume})
    np.testing.assert_allclose(latent @ bundle.weight.T + bundle.bias, expected, atol=1e-4)


def test_an_mr_checkpoint_becomes_a_network_a_plane_whose_latents_average_to_the_public_one(tmp_path: Path) -> None:
    torch.manual_seed(6)
    backbone = trained(MultiPlaneNet(WIDTH, 2))
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    state |= {"classifier.weight": torch.randn(2, 8 * WIDTH), "classifier.bias": torch.randn(2)}
    file = save(state, tmp_path / "epoch_3.pt")
    knee = Preprocessing(None, (32, 32, 16), (32, 32, 16), "zscore", None, (1.0, 99.0), orientation="acquired")
    with pytest.raises(UserError, match="2 sequences, 0 are named"):
        import_checkpoint(file, tmp_path / "b", FINDINGS, knee)
    bundle = import_checkpoint(file, tmp_path / "b", FINDINGS, knee, sequences=["pd", "t1"]).bundle
    assert [network.plane for network in bundle.manifest.networks] == ["sagittal", "coronal", "axial"]
    random = np.random.default_rng(3)
    planes = {"sag": "sagittal", "cor": "coronal", "tra": "axial"}
    study = {plane: random.uniform(-1, 1, (1, 2, 32, 40, 16)).astype(np.float32) for plane in planes}
    with torch.no_grad():
        expected = backbone({plane: theirs(volume) for plane, volume in study.items()}).numpy()
    latents = [bundle.vision(plane=planes[name]).run(["latent"], {"volume": study[name]})[0] for name in planes]
    np.testing.assert_allclose(np.mean(latents, axis=0), expected, atol=1e-4 * np.abs(expected).max())


def refusal(content: Any, tmp_path: Path, bert: Path, findings: FindingSet = FINDINGS) -> str:
    """Return the one sentence with which importing `content` is refused; nothing is written."""
    file = save(content, tmp_path / "c.pt")
    with pytest.raises(UserError) as caught:
        import_checkpoint(file, tmp_path / "b", findings, SMALL, text_encoder=str(bert))
    assert not (tmp_path / "b").exists()
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message
    return message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("image_encoder.layer3.1.conv2.0.weight"), "lacks 1 tensors, such as 'vision.net.layer3"),
        (lambda s: s.pop("to_visual_latent.weight"), "lacks 1 tensors, such as 'vision_projection.weight'"),
        (lambda s: s.pop("text_encoder.encoder.layer.1.output.dense.bias"), "lacks 1 tensors"),
        (lambda s: s.pop("image_encoder.stem.0.weight"), "lacks its stem"),
        (lambda s: s.pop("classifier.weight"), "lacks classifier.weight"),
        (lambda s: s.update({"image_encoder.layer5.0.weight": torch.zeros(1)}), "'vision.net.layer5.0.weight' has no"),
        (lambda s: s.update({"image_encoder.fc.weight": torch.zeros(400, 512)}), "has no place"),
        (lambda s: s.update({"decoder.weight": torch.zeros(1)}), "'decoder.weight' has no place"),
        (lambda s: s.update({"classifier.weight": torch.zeros(18, 768)}), "scores 18 findings, the set pair has 2"),
        (lambda s: s.update({"image_encoder.stem.1.bias": torch.zeros(3)}), "is 3 and 4"),
        (lambda s: s["classifier.bias"].fill_(float("nan")), "not finite"),
        (lambda s: [s.pop(name) for name in list(s) if name.startswith("image_encoder")], "no vision encoder"),
    ],
)
def test_a_tensor_missing_or_left_over_is_named(
    model: PublicModel, bert: tuple[Path, Any], tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    change(state)
    assert words in refusal({"model": state}, tmp_path, bert[0])


def test_kinetics_weights_are_answered_with_the_recipe_that_takes_them(bert: tuple[Path, Any], tmp_path: Path) -> None:
    state = VideoResNet(WIDTH, (3, 7, 7), 3).state_dict() | {"fc.weight": torch.zeros(400, 32)}
    assert "vision_weights: {kinetics: " in refusal(state, tmp_path, bert[0])


def test_a_file_that_is_cut_or_carries_code_is_refused_and_the_code_never_runs(
    model: PublicModel, bert: tuple[Path, Any], tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    assert "could run code" in refusal({"model": model.state_dict(), "extra": Trap()}, tmp_path, bert[0])
    assert not (tmp_path / "sprung").exists()
    assert "no state dict" in refusal({"model": {"a": 1}}, tmp_path, bert[0])
    assert "no state dict" in refusal([1, 2], tmp_path, bert[0])
    whole = save(model.state_dict(), tmp_path / "whole.pt").read_bytes()
    for part in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:part])
        with pytest.raises(UserError, match="damaged"):
            import_checkpoint(tmp_path / "cut.pt", tmp_path / "b", FINDINGS, SMALL, text_encoder=str(bert[0]))
    with pytest.raises(UserError, match="does not exist"):
        import_checkpoint(tmp_path / "none.pt", tmp_path / "b", FINDINGS, SMALL)


def test_a_text_encoder_has_to_be_named_and_to_fit(model: PublicModel, tmp_path: Path) -> None:
    file = save(model.state_dict(), tmp_path / "c.pt")
    with pytest.raises(UserError, match="--text-encoder"):
        import_checkpoint(file, tmp_path / "b", FINDINGS, SMALL)
    with pytest.raises(UserError, match="BERT"):
        import_checkpoint(file, tmp_path / "b", FINDINGS, SMALL, text_encoder="minilm")
