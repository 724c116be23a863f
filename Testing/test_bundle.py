"""The bundle room: strict loading, atomic writing, the ONNX header, texts of any length, the checks."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from greenrfm.bundle import LATENT_SIZE, Bundle, BundleFields, FeatureGrid, TextEncoder, check, write_bundle
from greenrfm.bundle.onnx_header import read_header
from greenrfm.bundle.parse import parse_manifest
from greenrfm.errors import UserError
from greenrfm.files import sha256
from make_tiny_bundle import FINDINGS, PREPROCESSING, WORDS, make_tiny_bundle


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a tiny bundle that no test changes."""
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def folder(original: Bundle, tmp_path: Path) -> Path:
    """Return a copy of the tiny bundle to damage."""
    return Path(shutil.copytree(original.folder, tmp_path / "tiny"))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Apply `change` to the manifest's JSON object."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def replace_arrays(folder: Path, name: str, **arrays: Any) -> None:
    """Rewrite arrays of an .npz and put the new hash into the manifest, as a faulty exporter would."""
    path = folder / name
    with np.load(path) as archive:
        content = dict(archive) | arrays
    np.savez(path, **content)
    record = {"sha256": sha256(path), "bytes": path.stat().st_size}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: record}))


def refusal(folder: Path) -> str:
    """Return the one sentence with which loading `folder` is refused; it names the folder."""
    with pytest.raises(UserError) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    assert ";" in message, "the sentence must say what to do"
    return message


def test_a_written_bundle_loads_with_everything_it_was_given(original: Bundle) -> None:
    loaded = Bundle.load(original.folder)
    assert loaded.findings.keys == FINDINGS.keys
    assert loaded.findings.findings[0].codes == FINDINGS.findings[0].codes
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.manifest == original.manifest
    assert loaded.hash == sha256(original.folder / "manifest.json")
    assert loaded.weight.shape == (3, LATENT_SIZE)
    assert loaded.prompts.positive.shape == (5, 3, LATENT_SIZE)
    assert parse_manifest(loaded.manifest.to_json(), "again") == loaded.manifest


def test_loading_opens_no_network_and_takes_no_time(original: Bundle) -> None:
    start = time.perf_counter()
    loaded = Bundle.load(original.folder)
    assert time.perf_counter() - start < 0.5
    assert not loaded._sessions
    assert loaded.vision(1) is loaded.vision(1)


def test_every_check_passes_on_a_good_bundle(original: Bundle) -> None:
    results = check(original)
    assert [result.name for result in results] == [
        "files", "preprocessing", "networks", "test vector", "half precision", "heat map", "fitness", "text", "prompts"
    ]  # fmt: skip
    assert all(result.ok for result in results), results


@pytest.mark.parametrize("name", ["vision.onnx", "heads.npz", "text.onnx", "tokenizer.json", "prompts.npz"])
def test_a_file_with_one_changed_byte_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert name in refusal(folder)


def test_a_check_finds_what_changed_after_loading(folder: Path) -> None:
    bundle = Bundle.load(folder)
    replace_arrays(folder, "reference.npz", latent=np.ones(LATENT_SIZE, np.float32))
    assert [result.name for result in check(bundle) if not result.ok] == ["files", "test vector"]


@pytest.mark.parametrize("name", ["vision.onnx", "reference.npz"])
def test_a_cut_off_or_missing_file_is_refused_even_without_hashing(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(UserError, match="bytes"):
        Bundle.load(folder, verify=False)
    (folder / name).unlink()
    assert f"lacks {name}" in refusal(folder)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    assert "no bundle" in refusal(tmp_path / "nowhere")
    assert "no bundle" in refusal(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe")
    refusal(tmp_path)
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    assert "JSON" in refusal(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": "other"}', encoding="utf-8")
    assert "not the manifest" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name", ["../outside.npz", "/etc/hostname", "..", "a/b.npz", "a\\b.npz", "C:x.npz", "", "a\0b", "x.npz\n"]
)
def test_a_file_name_that_could_leave_the_folder_is_refused(folder: Path, name: str) -> None:
    record = {"sha256": "0" * 64, "bytes": 1}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: record}))
    assert "own folder" in refusal(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format_version=3), "update greenrfm"),
        (lambda m: m.update(format_version=0), "export the bundle again"),
        (lambda m: m.update(opset=99), "opset"),
        (lambda m: m.update(similarity="cosine"), "similarity"),
        (lambda m: m.update(license="MIT"), "did you mean 'licence'"),
        (lambda m: m.pop("thresholds"), "lacks 'thresholds'"),
        (lambda m: m["files"].pop("prompts.npz"), "lacks 'prompts.npz'"),
        (lambda m: m["calibration"]["slope"].pop(), "calibration.slope"),
        (lambda m: m["calibration"].update(method="isotonic"), "platt"),
        (lambda m: m["calibration"]["intercept"].__setitem__(0, "1"), "finite numbers"),
        (lambda m: m["thresholds"]["present"].append(0.5), "thresholds.present"),
        (lambda m: m["thresholds"]["present"].__setitem__(0, 1.5), "from 0 to 1"),
        (lambda m: m["finding_set"]["findings"].pop(), "list of 2 numbers"),
        (lambda m: m["finding_set"]["findings"][0].update(key="effusion"), "twice"),
        (lambda m: m["features"]["stride"].__setitem__(0, 0), "features.stride"),
        (lambda m: m["preprocessing"].update(sapcing=[1, 1, 1]), "did you mean 'spacing'"),
        (lambda m: m["preprocessing"].update(sampling="cubic"), "sampling"),
        (lambda m: m["text"].update(max_tokens=0), "max_tokens"),
        (lambda m: m["files"]["heads.npz"].update(sha256="xyz"), "hexadecimal"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit_manifest(folder, change)
    assert words in refusal(folder)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value inside a JSON value, except in the preprocessing (the volumes room's)."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    below = [paths(value[key], (*prefix, key)) for key in keys if key != "preprocessing"]
    return [prefix, *(path for some in below for path in some)]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_value_anywhere_in_a_manifest_is_accepted_or_refused_in_a_sentence(
    original: Bundle, data: st.DataObject
) -> None:
    content = {"whole": json.loads(original.manifest.to_json())}
    path = data.draw(st.sampled_from(paths(content)[1:]))
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400)
    value = data.draw(
        scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=5), scalars, max_size=2)
    )
    changed = copy.deepcopy(content)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    message = "manifest.json: accepted"
    try:
        parse_manifest(json.dumps(changed["whole"]), "manifest.json")
    except UserError as error:
        message = str(error)
    assert message.startswith("manifest.json")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("heads.npz", "weight", np.zeros((2, LATENT_SIZE), np.float32)),
        ("heads.npz", "weight", np.zeros((3, LATENT_SIZE), np.float64)),
        ("heads.npz", "weight", np.full((3, LATENT_SIZE), np.nan, np.float32)),
        ("heads.npz", "bias", np.zeros((3, 1), np.float32)),
        ("heads.npz", "projection", np.zeros((512, LATENT_SIZE), np.float32)),
        ("prompts.npz", "positive", np.zeros((5, 4, LATENT_SIZE), np.float32)),
        ("prompts.npz", "negative", np.zeros((1, 3, LATENT_SIZE), np.float32)),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(folder: Path, name: str, key: str, value: Any) -> None:
    replace_arrays(folder, name, **{key: value})
    message = refusal(folder)
    assert name in message
    assert key in message


def test_pickled_arrays_are_never_opened(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    replace_arrays(folder, "heads.npz", bias=np.array([Trap()], object))
    assert "heads.npz" in refusal(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_bundle_in_a_folder_with_any_name_works(original: Bundle, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(original.folder, tmp_path / "Köln 東京" / "modèle"))
    assert all(result.ok for result in check(Bundle.load(moved)))


def rewrite(bundle: Bundle, folder: Path, **changes: Any) -> Bundle:
    """Write `bundle` again to `folder` with some arguments changed."""
    manifest = bundle.manifest
    names = list(BundleFields.__dataclass_fields__)
    arguments = {
        "vision_onnx": bundle.path("vision.onnx"),
        "text_onnx": bundle.path("text.onnx"),
        "tokenizer": bundle.path("tokenizer.json"),
        "weight": bundle.weight,
        "bias": bundle.bias,
        "projection": bundle.projection,
        "prompts_positive": bundle.prompts.positive,
        "prompts_negative": bundle.prompts.negative,
        "reference": bundle.reference(),
    }
    return write_bundle(
        folder, BundleFields(**{name: getattr(manifest, name) for name in names}), **arguments | changes
    )


def test_a_bundle_can_be_replaced_by_one_with_other_heads(folder: Path) -> None:
    before = Bundle.load(folder)
    after = rewrite(before, folder, weight=before.weight * 2)
    assert after.hash != before.hash
    np.testing.assert_array_equal(Bundle.load(folder).weight, before.weight * 2)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": np.zeros((1, LATENT_SIZE))},
        {"projection": np.zeros((LATENT_SIZE, 4))},
        {"reference": {"input": np.zeros((1, 1, 8, 8, 4)), "latent": np.ones(LATENT_SIZE)}},
        {"reference": {"latent": np.ones(LATENT_SIZE)}},
    ],
)
def test_a_bundle_that_does_not_pass_never_takes_the_old_ones_place(folder: Path, changes: dict[str, Any]) -> None:
    before = Bundle.load(folder)
    with pytest.raises(UserError):
        rewrite(before, folder, **changes)
    assert Bundle.load(folder).hash == before.hash
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_swapped_networks_are_not_written(original: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="networks fails"):
        rewrite(original, tmp_path / "new", text_onnx=original.path("vision.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_never_replaced(original: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not a bundle"):
        rewrite(original, tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_the_header_is_what_onnx_reads(tmp_path: Path, opset: int) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [result])
    domains = [helper.make_opsetid("com.example", 3), helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), tmp_path / "m.onnx")
    header = read_header(tmp_path / "m.onnx")
    assert (header.ir_version, header.opset) == (9, opset)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=40))
def test_bytes_that_are_no_model_are_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    message = f"{path}: accepted"
    try:
        read_header(path)
    except UserError as error:
        message = str(error)
    assert str(path) in message


@pytest.mark.parametrize("stem", [(2, 2, 2), (4, 4, 4), (1, 2, 2)])
def test_the_grid_of_a_stem_is_where_its_receptive_fields_are_centred(
    tmp_path: Path, stem: tuple[int, int, int]
) -> None:
    # Averages that pad as a ResNet's strided stages do: an input that holds each voxel's own position
    # comes out as the position a cell is centred on, away from the rim.
    average = np.full((1, 1, 3, 3, 3), 1 / 27, np.float32)
    first = np.full((1, 1, *stem), 1 / np.prod(stem), np.float32)
    nodes = [helper.make_node("Conv", ["x", "first"], ["c0"], strides=stem)]
    for stage in range(3):
        nodes.append(
            helper.make_node("Conv", [f"c{stage}", "average"], [f"c{stage + 1}"], strides=[2] * 3, pads=[1] * 6)
        )
    graph = helper.make_graph(
        nodes,
        "stages",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W", "D"])],
        [helper.make_tensor_value_info("c3", TensorProto.FLOAT, ["N", 1, "h", "w", "d"])],
        [numpy_helper.from_array(average, "average"), numpy_helper.from_array(first, "first")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    grid = FeatureGrid.of_stem(stem)
    shape = [32 * step for step in stem]
    for axis in range(3):
        positions = np.broadcast_to(np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(3)]), shape)
        (cells,) = session.run(["c3"], {"x": positions[None, None].astype(np.float32)})
        assert cells[0, 0].shape == (4, 4, 4)
        for cell in (1, 2):
            place = [1, 1, 1]
            place[axis] = cell
            expected = grid.offset[axis] + grid.stride[axis] * cell
            assert cells[0, 0][tuple(place)] == pytest.approx(expected, abs=1e-3)


def test_a_latent_is_what_the_network_makes_of_the_tokens(original: Bundle) -> None:
    # The tiny text network averages a table's rows: [CLS] 2, [SEP] 3, then the words from 4 on.
    (table,) = (t for t in onnx.load(original.path("text.onnx")).graph.initializer if t.name == "table")
    rows = numpy_helper.to_array(table)[[2, *(4 + WORDS.index(word) for word in ("no", "lung", "nodule")), 3]]
    np.testing.assert_allclose(TextEncoder(original).encode(["No lung nodule"])[0], rows.mean(axis=0), atol=1e-5)


def test_a_long_report_is_the_average_of_its_chunks_by_tokens(original: Bundle) -> None:
    encoder = TextEncoder(original)
    words = ["there", "is", "no", "pleural", "effusion", ".", "lung", "nodule", "is", "present"]
    # Eight tokens with [CLS] and [SEP]: six words, then four.
    first, rest, whole = encoder.encode([" ".join(words[:6]), " ".join(words[6:]), " ".join(words)])
    np.testing.assert_allclose(whole, (6 * first + 4 * rest) / 10, atol=1e-5)


def test_a_text_has_the_same_latent_in_any_company(original: Bundle) -> None:
    encoder = TextEncoder(original)
    texts = ["Emphysema.", "", "unheard of words", *(" ".join(["nodule"] * count) for count in range(1, 40))]
    together = encoder.encode(texts)
    assert together.shape == (len(texts), LATENT_SIZE)
    assert together.dtype == np.float32
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, LATENT_SIZE)


def test_a_broken_tokenizer_is_named(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_bytes(b"{" + b" " * (path.stat().st_size - 1))
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        TextEncoder(Bundle.load(folder, verify=False))


def test_a_network_onnxruntime_cannot_open_is_named(folder: Path) -> None:
    path = folder / "vision.onnx"
    path.write_bytes(b"\x08\x08" * (path.stat().st_size // 2) + b"\x08\x08"[: path.stat().st_size % 2])
    with pytest.raises(UserError, match=r"cannot open .*vision\.onnx"):
        Bundle.load(folder, verify=False).vision()


def test_calibration_is_the_sigmoid_and_never_overflows(original: Bundle) -> None:
    calibration = original.manifest.calibration
    logits = np.array([[0.3, -1.0, 2.0], [1e6, -1e6, 0.0]])
    with np.errstate(all="raise"):
        found = calibration.probability(logits)
    scaled = logits[0] * np.array(calibration.slope) + np.array(calibration.intercept)
    np.testing.assert_allclose(found[0], 1 / (1 + np.exp(-scaled)))
    np.testing.assert_allclose(found[1, :2], [1.0, 0.0])
