"""Initial weights: Kinetics under our names, an earlier run, a BERT folder; and frozen modules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from greenrfm.errors import UserError
from greenrfm.networks import DualEncoder, Supervised, TextEncoder, VisionEncoder, text_encoder_folder, tokenizer_file
from greenrfm.training.encoders import save_stage
from greenrfm.training.initial import begin_text, begin_vision, freeze, from_kinetics, kinetics_name
from greenrfm.training.recipe import Recipe, load_recipe, parse_recipe


def r3d_18() -> dict[str, Tensor]:
    """Return random tensors under the names and shapes of torchvision's r3d_18.

    After torchvision/models/video/resnet.py: BasicStem, four layers of two BasicBlocks of Conv3DSimple, fc.
    """
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def convolution(name: str, *shape: int) -> None:
        # A view of few numbers, which is all that a file of it holds.
        state[f"{name}.weight"] = torch.rand(shape[0], 1, 1, 1, 1, generator=generator).expand(shape)

    def normalisation(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("stem.0", 64, 3, 3, 7, 7)
    normalisation("stem.1", 64)
    before = 64
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            convolution(f"{name}.conv1.0", channels, before, 3, 3, 3)
            normalisation(f"{name}.conv1.1", channels)
            convolution(f"{name}.conv2.0", channels, channels, 3, 3, 3)
            normalisation(f"{name}.conv2.1", channels)
            if channels != before:
                convolution(f"{name}.downsample.0", channels, before, 1, 1, 1)
                normalisation(f"{name}.downsample.1", channels)
            before = channels
    state["fc.weight"], state["fc.bias"] = torch.zeros(400, 512), torch.zeros(400)
    return state


def recipe_with(**network: Any) -> Recipe:
    content = {
        **load_recipe("lite").model_dump(mode="json", exclude={"preprocessing"}),
        "preprocessing": "chest-ct",
    }
    content["network"] = {**content["network"], **network}
    return parse_recipe(content, "mine.yaml")


@pytest.fixture(scope="module")
def encoder():
    """Return one network of full width for all tests that only fill it."""
    return VisionEncoder(64, 4)


class TestKinetics:
    @pytest.fixture
    def file(self, tmp_path):
        torch.save(r3d_18(), tmp_path / "r3d_18.pth")
        return tmp_path / "r3d_18.pth"

    def test_our_names_for_its_tensors_are_those_of_our_network_but_the_stem(self):
        theirs = r3d_18()
        assert sum(tensor.numel() for name, tensor in theirs.items() if name[:2] != "fc" and tensor.ndim) > 33_000_000
        mapped = [ours for name in theirs if (ours := kinetics_name(name)) is not None]
        assert len(set(mapped)) == len(mapped)
        with torch.device("meta"):
            ours = VisionEncoder().net.state_dict()
        assert {*mapped, "conv1.weight"} == set(ours)
        assert {name for name in theirs if kinetics_name(name) is None} == {"stem.0.weight", "fc.weight", "fc.bias"}

    def test_every_tensor_lands_and_the_stem_stays(self, encoder, file):
        stem = encoder.net.conv1.weight.detach().clone()
        begin_vision(encoder, recipe_with(vision_weights={"kinetics": str(file)}))
        landed = encoder.net.state_dict()
        for name, tensor in from_kinetics(r3d_18()).items():
            assert torch.equal(landed.pop(name), tensor), name
        assert list(landed) == ["conv1.weight"]
        assert torch.equal(landed["conv1.weight"], stem)

    def test_time_becomes_depth(self):
        kernel = torch.randn(8, 8, 3, 3, 3)
        ours = from_kinetics({"layer1.0.conv1.0.weight": kernel})["layer1.0.conv1.weight"]
        assert torch.equal(ours[..., 0, 1, 2], kernel[..., 2, 0, 1])  # H, W, D from time, H, W

    def test_another_width_is_refused(self, file):
        with pytest.raises(UserError, match="width 64, the recipe has 8"):
            begin_vision(VisionEncoder(8, 4), recipe_with(width=8, vision_weights={"kinetics": str(file)}))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda state: state.pop("layer3.1.conv2.0.weight"), r"lack 'layer3\.1\.conv2\.weight'"),
            (lambda state: state.update({"layer5.0.weight": torch.zeros(1)}), "no 'layer5"),
            (lambda state: state.update({"layer1.0.conv1.1.bias": torch.zeros(3)}), "is 3 and 64"),
        ],
    )
    def test_a_file_of_another_network_is_refused_by_tensor(self, encoder, tmp_path, change, said):
        state = r3d_18()
        change(state)
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(UserError, match=said):
            begin_vision(encoder, recipe_with(vision_weights={"kinetics": str(tmp_path / "other.pth")}))

    def test_a_file_that_is_no_state_dict_is_refused(self, encoder, tmp_path):
        recipe = recipe_with(vision_weights={"kinetics": str(tmp_path / "w.pth")})
        with pytest.raises(UserError, match="do not exist"):
            begin_vision(encoder, recipe)
        (tmp_path / "w.pth").write_bytes(b"not weights")
        with pytest.raises(UserError, match="cannot be read as plain tensors"):
            begin_vision(encoder, recipe)
        torch.save([1, 2], tmp_path / "w.pth")
        with pytest.raises(UserError, match="no state dict"):
            begin_vision(encoder, recipe)


def bert_folder(folder: Path, kind: str = "bert") -> Path:
    config = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**written, "model_type": kind}), encoding="utf-8")
    shutil.copy(tokenizer_file(text_encoder_folder("minilm")), folder)
    return folder


class TestAnEarlierRun:
    @pytest.fixture
    def run(self, tmp_path):
        """Write what a finished run of width 4 leaves."""
        bert = bert_folder(tmp_path / "bert")
        run = tmp_path / "run"
        torch.manual_seed(1)
        model = DualEncoder(VisionEncoder(4, 2), TextEncoder(bert, pretrained=False), findings=3)
        save_stage(model, run / "stage2.pt")
        recipe = recipe_with(width=4, text_encoder=str(bert))
        (run / "run.json").write_text(
            json.dumps({"recipe": recipe.model_dump(mode="json", exclude={"preprocessing"})}), encoding="utf-8"
        )
        return run, model

    @pytest.mark.parametrize("inside", ["", "bundle"])
    def test_gives_its_vision_encoder_by_its_folder_or_its_bundle(self, run, inside):
        folder, model = run
        if inside:
            (folder / inside).mkdir()
            (folder / inside / "manifest.json").write_text("{}", encoding="utf-8")
        encoder = begin_vision(VisionEncoder(4, 2), recipe_with(width=4, vision_weights=str(folder / inside)))
        for name, tensor in model.vision.state_dict().items():
            assert torch.equal(encoder.state_dict()[name], tensor)

    def test_gives_its_text_encoder(self, run):
        folder, model = run
        recipe = recipe_with(text_encoder=str(folder))
        assert recipe.network.text_weights == str(folder)
        encoder = begin_text(TextEncoder(text_encoder_folder(recipe.network.text_encoder)), recipe)
        for name, tensor in model.text.state_dict().items():
            assert torch.equal(encoder.state_dict()[name], tensor)

    def test_that_stopped_after_stage_1_gives_that(self, run):
        folder, model = run
        (folder / "stage2.pt").unlink()
        recipe = recipe_with(width=4, vision_weights=str(folder))
        with pytest.raises(UserError, match="finished no stage with a vision encoder"):
            begin_vision(VisionEncoder(4, 2), recipe)
        save_stage(Supervised(model.vision, 3), folder / "stage1_vision.pt")
        encoder = begin_vision(VisionEncoder(4, 2), recipe)
        assert torch.equal(encoder.net.conv1.weight, model.vision.net.conv1.weight)

    def test_of_another_network_is_refused(self, run):
        recipe = recipe_with(width=8, vision_weights=str(run[0]))
        with pytest.raises(UserError, match="do not fit the recipe's network"):
            begin_vision(VisionEncoder(8, 2), recipe)

    def test_that_does_not_exist_is_refused(self, tmp_path):
        with pytest.raises(UserError, match="did you mean 'random'"):
            begin_vision(VisionEncoder(4, 2), recipe_with(vision_weights="randm"))
        (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
        with pytest.raises(UserError, match="name the run's folder"):
            begin_vision(VisionEncoder(4, 2), recipe_with(vision_weights=str(tmp_path)))


class TestABertFolder:
    def test_may_be_of_another_kind_and_hold_a_bin_file(self, tmp_path):
        folder = bert_folder(tmp_path, "cxr-bert")
        whole = TextEncoder(folder).bert.state_dict()
        # As a model with a head above it is saved, whose weights are not ours to load.
        torch.save({f"bert.{name}": tensor for name, tensor in whole.items()}, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        again = TextEncoder(folder).bert.state_dict()
        for name, tensor in whole.items():
            assert name.startswith("pooler.") or torch.equal(again[name], tensor)

    def test_that_lacks_a_weight_is_refused_not_filled_at_random(self, tmp_path):
        folder = bert_folder(tmp_path)
        whole = TextEncoder(folder).bert.state_dict()
        del whole["encoder.layer.1.output.dense.weight"]
        torch.save(whole, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        with pytest.raises(UserError, match=r"lacks 1 weights.*layer\.1\.output"):
            TextEncoder(folder)

    def test_with_anything_but_tensors_in_its_bin_file_is_refused(self, tmp_path):
        folder = bert_folder(tmp_path)
        (folder / "model.safetensors").unlink()
        torch.save({"pooler.dense.bias": nn.Linear(1, 1)}, folder / "pytorch_model.bin")
        with pytest.raises(UserError, match="is not a BERT folder"):
            TextEncoder(folder)


class TestFrozenModules:
    def model(self) -> Supervised:
        torch.manual_seed(0)
        return Supervised(VisionEncoder(2, 4), 3)

    def step(self, model: Supervised) -> None:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model.train()
        model(torch.randn(2, 1, 16, 16, 16)).sum().backward()
        optimizer.step()

    def test_keep_weights_and_batch_statistics_while_others_learn(self):
        model = self.model()
        freeze(model, ["layer1", "encoder.net.bn1"], "stage1_vision")
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.step(model)
        for name, tensor in model.state_dict().items():
            frozen = name.startswith(("encoder.net.layer1.", "encoder.net.bn1."))
            assert torch.equal(tensor, before[name]) == frozen, name

    def test_may_be_a_whole_encoder(self):
        model = self.model()
        freeze(model, ["encoder"], "stage1_vision")
        before = {name: tensor.clone() for name, tensor in model.encoder.state_dict().items()}
        self.step(model)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.encoder.state_dict().items())

    @pytest.mark.parametrize(
        ("name", "said"), [("layer5", "did you mean 'layer"), ("conv1", "give more of the name"), ("", "no module")]
    )
    def test_are_named_so_that_one_is_meant(self, name, said):
        with pytest.raises(UserError, match=said) as refused:
            freeze(self.model(), [name], "stage1_vision")
        assert "stage1_vision.freeze" in str(refused.value)
