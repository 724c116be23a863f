"""Bundles that somebody has tampered with: refused in one sentence, at once, and without memory or code of theirs."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from greenrfm.bundle import Bundle, TextEncoder, check
from greenrfm.bundle.arrays import load_arrays
from greenrfm.bundle.onnx_header import read_header
from greenrfm.bundle.parse import parse_manifest
from greenrfm.bundle.tokenizer import load_tokenizer
from greenrfm.bundle.tokens import split_texts
from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.reading import Reader
from greenrfm.volumes import Volume
from make_tiny_bundle import make_tiny_bundle

SECONDS = 2.0


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def folder(original: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original.folder, tmp_path / "tiny"))


@contextmanager
def at_once() -> Iterator[None]:
    """Fail if the block takes longer than 2 s of this process's own time, or more than 512 MB."""
    before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - before < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 512 << 10


def refused(read: Callable[[], object], place: Path) -> str:
    """Return the one sentence with which `read` is refused; it names the place and is quick."""
    with at_once(), pytest.raises(UserError) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert str(place) in message
    assert ";" in message, "the sentence must say what to do"
    return message


def forge(folder: Path, name: str, content: bytes) -> None:
    """Put `content` in the place of a file and its hash into the manifest, as somebody who means it would."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": sha256(folder / name), "bytes": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


# The manifest.


@pytest.mark.parametrize(("key", "value"), [("stride", 1e-3), ("stride", 1e300), ("offset", -0.5), ("offset", 1e300)])
def test_a_feature_map_of_cells_without_end_is_refused(folder: Path, key: str, value: float) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["features"][key] = [value] * 3
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert f"features.{key}" in refused(lambda: Bundle.load(folder), folder)


@pytest.mark.parametrize("factor", [0.25, 4])
def test_a_stride_that_is_not_the_networks_fails_the_check_and_makes_no_heat_map(folder: Path, factor: float) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["features"]["stride"] = [step * factor for step in manifest["features"]["stride"]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    bundle = Bundle.load(folder)
    if factor < 1:  # of a coarser one the few cells of this test vector do not tell
        assert [result.name for result in check(bundle) if not result.ok] == ["heat map"]
    volume = Volume(np.zeros((64, 64, 32), np.int16), np.diag([2.0, 2.0, 4.0, 1.0]), "CT")
    refused(lambda: Reader(bundle, 1).read(volume, heatmaps=True), folder)


def test_a_bundle_that_is_written_anew_while_it_is_open_is_not_read_half_and_half(folder: Path) -> None:
    bundle = Bundle.load(folder)
    model = onnx.load(folder / "vision.onnx")
    model.doc_string = "another"
    onnx.save(model, folder / "vision.onnx")
    assert "was changed since" in refused(bundle.vision, folder / "vision.onnx")
    (folder / "tokenizer.json").unlink()
    assert "was changed since" in refused(lambda: TextEncoder(bundle), folder / "tokenizer.json")


def test_a_manifest_of_gigabytes_is_not_read(folder: Path) -> None:
    with (folder / "manifest.json").open("r+b") as stream:
        stream.truncate(10 << 30)  # sparse: takes no room
    assert "cannot be read" in refused(lambda: Bundle.load(folder), folder)


def test_a_manifest_that_is_a_pipe_or_a_device_is_not_waited_for(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    refused(lambda: Bundle.load(folder), folder)
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to("/dev/zero")
    refused(lambda: Bundle.load(folder), folder)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"similarity": "dot"', '"similarity": "dot", "similarity": "dot"', "JSON"),
        ('"n": 0', '"n": NaN', "JSON"),
        ('"n": 0', '"n": -Infinity', "JSON"),
        ('"n": 0', '"n": 1e999', "JSON"),
        ('"n": 0', f'"n": {"9" * 5000}', "JSON"),
        ('"n": 0', f'"n": {"[" * 100_000}{"]" * 100_000}', "JSON"),
        ('"n": 0', f'"n": {"[" * 40}{"]" * 40}', "JSON"),
        ('"format_version": 2', '"format_version": 3', "update greenrfm"),
        ('"format_version": 2', '"format_version": true', "export the bundle again"),
        ('"format_version": 2', f'"format_version": {"9" * 4000}', "update greenrfm"),
        ('"name": "tiny",\n "created"', '"name": "\\u001b[2J",\n "created"', "control characters"),
        ('"name": "tiny",\n "created"', '"name": "\\ud800",\n "created"', "half a character"),
        ('"key": "emphysema"', '"key": "../x"', "lower-case"),
        ('"max_tokens": 8', '"max_tokens": 1000000000', "8192"),
    ],
)
def test_odd_json_is_refused(folder: Path, old: str, new: str, words: str) -> None:
    text = (folder / "manifest.json").read_text()
    assert old in text
    (folder / "manifest.json").write_text(text.replace(old, new, 1))
    assert words in refused(lambda: Bundle.load(folder), folder)


def test_a_manifest_with_more_findings_than_any_model_is_refused_at_once(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["finding_set"]["findings"] = [{"key": f"f{n}", "name": "x", "codes": []} for n in range(150_000)]
    (folder / "manifest.json").write_text(json.dumps(manifest, separators=(",", ":")))
    assert (folder / "manifest.json").stat().st_size < 8 << 20, "small enough to be read"
    assert "1 to 1000 findings" in refused(lambda: Bundle.load(folder), folder)
    # 10⁹ findings do not fit under the limit of the file.
    with (folder / "manifest.json").open("a") as stream:
        stream.write(" " * (8 << 20))
    assert "cannot be read" in refused(lambda: Bundle.load(folder), folder)


@pytest.mark.parametrize(
    "change",
    [
        {"size": [10**6, 10**6, 10**6]},
        {"size": [2.5, 4, 4], "crop": [1, 1, 1]},
        {"size": [True, 4, 4], "crop": [1, 1, 1]},
        {"spacing": [1e-300, 1, 1]},
        {"spacing": [1, 1, 1e300]},
        {"spacing": ["1", 1, 1]},
        {"scale": 1e-300},
        {"scale": "1"},
        {"shift": None},
        {"window": [-1e300, 1e300]},
        {"window": ["a", "b"]},
        {"intensity": ["window"]},
        {"orientation": {"canonical": 1}},
    ],
)
def test_a_preprocessing_that_cannot_be_done_is_refused(folder: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["preprocessing"].update(change)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused(lambda: Bundle.load(folder), folder)


# Files that are not where or what they seem.


@pytest.mark.parametrize("name", ["heads.npz", "vision.onnx", "manifest.json"])
def test_a_link_that_leads_out_of_the_bundle_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.move(folder / name, tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert "leads out" in refused(lambda: Bundle.load(folder), folder)
    assert "leads out" in refused(lambda: Bundle.load(folder, verify=False), folder)
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refused(lambda: Bundle.load(folder), folder)


def test_a_bundle_behind_a_link_is_one(original: Bundle, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(original.folder)
    assert Bundle.load(tmp_path / "current").hash == original.hash


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(folder: Path) -> None:
    (folder / "heads.npz").unlink()
    os.mkfifo(folder / "heads.npz")
    assert "lacks" in refused(lambda: Bundle.load(folder), folder)


# Arrays.


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(shape: str, dtype: str = "<f4", body: bytes = b"\0" * 16) -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "bias",
    [
        npy("(1000000000000,)"),
        npy("(4000000000000000000, 4)"),
        npy("(-4,)"),
        npy("(4,)", "|O"),
        npy("(4,)", "<f4,<f4"),
        npy("(4,)", "|V0"),
        npy(f"({'(' * 3000}", "<f4"),
        npy("(__import__('os').abort(),)"),
        b"\x80\x04\x95" + b"pickle",
        b"",
    ],
)
def test_an_array_that_claims_what_it_does_not_hold_is_refused(folder: Path, bias: bytes) -> None:
    forge(folder, "heads.npz", npz(bias=bias))
    assert "plain .npz" in refused(lambda: Bundle.load(folder), folder)


def test_a_zip_bomb_is_refused(folder: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bias.npy", "w") as member:
        member.write(npy("(268435456,)", body=b""))
        for _ in range(64):
            member.write(bytes(1 << 20))
    forge(folder, "heads.npz", stream.getvalue())
    assert len(stream.getvalue()) < 1 << 20
    refused(lambda: Bundle.load(folder), folder)


def test_members_that_claim_to_be_larger_than_their_file_are_refused(folder: Path) -> None:
    content = bytearray(npz(bias=npy("(4,)")))
    for mark, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = content.index(mark) + at
        content[start : start + 4] = (2**31).to_bytes(4, "little")
    forge(folder, "heads.npz", bytes(content))
    refused(lambda: Bundle.load(folder), folder)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_archive_is_arrays_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    whole = npz(bias=npy("(4,)"), weight=npy("(2, 2)", "<U1"))
    content = data.draw(
        st.binary(max_size=60)
        | st.builds(lambda header: npz(a=b"\x93NUMPY" + header), st.binary(max_size=40))
        | st.builds(lambda shape, kind: npz(a=npy(shape, kind)), st.text(max_size=12), st.text(max_size=5))
        | st.builds(
            lambda at, byte: whole[:at] + bytes([byte]) + whole[at + 1 :],
            st.integers(0, len(whole) - 1),
            st.integers(0, 255),
        )
    )
    path.write_bytes(content)
    arrays, message = {}, str(path)
    with at_once():
        try:
            arrays = load_arrays(path)
        except UserError as error:
            message = str(error)
    assert str(path) in message
    assert sum(array.nbytes for array in arrays.values()) <= len(content)


# Networks.


def external(tensor: TensorProto, place: str) -> TensorProto:
    """Return the tensor as one whose data lie in another file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def model_with(where: str, place: str) -> onnx.ModelProto:
    """Return a model that wants a tensor from the file `place`, in the given part of its graph."""
    tensor = external(numpy_helper.from_array(np.zeros(4, np.float32), "w"), place)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    constant = helper.make_node("Constant", [], ["y"], value=tensor)
    functions: list[onnx.FunctionProto] = []
    initializers, sparse, nodes = [], [], [constant]
    if where == "initializer":
        nodes, initializers = [helper.make_node("Identity", ["w"], ["y"])], [tensor]
    elif where == "subgraph":
        branch = helper.make_graph([constant], "branch", [], [out])
        nodes = [helper.make_node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch)]
    elif where == "sparse":
        indices = numpy_helper.from_array(np.arange(4), "i")
        sparse = [helper.make_sparse_tensor(tensor, indices, [8])]
        nodes = [helper.make_node("Identity", ["w"], ["y"])]
    elif where == "function":
        functions = [helper.make_function("", "F", [], ["y"], [constant], [helper.make_opsetid("", 17)])]
        nodes = [helper.make_node("F", [], ["y"])]
    graph = helper.make_graph(nodes, "g", [flag], [out], initializers, sparse_initializer=sparse)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], functions=functions, ir_version=8)


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "sparse", "function"])
def test_a_network_that_wants_data_elsewhere_is_never_opened(folder: Path, where: str) -> None:
    forge(folder, "vision.onnx", model_with(where, "../../../../etc/passwd").SerializeToString())
    bundle = Bundle.load(folder)
    assert "another file" in refused(bundle.vision, folder)
    failed = {result.name: result.detail for result in check(bundle) if not result.ok}
    assert "another file" in failed["networks"]


def test_a_network_with_operators_of_its_own_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "vision.onnx")
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    forge(folder, "vision.onnx", model.SerializeToString())
    assert "ONNX's own" in refused(Bundle.load(folder).vision, folder)


def part(tag: bytes, content: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return tag + length + bytes([size]) + content


def test_a_file_of_a_million_empty_parts_or_of_gigabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.onnx"
    path.write_bytes(b"\x08\x08" + b"\x3a\x00" * 2_000_000)
    refused(lambda: read_header(path), path)
    deep = b""
    for _ in range(1000):  # a graph in an attribute of a node of a graph …
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            deep = part(tag, deep)
    path.write_bytes(b"\x08\x08" + part(b"\x3a", deep))
    refused(lambda: read_header(path), path)
    with path.open("r+b") as stream:
        stream.truncate(3 << 30)
    refused(lambda: read_header(path), path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_of_a_network_is_read_or_refused(
    original: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = original.path("vision.onnx").read_bytes()
    # The graph's structure lies at both ends, its weights between.
    at = data.draw(st.integers(0, 400) | st.integers(len(whole) - 800, len(whole) - 1))
    content = whole[:at] + data.draw(st.binary(min_size=1, max_size=4)) + whole[at + data.draw(st.integers(0, 4)) :]
    path = tmp_path_factory.getbasetemp() / "changed.onnx"
    path.write_bytes(content)
    message = str(path)
    with at_once():
        try:
            read_header(path)
        except UserError as error:
            message = str(error)
    assert str(path) in message


# Tokenizers.


def test_a_tokenizer_with_patterns_padding_or_thousands_of_tokens_of_its_own_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    growing = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 10
    many = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 5000,
        "pair": [],
    }
    many["special_tokens"] = {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}}
    for change in (
        {"pre_tokenizer": split},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}},
        {"normalizer": {"type": "Sequence", "normalizers": growing}},
        {"post_processor": many},
    ):
        forge(folder, "tokenizer.json", json.dumps(content | change).encode())
        refused(lambda: TextEncoder(Bundle.load(folder)), folder)
    padding = {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    forge(folder, "tokenizer.json", json.dumps(content | {"padding": padding}).encode())
    with at_once():
        assert TextEncoder(Bundle.load(folder)).encode(["no nodule ."]).shape == (1, 768)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_tokenizer_splits_texts_or_is_refused(
    original: Bundle, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = json.loads(original.path("tokenizer.json").read_text())
    values = st.none() | st.integers(-1, 2**40) | st.text(max_size=4) | st.just({}) | st.just([])
    part: Any = content
    for _ in range(data.draw(st.integers(1, 4))):
        if not isinstance(part, dict) or not part:
            break
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or data.draw(st.booleans()):
            part[key] = data.draw(values)
            break
        part = part[key]
    path = tmp_path_factory.getbasetemp() / "tokenizer.json"
    path.write_text(json.dumps(content) if data.draw(st.booleans()) else data.draw(st.text(max_size=20)))
    chunks, message = 1, str(path)
    with at_once():
        try:
            chunks = len(split_texts(load_tokenizer(path), ["no nodule"], 8))
        except UserError as error:
            message = str(error)
    assert str(path) in message
    assert chunks


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | st.recursive(st.integers() | st.text(max_size=3), st.lists).map(json.dumps))
def test_any_text_is_a_manifest_or_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^manifest\.json"):
        parse_manifest(text, "manifest.json")
