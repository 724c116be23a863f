"""Each line of `bundle check` fails for what it is there for, and half precision is a bundle too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command_line import Command
from greenrfm.bundle import LATENT_SIZE, Bundle, BundleFields, Fitness, TextEncoder, check, write_bundle
from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.training.half import add_half
from make_tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a tiny bundle with a fitness check and the sentences of its prompts."""
    plain = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "plain")
    names = [name for name in BundleFields.__dataclass_fields__ if name != "fitness"]
    fields = {name: getattr(plain.manifest, name) for name in names}
    sentences = np.array([[f"{word} {pair}" for word in ("nodule", "emphysema", "effusion")] for pair in "abcde"])
    encoded = TextEncoder(plain).encode([str(text) for text in sentences.ravel()]).reshape(5, 3, LATENT_SIZE)
    random = np.random.default_rng(2)
    return write_bundle(
        plain.folder.with_name("full"),
        BundleFields(**fields, fitness=Fitness(40.0, 0.99, 25)),
        vision_onnx=plain.path("vision.onnx"),
        weight=plain.weight,
        bias=plain.bias,
        projection=plain.projection,
        reference={**plain.reference(), "center": np.zeros(LATENT_SIZE), "whitening": random.normal(size=(4, 768))},
        text_onnx=plain.path("text.onnx"),
        tokenizer=plain.path("tokenizer.json"),
        prompts_positive=encoded,
        prompts_negative=encoded,
        prompt_texts={"positive": sentences, "negative": sentences},
    )


@pytest.fixture
def folder(original: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.folder, tmp_path / "tiny"))


def rehash(folder: Path, name: str, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Put the new hash of a file into the manifest, as a faulty exporter would, after `change`."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size}
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_arrays(folder: Path, name: str, **arrays: Any) -> None:
    with np.load(folder / name) as archive:
        content = dict(archive) | arrays
    np.savez(folder / name, **content)
    rehash(folder, name)


def failed(folder: Path) -> dict[str, str]:
    """Return the names and details of the checks that fail."""
    return {result.name: result.detail for result in check(Bundle.load(folder)) if not result.ok}


def test_a_bundle_with_everything_passes(original: Bundle) -> None:
    details = {result.name: result.detail for result in check(original)}
    assert failed(original.folder) == {}
    assert "4 prompts" in details["prompts"]
    assert "4 directions" in details["fitness"]


@pytest.mark.parametrize("change", [{"window": [-1000, -999.9]}, {"scale": 1e-4}])
def test_a_scale_that_no_network_was_trained_with_fails(folder: Path, change: dict[str, Any]) -> None:
    rehash(folder, "heads.npz", lambda manifest: manifest["preprocessing"].update(change))
    assert ("preprocessing" in failed(folder)) == ("scale" in change)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"whitening": np.zeros((4, 5), np.float32)}, "whitening"),
        ({"whitening": np.full((4, 768), np.nan, np.float32)}, "whitening"),
        ({"center": np.zeros(4, np.float32)}, "center"),
    ],
)
def test_fitness_arrays_that_do_not_fit_the_latent_fail(folder: Path, arrays: dict[str, Any], words: str) -> None:
    replace_arrays(folder, "reference.npz", **arrays)
    assert words in failed(folder)["fitness"]


def test_prompts_of_another_text_network_fail(folder: Path) -> None:
    with np.load(folder / "prompts.npz") as archive:
        positive, texts = archive["positive"], archive["positive_texts"]
    replace_arrays(folder, "prompts.npz", positive=positive + np.float32(0.01))
    assert "differ" in failed(folder)["prompts"]
    replace_arrays(folder, "prompts.npz", positive=positive, positive_texts=texts[:2])
    assert "positive_texts" in failed(folder)["prompts"]


def relabel(model: onnx.ModelProto, which: str, axis: int, size: int | str) -> None:
    """Give an axis of the input or output called `which` another size."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name == which:
            dim = value.type.tensor_type.shape.dim[axis]
            dim.Clear()
            if isinstance(size, int):
                dim.dim_value = size
            else:
                dim.dim_param = size


@pytest.mark.parametrize(
    ("which", "axis", "size"),
    [("volume", 0, 1), ("volume", 2, 64), ("volume", 1, 2)],
)
def test_a_network_of_other_shapes_fails(folder: Path, which: str, axis: int, size: int) -> None:
    model = onnx.load(folder / "vision.onnx")
    relabel(model, which, axis, size)
    onnx.save(model, folder / "vision.onnx")
    rehash(folder, "vision.onnx")
    assert "networks" in failed(folder)


def test_heads_of_another_network_fail(folder: Path) -> None:
    replace_arrays(folder, "heads.npz", projection=np.ones((LATENT_SIZE, 5), np.float32))
    assert "any × 5" in failed(folder)["networks"]


def test_another_opset_than_the_manifest_says_fails(folder: Path) -> None:
    rehash(folder, "heads.npz", lambda manifest: manifest.update(opset=16))
    assert "opset 17, the manifest says 16" in failed(folder)["networks"]


def test_half_precision_is_written_checked_and_smaller(original: Bundle, tmp_path: Path, greenrfm: Command) -> None:
    shutil.copytree(original.folder, tmp_path / "b")
    answer = greenrfm("bundle", "half", tmp_path / "b", "--out", tmp_path / "half", "--json")
    assert answer.code == 0, answer.err
    bundle = Bundle.load(tmp_path / "half")
    assert answer.json["hash"] == bundle.hash != original.hash
    (network,) = bundle.manifest.networks
    assert network.half == "vision.fp16.onnx"
    details = {result.name: result.detail for result in check(bundle)}
    assert "in half precision differ by at most" in details["half precision"]
    volume = bundle.reference()["input"]
    (half,), (full,) = (bundle.vision(half=flag).run(["latent"], {"volume": volume}) for flag in (True, False))
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 2e-2 * np.abs(full).max()
    assert {kind.data_type for kind in onnx.load(bundle.path("vision.fp16.onnx")).graph.initializer} == {10}


def test_a_half_precision_file_of_another_network_fails(original: Bundle, tmp_path: Path) -> None:
    bundle = add_half(original, tmp_path / "half")
    model = onnx.load(bundle.path("vision.fp16.onnx"))
    for tensor in model.graph.initializer:
        if tensor.name == "projection":
            changed = numpy_helper.to_array(tensor) * np.float16(1.2)
            tensor.CopyFrom(numpy_helper.from_array(changed, "projection"))
    onnx.save(model, bundle.path("vision.fp16.onnx"))
    rehash(bundle.folder, "vision.fp16.onnx")
    assert list(failed(bundle.folder)) == ["half precision"]


def test_a_network_too_large_for_half_precision_is_not_written(original: Bundle, tmp_path: Path) -> None:
    model = onnx.load(original.path("vision.onnx"))
    # Up and down again by more than 16 bits hold.
    for index, node in enumerate(model.graph.node):
        if node.op_type == "AveragePool":
            node.input[0] = "small"
            for name, value in (("up", 1e6), ("down", 1e-6)):
                model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
            model.graph.node.insert(index, helper.make_node("Mul", ["large", "down"], ["small"]))
            model.graph.node.insert(index, helper.make_node("Mul", ["volume", "up"], ["large"]))
            break
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    shutil.copytree(original.folder, tmp_path / "b")
    onnx.save(model, tmp_path / "b" / "vision.onnx")
    rehash(tmp_path / "b", "vision.onnx")
    assert failed(tmp_path / "b") == {}
    with pytest.raises(UserError, match="half precision fails"):
        add_half(Bundle.load(tmp_path / "b"), tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_the_command_prints_a_line_a_check_and_fails_with_what_failed(folder: Path, greenrfm: Command) -> None:
    answer = greenrfm("bundle", "check", folder)
    assert answer.code == 0
    assert [line.split()[0] for line in answer.out.splitlines()] == ["ok"] * 9
    replace_arrays(folder, "reference.npz", latent=np.ones(LATENT_SIZE, np.float32))
    answer = greenrfm("bundle", "check", folder)
    assert answer.code == 1
    assert [line.split()[0] for line in answer.out.splitlines()].count("FAILED") == 1
    assert "test vector" in answer.err


def test_tuning_prints_what_was_tried_and_marks_the_choice(
    original: Bundle, tmp_path: Path, greenrfm: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENRFM_SPEED", str(tmp_path / "speed"))
    bundle = add_half(original, tmp_path / "half")
    lines = greenrfm("bundle", "tune", bundle.folder).out.splitlines()
    assert sum("<- chosen" in line for line in lines) == 1
    assert {"full", "half"} == {line.split(" precision")[0].split()[-1] for line in lines}
    answer = greenrfm("bundle", "tune", bundle.folder, "--json").json
    assert answer["seconds"] in [row["seconds"] for row in answer["tried"]]
