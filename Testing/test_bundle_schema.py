"""docs/bundle.md, manifest.schema.json and the parser say the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.bundle import Bundle, Fitness
from greenrfm.bundle.parse import parse_manifest
from greenrfm.errors import UserError
from make_tiny_bundle import make_tiny_bundle

SCHEMA = json.loads((resources.files("greenrfm.bundle") / "manifest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DOCUMENT = Path(__file__).parent.parent / "docs" / "bundle.md"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the manifest of a bundle that has something under every key."""
    bundle: Bundle = make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    content = json.loads(bundle.manifest.to_json())
    content["fitness"] = {"method": "mahalanobis", **vars(Fitness(12.5, 0.99, 40))}
    content["vision"][0] |= {"half": "vision.fp16.onnx", "sequences": ["pd", "t1"]}
    content["files"]["vision.fp16.onnx"] = content["files"]["vision.onnx"]
    return content


def places(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield prefix
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield from places(value[key], (*prefix, key))


def keys_of(schema: Any) -> Iterator[str]:
    """Yield every key that the schema gives to an object."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"]
        for value in schema.values():
            yield from keys_of(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from keys_of(value)


def test_the_schema_is_one_and_a_written_manifest_is_valid_by_it(manifest: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    parse_manifest(json.dumps(manifest), "manifest.json")
    VALIDATOR.validate(manifest)


def test_every_key_of_the_schema_and_no_other_is_written(manifest: dict[str, Any]) -> None:
    free = ("metrics", "training", "files")
    written = {key for place in places(manifest) for key in place if isinstance(key, str) and place[0] not in free}
    assert written | set(free) | {"sha256", "bytes"} == set(keys_of(SCHEMA))


def test_the_specification_names_every_key_of_the_schema() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [key for key in sorted(set(keys_of(SCHEMA))) if f"`{key}`" not in text] == []


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.sampled_from([10**10, 10**400, 0.5, -0.5, 1e308, "", "x", "a.onnx", "../a.onnx", "\u0007", "ä", "canonical"])
    | st.lists(st.sampled_from([1, 2.5, -1, 0.5, "t1", "T1", None, True]), max_size=4)
    | st.dictionaries(st.sampled_from(["file", "key", "a.npz", "../b"]), st.integers(0, 3), max_size=2)
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_the_parser_accepts_is_valid_by_the_schema(manifest: dict[str, Any], data: st.DataObject) -> None:
    changed = {"whole": copy.deepcopy(manifest)}
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(list(places(changed))[1:]))
        holder: Any = changed
        for key in place[:-1]:
            holder = holder[key]
        action = data.draw(st.sampled_from(["set", "set", "remove", "add"]))
        if action == "set":
            holder[place[-1]] = data.draw(VALUES)
        elif action == "remove" and isinstance(holder, dict):
            del holder[place[-1]]
            changed.setdefault("whole", {})
        elif isinstance(holder[place[-1]], dict):
            holder[place[-1]][data.draw(st.sampled_from(["new", "file", "a.npz", "half"]))] = data.draw(VALUES)
    message, problems = "manifest.json: accepted", []
    try:
        parse_manifest(json.dumps(changed["whole"]), "manifest.json")
        problems = list(VALIDATOR.iter_errors(changed["whole"]))
    except UserError as error:
        message = str(error)
    assert message.startswith("manifest.json")
    assert problems == []


@pytest.mark.parametrize("key", ["name", "vision", "fitness", "preprocessing", "files"])
def test_both_refuse_a_manifest_without_a_key_or_with_another(manifest: dict[str, Any], key: str) -> None:
    for changed in ({**manifest, "extra": 1}, {name: value for name, value in manifest.items() if name != key}):
        with pytest.raises(UserError):
            parse_manifest(json.dumps(changed), "manifest.json")
        assert not VALIDATOR.is_valid(changed)
