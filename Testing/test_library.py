"""The case library: exact search, filters, and what survives kills, other processes and deletion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import greenrfm
from greenrfm.errors import UserError
from greenrfm.findings import State
from greenrfm.library import Case, CaseLibrary
from greenrfm.library.index import patient_hash

KEYS = ("nodule", "effusion", "cardiomegaly")
DIMENSION = 24
BUNDLE = "b" * 64
PACKAGE = Path(greenrfm.__file__).parents[1]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")


def make_case(number: int, **changes: object) -> Case:
    """Return a case whose states, modality, patient and day follow from its number."""
    states = {key: list(State)[(number // 4**place) % 4] for place, key in enumerate(KEYS)}
    case = Case(
        study_id=f"study-{number}",
        patient_id=f"patient-{number // 3}",
        states=states,
        report=f"Report {number}: the heart is of normal size.",
        thumbnail=b"\x89PNG" + bytes([number % 256]),
        modality="MR" if number % 5 == 0 else "CT",
        study_date="" if number % 7 == 0 else f"20{10 + number % 10}-03-{1 + number % 28:02d}",
        series_uid=f"1.2.{number}",
    )
    return replace(case, **changes)  # type: ignore[arg-type]


def make_latents(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return latents whose norms differ by a factor of six, so that dot product and cosine rank differently."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(count, DIMENSION)) * generator.uniform(0.5, 3, (count, 1))).astype(np.float32)


def create(folder: Path, **changes: object) -> CaseLibrary:
    """Return a new empty library."""
    arguments = {"bundle_hash": BUNDLE, "dimension": DIMENSION, "keys": KEYS, **changes}
    return CaseLibrary.create(folder, **arguments)  # type: ignore[arg-type]


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another Python that runs `code` with `greenrfm` and this file importable."""
    path = os.pathsep.join([str(PACKAGE), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
    )


def written(path: Path) -> bytes:
    """Return what was ever written to a file: Qdrant's are tens of megabytes of hole."""
    if not hasattr(os, "SEEK_DATA"):
        return path.read_bytes()
    parts, end = [], 0
    with path.open("rb") as stream:
        while end < path.stat().st_size:
            try:
                start = os.lseek(stream.fileno(), end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            parts.append(os.pread(stream.fileno(), end - start, start))
    return b"".join(parts)


def contents(folder: Path) -> dict[str, bytes]:
    """Return what all files below `folder` hold, by their path, which is part of it."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: os.fsencode(name) + b"\n" + written(path) for name, path in paths.items()}


def files_with(folder: Path, *needles: bytes) -> list[str]:
    """Return the files below `folder` that hold one of `needles` in path or content."""
    return [name for name, data in contents(folder).items() if any(needle in data for needle in needles)]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: Qdrant waits for the disk whenever it makes an index."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 1 << 30:
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            yield Path(folder)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CaseLibrary, list[Case], NDArray[np.float32]]]:
    """Return a library of 400 cases that no test changes."""
    cases, latents = [make_case(number) for number in range(400)], make_latents(400)
    with create(tmp_path_factory.mktemp("filled") / "library") as library:
        library.add_many(zip(cases, latents, strict=True))
        yield library, cases, latents


def test_search_is_the_exact_raw_dot_product(filled: tuple[CaseLibrary, list[Case], NDArray[np.float32]]) -> None:
    library, cases, latents = filled
    for query in [*make_latents(30, seed=1), *(latents[:10] * 7.5)]:
        scores = latents.astype(np.float64) @ query
        for k in (1, 10, 100):
            best = np.argsort(-scores)[:k]
            hits = library.search(query, k)
            assert [hit.case.study_id for hit in hits] == [cases[row].study_id for row in best]
            np.testing.assert_allclose([hit.score for hit in hits], scores[best], rtol=1e-5, atol=1e-4)
            assert [hit.rank for hit in hits] == list(range(1, k + 1))


def test_a_hit_carries_the_whole_case(filled: tuple[CaseLibrary, list[Case], NDArray[np.float32]]) -> None:
    library, cases, latents = filled
    hit = library.search(latents[3] * 100, 1)[0]
    assert hit.case in cases
    assert library.get(hit.case.study_id) == hit.case


@settings(max_examples=40, deadline=None)
@given(
    present=st.lists(st.sampled_from(KEYS), unique=True, max_size=2),
    absent=st.lists(st.sampled_from(KEYS), unique=True, max_size=2),
    modality=st.sampled_from(["", "CT", "MR", "US"]),
    patient=st.sampled_from(["", "patient-1", "patient-77", "nobody"]),
    first=st.sampled_from(["", "2012-03-05", "2015-01-01", "2019-03-28"]),
    last=st.sampled_from(["", "2012-03-05", "2016-03-09", "2009-12-31"]),
)
def test_filters_do_what_a_plain_loop_does(
    filled: tuple[CaseLibrary, list[Case], NDArray[np.float32]],
    present: list[str],
    absent: list[str],
    modality: str,
    patient: str,
    first: str,
    last: str,
) -> None:
    library, cases, latents = filled

    def fits(case: Case) -> bool:
        return (
            all(case.states[key] is State.PRESENT for key in present)
            and all(case.states[key] is State.ABSENT for key in absent)
            and (not modality or case.modality == modality)
            and case.patient_id != patient
            and (not first or case.study_date >= first)
            and (not (first or last) or bool(case.study_date))
            and (not last or case.study_date <= last)
        )

    query = make_latents(1, seed=2)[0]
    order = np.argsort(-(latents.astype(np.float64) @ query))
    wanted = [cases[row].study_id for row in order if fits(cases[row])][:15]
    hits = library.search(
        query,
        15,
        present=present,
        absent=absent,
        modality=modality,
        exclude_patient=patient,
        date_from=first,
        date_to=last,
    )
    assert [hit.case.study_id for hit in hits] == wanted


def test_info_counts_what_is_there(filled: tuple[CaseLibrary, list[Case], NDArray[np.float32]]) -> None:
    library, cases, _ = filled
    info = library.info()
    assert json.loads(json.dumps(info)) == info
    assert (info["cases"], info["dimension"], info["keys"]) == (400, DIMENSION, list(KEYS))
    assert info["patients"] == len({case.patient_id for case in cases})
    assert info["modalities"] == {"CT": 320, "MR": 80}
    assert info["present"]["nodule"] == sum(case.states["nodule"] is State.PRESENT for case in cases)
    assert library.study_ids() == sorted(case.study_id for case in cases)


def test_the_same_study_replaces(tmp_path: Path) -> None:
    latents = make_latents(2)
    with create(tmp_path / "library") as library:
        library.add(make_case(1), latents[0])
        library.add(make_case(1), latents[0])
        assert len(library) == 1
        second = make_case(1, report="Amended.", states={"nodule": State.PRESENT}, thumbnail=b"", study_date="")
        assert library.add_many([(make_case(1), latents[0]), (second, latents[1])]) == 2
        assert len(library) == 1
        assert library.get("study-1") == second
        assert library.search(latents[1], 5)[0].score == pytest.approx(float(latents[1] @ latents[1]), rel=1e-5)
        assert library.search(latents[1], 5, date_from="2000-01-01") == []
        assert files_with(tmp_path, b"Report 1:") == []
        library.rebuild_index()
        assert files_with(tmp_path, latents[0].tobytes()) == []


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseLibrary]:
    with create(tmp_path_factory.mktemp("scratch") / "library") as library:
        yield library


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=st.builds(
        Case,
        study_id=TEXT.filter(bool),
        patient_id=TEXT.filter(bool),
        states=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(State)),
        report=TEXT,
        thumbnail=st.binary(max_size=20),
        modality=TEXT,
        study_date=st.one_of(st.just(""), st.dates().map(str)),
        series_uid=TEXT,
    )
)
def test_any_case_comes_back_as_it_went_in(scratch: CaseLibrary, case: Case) -> None:
    scratch.add(case, np.ones(DIMENSION))
    assert case.study_id in scratch
    assert scratch.get(case.study_id) == case
    found = scratch.search(np.ones(DIMENSION), 1000, modality=case.modality, date_to=case.study_date)
    assert case in [hit.case for hit in found]


def test_paths_may_hold_any_letters(tmp_path: Path) -> None:
    folder = tmp_path / "Fälle 肺 [alt] ünïcode" / "бібліотека"
    with create(folder) as library:
        library.add(make_case(1), make_latents(1)[0])
    with CaseLibrary.open(folder, BUNDLE) as library:
        assert library.study_ids() == ["study-1"]
        assert library.delete_patient("patient-0") == 1


def test_an_empty_library_finds_nothing(tmp_path: Path) -> None:
    with create(tmp_path / "library") as library:
        assert library.search(np.ones(DIMENSION)) == []
        assert library.add_many([]) == 0
        assert library.delete_patient("nobody") == 0
        assert len(library) == 0
    with CaseLibrary.open(tmp_path / "library") as library:
        assert library.info()["cases"] == 0


def test_a_deleted_patient_leaves_no_byte(tmp_path: Path) -> None:
    latents = make_latents(30)
    case = make_case(
        30, patient_id="PAT-4711", study_id="ACC-90210", report="Zystennieren beidseits.", thumbnail=b"secret pixels"
    )
    latent = np.linspace(1.25, 7.5, DIMENSION, dtype=np.float32)
    texts = [b"PAT-4711", b"ACC-90210", b"Zystennieren", b"secret pixels"]
    with create(tmp_path / "library") as library:
        library.add_many([(make_case(number), latents[number]) for number in range(30)])
        library.add(case, latent)
        library.add(replace(case, study_id="ACC-90211"), latent * 2)
        # The search itself works, and the shard never holds a text.
        before = contents(tmp_path)
        for needle in texts:
            found = [name for name, data in before.items() if needle in data]
            assert found
            assert not any("index-" in name for name in found)
        assert any("index-" in name for name in files_with(tmp_path, latent.tobytes()))
        assert any("index-" in name for name in files_with(tmp_path, patient_hash("PAT-4711").encode()))
        hashes = [name.split(os.sep)[2].encode() for name in files_with(tmp_path, b"PAT-4711")]
        assert len(hashes) == 2
        assert library.delete_patient("PAT-4711") == 2
        assert len(library) == 30
        # While it is open, and after.
        gone = [*texts, *hashes, patient_hash("PAT-4711").encode(), latent.tobytes(), (latent * 2).tobytes()]
        assert files_with(tmp_path, *gone) == []
        with pytest.raises(UserError, match="no study ACC-90210"):
            library.get("ACC-90210")
    assert files_with(tmp_path, *gone) == []
    with CaseLibrary.open(tmp_path / "library") as library:
        assert len(library.search(latents[0], 100)) == 30


def test_another_bundle_is_refused_with_the_way_out(tmp_path: Path) -> None:
    create(tmp_path / "library").close()
    with pytest.raises(UserError, match=r"another bundle .*open it with its own bundle, or add .* new library"):
        CaseLibrary.open(tmp_path / "library", "c" * 64)
    CaseLibrary.open(tmp_path / "library", BUNDLE).close()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "is no case library"),
        ("", "is no case library"),
        ("[1]", "is no case library"),
        ('{"format": "greenrfm-library", "format_version": 2}', "update greenrfm"),
        ('{"format": "greenrfm-library", "format_version": 1}', "is damaged"),
        (
            '{"format": "greenrfm-library", "format_version": 1, "bundle_hash": "b", "dimension": 2, "keys": [], '
            '"similarity": "dot", "index": "index-/../../elsewhere"}',
            "is damaged",
        ),
    ],
)
def test_a_folder_that_is_no_library_is_refused(tmp_path: Path, text: str | None, sentence: str) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    if text is not None:
        (folder / "library.json").write_text(text)
    with pytest.raises(UserError, match=sentence) as caught:
        CaseLibrary.open(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    assert not (folder / "library.lock").exists()


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no case library"):
        CaseLibrary.open(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_not_made_a_library(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    create(tmp_path / "library").close()
    with pytest.raises(UserError, match="already holds a case library"):
        create(tmp_path / "library")
    with pytest.raises(UserError, match="only 'dot'"):
        create(tmp_path / "other", similarity="cosine")


@pytest.mark.parametrize("damage", ["shard gone", "config", "segment", "vectors", "log"])
def test_a_damaged_index_is_built_anew(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    folder, latents = tmp_path / "library", make_latents(40)
    with create(folder) as library:
        library.add_many([(make_case(number), latents[number]) for number in range(40)])
    (index,) = folder.glob("index-*")
    if damage == "shard gone":
        shutil.rmtree(index)
    elif damage == "config":
        (index / "edge_config.json").write_text("junk")
    elif damage == "segment":
        next(index.glob("segments/*/segment.json")).write_text("junk")
    elif damage == "vectors":
        shutil.rmtree(index / "segments")
        shutil.rmtree(index / "wal")
    else:
        for path in index.glob("wal/*"):
            path.write_bytes(b"junk")
    with CaseLibrary.open(folder) as library:
        best = np.argsort(-(latents @ latents[5]))[:10]
        assert [hit.case.study_id for hit in library.search(latents[5])] == [f"study-{row}" for row in best]
    assert len(list(folder.glob("index-*"))) == 1
    assert damage == "vectors" or "built anew" in caplog.text


def test_a_damaged_case_is_named(tmp_path: Path) -> None:
    with create(tmp_path / "library") as library:
        library.add(make_case(1), make_latents(1)[0])
        (path,) = (tmp_path / "library" / "cases").glob("*/case.json")
        path.write_text('{"study_id": 1')
        for look in (lambda: library.get("study-1"), lambda: library.search(np.ones(DIMENSION)), library.study_ids):
            with pytest.raises(UserError, match=r"missing or damaged .* restore it"):
                look()


def test_what_does_not_fit_is_refused_and_not_added(tmp_path: Path) -> None:
    latent = make_latents(1)[0]
    with create(tmp_path / "library") as library:
        with pytest.raises(UserError, match=r"'noduel'; did you mean 'nodule'"):
            library.add(make_case(1, states={"noduel": State.PRESENT}), latent)
        with pytest.raises(UserError, match=r"did you mean 'effusion'"):
            library.search(latent, absent=["efusion"])
        with pytest.raises(UserError, match="library's own bundle"):
            library.add(make_case(1), latent[:-1])
        with pytest.raises(UserError, match="library's own bundle"):
            library.search(latent[None])
        with pytest.raises(UserError, match="not finite"):
            library.add(make_case(1), latent * np.nan)
        with pytest.raises(UserError, match="YYYY-MM-DD"):
            library.add(make_case(1, study_date="20200131"), latent)
        with pytest.raises(UserError, match="YYYY-MM-DD"):
            library.search(latent, date_to="2020-02-30")
        with pytest.raises(UserError, match="no patient id"):
            library.add(make_case(1, patient_id=""), latent)
        with pytest.raises(UserError, match="at least 1"):
            library.search(latent, 0)
        assert len(library) == 0
        assert library.study_ids() == []


def test_a_closed_library_says_so(tmp_path: Path) -> None:
    library = create(tmp_path / "library")
    library.close()
    library.close()
    for use in (lambda: library.search(np.ones(DIMENSION)), lambda: len(library), library.info):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ValueError, match="closed"):
        library.add(make_case(1), make_latents(1)[0])
    assert library.study_ids() == []


HOLD = """
    import sys
    import time
    from greenrfm.library import CaseLibrary
    library = CaseLibrary.open(sys.argv[1])
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_library_open_in_another_process_is_refused_and_unharmed(tmp_path: Path) -> None:
    folder, latents = tmp_path / "library", make_latents(3)
    with create(folder) as library:
        library.add(make_case(0), latents[0])
    holder = child(HOLD, folder)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        for _ in range(3):
            with pytest.raises(UserError, match=rf"open elsewhere \(process {holder.pid}\); close it"):
                CaseLibrary.open(folder)
    finally:
        # As a crash would: no close, no unlock.
        holder.kill()
        holder.wait()
        holder.stdout.close()  # type: ignore[union-attr]
    with CaseLibrary.open(folder) as library:
        library.add(make_case(1), latents[1])
        with pytest.raises(UserError, match="open elsewhere"):
            CaseLibrary.open(folder)
        # The refusals left the holder's shard alone: it still writes and flushes.
        library.add(make_case(2), latents[2])
    with CaseLibrary.open(folder) as library:
        assert len(library) == 3


ADD_FOREVER = """
    import sys
    import numpy as np
    from test_library import make_case, make_latents
    from greenrfm.library import CaseLibrary
    from greenrfm.library import library as module
    module.BATCH = 8
    latents = make_latents(64)
    with CaseLibrary.open(sys.argv[1]) as library:
        for version in range(1, 10**6):
            cases = ((make_case(n, report=f"version {version}"), latents[n] * version) for n in range(64))
            library.add_many(cases, lambda done: print(version, done, flush=True))
"""


@POSIX
@pytest.mark.parametrize("lines", [1, 3, 7, 8, 20])
def test_a_kill_while_adding_loses_no_acknowledged_study(tmp_path: Path, lines: int) -> None:
    folder, latents = tmp_path / "library", make_latents(64)
    create(folder).close()
    writer = child(ADD_FOREVER, folder)
    assert writer.stdout is not None
    seen = [writer.stdout.readline() for _ in range(lines)]
    writer.send_signal(signal.SIGKILL)
    acknowledged = dict.fromkeys(range(64), 0)
    for line in [*seen, *writer.stdout]:
        version, done = map(int, line.split())
        acknowledged.update(dict.fromkeys(range(done - 8, done), version))
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    assert sum(map(bool, acknowledged.values())) >= min(8 * lines, 64)
    with CaseLibrary.open(folder) as library:
        found = {hit.case.study_id: hit for hit in library.search(np.ones(DIMENSION), 100)}
        assert library.study_ids() == sorted(found)
        for number, version in acknowledged.items():
            if version or f"study-{number}" in found:
                hit = found[f"study-{number}"]
                stored = int(hit.case.report.removeprefix("version "))
                # The batch that was cut off may be there or not, but report and latent are of one version.
                assert stored in (version, version + 1)
                assert hit.score == pytest.approx(float(latents[number].sum() * stored), rel=1e-4, abs=1e-3)
        library.add(make_case(64), latents[0])
    assert not list(folder.glob("cases/*.*"))
    assert not (folder / "pending.json").exists()


# One process, so that greenrfm is imported once, forks a child for each place at which it may be killed: an
# audit hook counts every opening, renaming, making and removing of a file, and kills at the n-th. What
# happens inside an index that is being removed is left out: there are hundreds of files, all of no use.
KILL_EVERYWHERE = """
    import os, shutil, signal, sys
    from pathlib import Path
    from test_library import create, make_case, make_latents
    from greenrfm.library import CaseLibrary
    work, action, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    events = ("open", "os.rename", "os.mkdir", "os.remove", "shutil.rmtree")
    case_files = ("case.json", "report.txt", "latent.npy", "thumbnail.png")
    for place in range(1, 200, step):
        folder = work / str(place)
        child = os.fork()
        if not child:
            library = create(folder)
            library.add_many([(make_case(n), make_latents(6)[n]) for n in range(6)])
            left = [place]
            def hook(event, arguments):
                if event in events and (str(folder) in str(arguments[0]) or arguments[0] in case_files):
                    left[0] -= 1
                    if not left[0]:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
            if action == "delete":
                library.delete_patient("patient-1")
            else:
                library.add_many([(make_case(n, report="new"), make_latents(8, seed=9)[n]) for n in (4, 7)])
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            shutil.rmtree(folder)
            break
    else:
        sys.exit("never ended")
"""


@POSIX
@pytest.mark.parametrize(("action", "step"), [("add", 1), ("delete", 5)])
def test_a_kill_at_any_file_operation_is_mended(tmp_path: Path, action: str, step: int) -> None:
    # Deleting has 60 such places, most of them in the folder of an index; a step of 1 takes half a minute.
    old, new = make_latents(6), make_latents(8, seed=9)
    assert child(KILL_EVERYWHERE, tmp_path, action, step).wait() == 0
    outcomes = set()
    places = list(tmp_path.iterdir())
    assert len(places) >= 10
    for folder in places:
        with CaseLibrary.open(folder) as library:
            hits = {hit.case.study_id: hit for hit in library.search(np.ones(DIMENSION), 100)}
            assert library.study_ids() == sorted(hits)
            for study, hit in hits.items():
                number = int(study.removeprefix("study-"))
                latent = new[number] if hit.case.report == "new" else old[number]
                assert hit.score == pytest.approx(float(latent.sum()), rel=1e-4, abs=1e-3)
            if action == "delete":
                # Half a deletion is finished at the next opening, whatever place it was killed at.
                assert set(hits) in ({f"study-{n}" for n in range(6)}, {f"study-{n}" for n in range(3)})
                if len(hits) == 3:
                    assert files_with(folder, b"patient-1", old[4].tobytes()) == []
            else:
                assert set(hits) - {"study-7"} == {f"study-{n}" for n in range(6)}
            outcomes.add((len(hits), hits["study-4"].case.report == "new" if "study-4" in hits else None))
        assert not list(folder.glob("cases/*.*"))
        assert not (folder / "pending.json").exists()
        assert len(list(folder.glob("index-*"))) == 1
    assert outcomes >= ({(6, False), (7, True)} if action == "add" else {(6, False), (3, None)})


def test_the_room_needs_nothing_heavy() -> None:
    process = child(
        """
        import sys
        import greenrfm.library
        heavy = {"torch", "transformers", "pandas", "scipy", "sklearn", "onnxruntime", "SimpleITK", "qdrant_client"}
        sys.exit(", ".join(heavy & set(sys.modules)) or 0)
        """
    )
    assert process.wait() == 0
