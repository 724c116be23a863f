"""A case library whose latents are on a Qdrant server: what it finds, and what leaves the machine."""

from __future__ import annotations

import base64
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greenrfm.commands.main import run
from greenrfm.errors import UserError
from greenrfm.library import CaseLibrary
from greenrfm.library.case import folder_name
from greenrfm.library.index import patient_hash
from qdrant_stand_in import stand_in
from test_library import BUNDLE, create, make_case, make_latents

server = pytest.importorskip("qdrant_client", reason="the extra 'server' is not installed") and __import__(
    "greenrfm.library.server", fromlist=["Server"]
)


def test_the_server_finds_what_the_folder_finds_and_is_sent_no_text_and_no_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.KEY_VARIABLE, "the-key-of-the-group")
    latents, log = make_latents(40), tmp_path / "requests"
    cases = [
        replace(make_case(number), source=f"/archive/Müller-{number}.nii.gz", series_uid=f"1.2.840.113619.{number}")
        for number in range(40)
    ]
    filters = (
        {},
        {"present": ["nodule"]},
        {"exclude_patient": "patient-2", "modality": "CT"},
        {"date_from": "2014-01-01"},
    )
    with stand_in(log) as url:
        with create(tmp_path / "here") as local, create(tmp_path / "there", server=server.Server(url)) as remote:
            for library in (local, remote):
                library.add_many(zip(cases, latents, strict=True))
                library.add(cases[0], latents[0])  # nothing twice
            for wanted in filters:
                query = make_latents(1, seed=4)[0]
                here, there = local.search(query, 7, **wanted), remote.search(query, 7, **wanted)  # type: ignore[arg-type]
                assert [hit.case for hit in there] == [hit.case for hit in here]
                np.testing.assert_allclose([hit.score for hit in there], [hit.score for hit in here], rtol=1e-5)
            assert len(remote) == 40
            assert remote.info()["present"] == local.info()["present"]
        with pytest.raises(UserError, match=r"is on the Qdrant server .*--url"):
            CaseLibrary.open(tmp_path / "there")
        with pytest.raises(UserError, match="name the right one"):
            CaseLibrary.open(tmp_path / "there", server=server.Server("http://127.0.0.1:1"))
        with CaseLibrary.open(tmp_path / "there", BUNDLE, server.Server(url)) as remote:
            assert remote.delete_patient("patient-2") == 3
            assert len(remote) == 37
    sent = log.read_bytes()
    assert b'"nodule"' in sent
    assert b"the-key-of-the-group" in sent  # in the header
    for case in cases:
        words = (case.study_id, case.patient_id, case.report, case.source, case.series_uid)
        for text in (*words, folder_name(case.study_id), patient_hash(case.patient_id)):
            assert text.encode() not in sent
            assert text.encode("utf-16-le") not in sent
            assert base64.b64encode(text.encode())[:-4] not in sent
    kept = b"".join(path.read_bytes() for path in (tmp_path / "there").rglob("*") if path.is_file())
    assert b"the-key-of-the-group" not in kept


def test_a_server_that_is_gone_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    latents = make_latents(2)
    with stand_in(tmp_path / "requests") as url, create(tmp_path / "there", server=server.Server(url)) as library:
        library.add(make_case(0), latents[0])
    with pytest.raises(UserError, match="check that it runs") as caught:
        CaseLibrary.open(tmp_path / "there", server=server.Server(url))
    assert "\n" not in str(caught.value)
    # A server that forgot everything is filled anew from the folder.
    with stand_in(tmp_path / "requests") as other:
        path = tmp_path / "there" / "library.json"
        path.write_text(path.read_text().replace(url, other))
        with CaseLibrary.open(tmp_path / "there", server=server.Server(other)) as library:
            assert library.search(latents[0])[0].case == make_case(0)


@pytest.mark.parametrize("flags", [[], ["--allow-host", "qdrant.other"], ["--allow-host", "qdrant.hospital"]])
def test_another_host_needs_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    create(tmp_path / "library").close()
    assert run(["library", "info", str(tmp_path / "library"), "--url", "http://qdrant.hospital:6333", *flags]) == 1
    error = " ".join(capsys.readouterr().err.split())
    if "qdrant.hospital" in flags:
        assert "--allow-plain-http" in error
    else:
        assert "latents and findings would leave this machine" in error
        assert "--allow-host qdrant.hospital" in error


def test_only_a_key_that_leaves_this_machine_without_encryption_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.KEY_VARIABLE, "the-key-of-the-group")
    folder = str(tmp_path / "library")
    with stand_in(tmp_path / "requests") as url, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        create(tmp_path / "library", server=server.Server(url, remote=False)).close()
        assert run(["library", "info", folder, "--url", url]) == 0
    assert b"the-key-of-the-group" in (tmp_path / "requests").read_bytes()
    assert [str(warning.message) for warning in said if "insecure" in str(warning.message)] == []
    with pytest.warns(UserWarning, match="insecure connection"):
        server.Server("http://qdrant.hospital:6333").connect().close()
