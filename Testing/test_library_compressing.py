"""A case library whose process is killed while Qdrant compresses its index."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from greenrfm.findings import State
from greenrfm.library import CaseLibrary
from greenrfm.library.case import folder_name
from greenrfm.library.index import MARKER, CaseIndex
from test_library import POSIX, child, create, make_case, make_latents, tmp_path

__all__ = ["tmp_path"]
COUNT = 300

# Qdrant compresses 3,400 latents of 768 numbers or more; here it does 100 short ones.
COMPRESS = """
    import sys
    from greenrfm.library import CaseLibrary, index
    from test_library_compressing import batch
    index.WAITING, index.PLAIN_KB = 100, 1
    with CaseLibrary.open(sys.argv[1]) as library:
        library.add_many(batch(int(sys.argv[3])))
        print("begins", flush=True)
        if sys.argv[2] == "rebuild":
            library.rebuild_index()
"""


def batch(size: int) -> list[tuple[object, np.ndarray]]:
    """Return the first `size` cases with their latents."""
    return list(zip(map(make_case, range(size)), make_latents(size), strict=True))


@POSIX
@pytest.mark.parametrize("action", ["close", "rebuild"])
def test_a_kill_while_compressing_loses_nothing(tmp_path: Path, action: str, caplog: pytest.LogCaptureFixture) -> None:
    folder, marked = tmp_path / "library", 0
    with create(folder) as library:
        library.add_many(batch(COUNT))
    for number, seconds in enumerate((0.0, 0.02, 0.05), start=1):
        size = COUNT + number
        worker = child(COMPRESS, folder, action, size)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "begins\n"
        while worker.poll() is None and not list(folder.glob(f"index-*/{MARKER}")):
            time.sleep(0.001)
        time.sleep(seconds)
        worker.send_signal(signal.SIGKILL)
        worker.stdout.close()
        killed = worker.wait() == -signal.SIGKILL
        left = bool(list(folder.glob(f"index-*/{MARKER}")))
        assert killed or not left
        marked += left
        caplog.clear()
        with CaseLibrary.open(folder) as library:
            # While a new index was made for `rebuild`, the old one stayed the library's own.
            assert ("built anew" in caplog.text) == (left and action == "close")
            same(library, size)
        (index,) = folder.glob("index-*")
        assert not (index / MARKER).exists()
    assert marked


def same(library: CaseLibrary, size: int) -> None:
    """Compare the library with the cases that were added: all are there, none twice, found as exactly as before."""
    latents = make_latents(size)
    assert library.study_ids() == sorted(f"study-{number}" for number in range(size))
    hits = library._store.index.query(np.ones(latents.shape[1], np.float32), 2 * size)
    assert len({name for name, _ in hits}) == len(hits) == size
    for query in make_latents(5, seed=8):
        best = np.argsort(-(latents @ query))[:10]
        assert [hit.case for hit in library.search(query)] == [make_case(int(row)) for row in best]


def test_a_compressed_index_finds_what_comparing_every_latent_finds(tmp_path: Path) -> None:
    # Random latents: no structure that compressing could keep to. The filters go each way of `CaseIndex.query`.
    count, size, k = 6_000, 768, 10
    random = np.random.default_rng(3)
    latents = random.standard_normal((count, size), np.float32)
    states = {"lung_nodule": random.random(count) < 0.5, "emphysema": random.random(count) < 0.05}
    index = CaseIndex.create(tmp_path / "index", size)
    for start in range(0, count, 500):
        rows = range(start, start + 500)
        index.upsert([
            (replace(make_case(row), patient_id=f"p{row // 3}",
                     states={key: State.PRESENT if flags[row] else State.ABSENT for key, flags in states.items()}),
             latents[row])
            for row in rows
        ])  # fmt: skip
    index.tidy()
    assert index._shard.info().indexed_vectors_count == count
    ways = {
        "all": ({}, np.ones(count, bool)),
        "half": ({"present": ["lung_nodule"]}, states["lung_nodule"]),
        "few": ({"present": ["emphysema"]}, states["emphysema"]),
        "both": ({"present": ["lung_nodule"], "absent": ["emphysema"]}, states["lung_nodule"] & ~states["emphysema"]),
        "another patient": ({"exclude_patient": "p7"}, np.arange(count) // 3 != 7),
    }
    names = [folder_name(make_case(row).study_id) for row in range(count)]
    for way, (wanted, fits) in ways.items():
        found = 0
        for query in random.standard_normal((20, size), np.float32):
            exact = np.where(fits, latents @ query, -np.inf)
            best = {names[row] for row in np.argsort(-exact)[:k]}
            hits = index.query(query, k, **wanted)
            found += len(best & {name for name, _ in hits})
            np.testing.assert_allclose(
                [score for _, score in hits], [exact[names.index(name)] for name, _ in hits], rtol=1e-4
            )
        assert found >= 0.99 * 20 * k, way
    index.close()
