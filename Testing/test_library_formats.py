"""The files of a case library: any bytes in them are a library, or one sentence; and no path in them leads out."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from greenrfm.errors import UserError
from greenrfm.library import Case, CaseLibrary
from greenrfm.library.case import CaseFiles
from greenrfm.library.export import Export, export
from greenrfm.library.manifest import Intent, Manifest
from test_library import BUNDLE, DIMENSION, KEYS, create, files_with, make_case, make_latents

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAME = "0" * 32
VALID = {
    "library.json": Manifest(BUNDLE, DIMENSION, "dot", KEYS, "index-00000000"),
    "pending.json": Intent((NAME,), (NAME,)),
}


def any_bytes(valid: bytes) -> st.SearchStrategy[bytes]:
    """Return bytes of all kinds: junk, the valid file cut or changed at a place, and its fields exchanged."""
    place = st.integers(0, max(0, len(valid) - 1))
    ways = [
        st.binary(max_size=60),
        JSON.map(lambda value: json.dumps(value).encode()),
        place.map(lambda end: valid[:end]),
        st.tuples(place, st.binary(min_size=1, max_size=3)).map(
            lambda change: valid[: change[0]] + change[1] + valid[change[0] + len(change[1]) :]
        ),
        st.just(b"[" * 100_000),
        st.just(b'{"states": ' * 50_000),
    ]
    try:
        content = json.loads(valid)
    except ValueError:
        return st.one_of(ways)
    fields = st.tuples(st.sampled_from(sorted(content)), JSON)
    return st.one_of([*ways, fields.map(lambda field: json.dumps(content | {field[0]: field[1]}).encode())])


def sentence_or_value(read: Callable[[], object]) -> object:
    """Return what `read` returns, or None where it raised one sentence; anything else it raises fails the test."""
    try:
        return read()
    except UserError as error:
        sentence = str(error)
    assert "\n" not in sentence
    return None


def original(name: str) -> bytes:
    """Return the bytes of a valid file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        content = VALID[name]
        content.write(path) if isinstance(content, Manifest) else content.save(path)
        return path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=any_bytes(original("library.json")))
def test_any_library_json_is_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.json"
        path.write_bytes(data)
        manifest = sentence_or_value(lambda: Manifest.read(path))
        if isinstance(manifest, Manifest):
            assert (path.parent / manifest.index).parent == path.parent
            assert manifest.dimension >= 1


@settings(max_examples=150, deadline=None)
@given(data=any_bytes(original("pending.json")))
def test_any_pending_json_is_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pending.json"
        path.write_bytes(data)
        intent = sentence_or_value(lambda: Intent.load(path))
        if isinstance(intent, Intent):
            for name in (*intent.write, *intent.delete):
                assert (path.parent / name).resolve().parent == path.parent.resolve()


@pytest.mark.parametrize("name", ["..", "../outside", "/tmp", "", ".", "a/../../outside", "0" * 31 + "/"])
def test_a_pending_deletion_never_leaves_the_library(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "thesis.txt").write_text("mine")
    with create(tmp_path / "library") as library:
        library.add(make_case(1), make_latents(1)[0])
    (tmp_path / "library" / "pending.json").write_text(json.dumps({"write": [], "delete": [name]}))
    with pytest.raises(UserError, match=r"pending\.json is damaged; delete it"):
        CaseLibrary.open(tmp_path / "library")
    assert (tmp_path / "outside" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "library" / "cases").is_dir()


def case_file(name: str) -> bytes:
    """Return the bytes of a valid file of a case."""
    with tempfile.TemporaryDirectory() as folder:
        CaseFiles(Path(folder)).write(NAME, make_case(1), make_latents(1)[0])
        return (Path(folder) / NAME / name).read_bytes()


@pytest.mark.parametrize("name", ["case.json", "report.txt", "latent.npy"])
def test_any_file_of_a_case_is_read_or_refused(name: str) -> None:
    @settings(max_examples=120, deadline=None)
    @given(data=any_bytes(case_file(name)))
    def check(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = CaseFiles(Path(folder))
            files.write(NAME, make_case(1), make_latents(1)[0])
            (files.root / NAME / name).write_bytes(data)
            case = sentence_or_value(lambda: files.read(NAME))
            latent = sentence_or_value(lambda: files.read_latent(NAME, DIMENSION))
            if isinstance(case, Case):
                files.write(NAME, case, make_latents(1)[0])
                assert files.read(NAME) == case
            if isinstance(latent, np.ndarray):
                assert (latent.shape, latent.dtype) == ((DIMENSION,), np.float32)

    check()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with create(folder / "library") as library:
        library.add_many(zip([make_case(n, source=f"/a/{n}") for n in range(3)], make_latents(3), strict=True))
        export(library, folder / "export")
    return folder / "export"


@pytest.mark.parametrize("name", ["export.json", "cases.jsonl", "latents.npy"])
def test_any_file_of_an_export_is_read_or_refused(exported: Path, name: str) -> None:
    valid = (exported / name).read_bytes()

    @settings(max_examples=120, deadline=None)
    @given(data=any_bytes(valid))
    def check(data: bytes) -> None:
        (exported / name).write_bytes(data)
        pairs = sentence_or_value(lambda: list(Export(exported)))
        if isinstance(pairs, list):
            assert all(isinstance(case, Case) and latent.dtype == np.float32 for case, latent in pairs)

    try:
        check()
    finally:
        (exported / name).write_bytes(valid)


def test_an_export_loses_nothing(tmp_path: Path) -> None:
    odd = "Zeile 1\r\nZeile\u2028 2\x00\x0b\r ünd 肺"
    cases = [make_case(n, report=odd + str(n), source=f"/Bilder/{n}", thumbnail=bytes(range(256))) for n in range(9)]
    latents = make_latents(9)
    with create(tmp_path / "library") as library:
        library.add_many(zip(cases, latents, strict=True))
        assert export(library, tmp_path / "export") == 9
        with pytest.raises(UserError, match="already exists"):
            export(library, tmp_path / "export")
    content = Export(tmp_path / "export")
    assert (content.bundle_hash, content.dimension, content.keys) == (BUNDLE, DIMENSION, KEYS)
    with create(tmp_path / "again") as again:
        assert again.add_many(content) == 9
        for case in cases:
            assert again.get(case.study_id) == case
        stored = {case.study_id: latent for case, latent in again.items()}
    for case, latent in zip(cases, latents, strict=True):
        assert stored[case.study_id].tobytes() == latent.tobytes()


def test_a_deleted_patient_is_in_no_file_in_no_encoding(tmp_path: Path) -> None:
    secrets = ("PAT-4711-MUELLER", "ACC-90210-XYZ", "Zystennieren beidseits, Verlauf", "/archive/MUELLER/scan.nii.gz")
    patient, study, report, source = secrets
    picture = b"pixels of a face" * 4
    case = make_case(5, patient_id=patient, study_id=study, report=report, source=source, thumbnail=picture)
    needles = [picture, base64.b64encode(picture), picture.hex().encode()]
    for text in secrets:
        raw = text.encode()
        # Base64 has three phases: the middle of each is the same wherever the text lies.
        needles += [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)]
        needles += [
            raw,
            text.encode("utf-16-le"),
            text.encode("utf-16-be"),
            raw.hex().encode(),
            raw.hex().upper().encode(),
        ]
    with create(tmp_path / "library") as library:
        library.add_many(zip(map(make_case, range(12)), make_latents(12), strict=True))
        library.add(case, make_latents(1, seed=8)[0])
        assert files_with(tmp_path, *needles)
        assert library.delete_patient(patient) == 1
        assert files_with(tmp_path, *needles) == []
    with CaseLibrary.open(tmp_path / "library") as library:
        assert len(library) == 12
    assert files_with(tmp_path, *needles) == []
