"""The volume cache: prepared once, whole or not at all, found again by content, never pruned under a training."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pytest

from command_line import ROOT
from greenrfm.cache import (
    BrokenVolume,
    Hold,
    VolumeCache,
    check_field,
    default_folder,
    filling,
    read_field,
    verification,
    verify,
    write_field,
)
from greenrfm.cache import content as content_module
from greenrfm.cohort import Study
from greenrfm.errors import UserError
from greenrfm.progress import silent
from greenrfm.training.volumes import Crops, prepare, prepare_readable
from greenrfm.volumes import read_volume, write_volume
from greenrfm.volumes.facts import image_facts
from some_volumes import SMALL, random_volume


def studies_in(folder: Path, count: int = 3) -> list[Study]:
    """Write volumes that settled an hour ago, and return their studies."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        image = folder / f"s{number}.nii.gz"
        write_volume(random_volume(number, (30, 28, 16)), image)
        os.utime(image, (time.time() - 3600,) * 2)
        rows.append(Study(f"s{number}", f"p{number}", {"image": image}))
    return rows


def no_work(*_: object) -> str:
    raise AssertionError("nothing was to be read")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare in this process, where tests can look."""
    monkeypatch.setattr(filling, "make_pool", ThreadPoolExecutor)
    monkeypatch.setattr(verification, "make_pool", ThreadPoolExecutor)


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    return studies_in(tmp_path / "images")


@pytest.fixture
def files(in_process: None, studies: list[Study], tmp_path: Path) -> list[Path]:
    return prepare(studies, SMALL, tmp_path / "cache", 2, silent)


def test_crops_and_fields_are_the_preprocessed_volume_in_half_precision(files, studies):
    expected = [SMALL.apply(read_volume(study.images["image"])).array.astype(np.float16) for study in studies]
    crops = Crops(files, SMALL.crop)
    for index, field in enumerate(crops.fields([0, 1, 2])):
        np.testing.assert_array_equal(field[0], expected[index])
    drawn = crops.random([2, 0], np.random.default_rng(7))
    places = np.random.default_rng(7)
    for row, index in enumerate([2, 0]):
        start = [int(places.integers(0, w - c + 1)) for w, c in zip(SMALL.size, SMALL.crop, strict=True)]
        box = tuple(slice(s, s + c) for s, c in zip(start, SMALL.crop, strict=True))
        np.testing.assert_array_equal(drawn[row, 0], expected[index][box].astype(np.float32))
    assert drawn.dtype == np.float32


def test_a_file_is_a_plain_blosc2_array_for_other_tools(files):
    array = blosc2.open(str(files[0]), mode="r")
    assert array.shape == SMALL.size
    np.testing.assert_array_equal(array[:], read_field(files[0])[:, :, :])
    assert array.schunk.vlmeta["greenrfm"]["preprocessing"]["spacing"] == [2.0, 2.0, 3.0]


def test_blocks_cut_at_the_rim_of_odd_sizes_come_back(tmp_path):
    array = np.random.default_rng(0).normal(size=(67, 33, 70)).astype(np.float16)
    write_field(tmp_path / "a.b2nd", array, {"key": "a"})
    field = read_field(tmp_path / "a.b2nd")
    np.testing.assert_array_equal(field[:, :, :], array)
    np.testing.assert_array_equal(field[31:66, 5:33, 63:70], array[31:66, 5:33, 63:70])
    check_field(tmp_path / "a.b2nd")


def test_values_beyond_half_precision_are_refused(tmp_path):
    with pytest.raises(UserError, match="65504"):
        write_field(tmp_path / "a.b2nd", np.full((4, 4, 4), 1e6, np.float32), {"key": "a"})
    assert not list(tmp_path.iterdir())


def test_the_same_content_is_found_under_another_path_and_time(files, studies, tmp_path, monkeypatch):
    moved = tmp_path / "moved"
    moved.mkdir()
    for study in studies:
        shutil.copyfile(study.images["image"], moved / f"other-{study.study_id}.nii.gz")
    again = [replace(study, images={"image": moved / f"other-{study.study_id}.nii.gz"}) for study in studies]
    monkeypatch.setattr(filling, "read_volume", no_work)
    assert prepare(again, SMALL, tmp_path / "cache", 1, silent) == files


def test_a_second_run_reads_no_image(files, studies, tmp_path, monkeypatch):
    monkeypatch.setattr(filling, "read_volume", no_work)
    monkeypatch.setattr(filling, "content_digest", no_work)
    assert prepare(studies, SMALL, tmp_path / "cache", 1, silent) == files


def test_an_image_changed_in_place_is_prepared_anew(files, studies, tmp_path):
    write_volume(random_volume(9, (30, 28, 16)), studies[1].images["image"])
    again = prepare(studies, SMALL, tmp_path / "cache", 1, silent)
    assert [a == b for a, b in zip(again, files, strict=True)] == [True, False, True]


def test_an_image_that_has_just_changed_is_not_trusted_to_show_the_next_change(tmp_path, in_process):
    study = studies_in(tmp_path / "images", 1)[0]
    os.utime(study.images["image"])
    prepare([study], SMALL, tmp_path / "cache", 1, silent)
    facts = image_facts(study.images["image"])
    assert VolumeCache(tmp_path / "cache").digests().get(facts) is None


def test_the_crop_does_not_count_but_everything_else_does(files, studies, tmp_path):
    def keys(**changed):
        return prepare(studies, replace(SMALL, **changed), tmp_path / "cache", 1, silent)

    assert keys(crop=(4, 4, 4)) == files
    assert not set(keys(window=(-900, 200))) & set(files)


def test_the_series_counts(files, studies, tmp_path):
    chosen = replace(studies[0], extra={"series_uid": "1.2.3"})
    assert prepare([chosen], SMALL, tmp_path / "cache", 1, silent) != files[:1]


def test_a_detached_header_counts_with_its_data(tmp_path):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(random_volume(0).array.transpose(2, 1, 0))
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    before = content_module.content_digest(tmp_path / "a.mhd")
    data = (tmp_path / "a.raw").read_bytes()
    (tmp_path / "a.raw").write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert content_module.content_digest(tmp_path / "a.mhd") != before


def test_torn_lines_of_the_index_are_no_lines(files, studies, tmp_path, monkeypatch):
    index = tmp_path / "cache" / "digests.txt"
    whole = index.read_text()
    lines = whole.split()
    index.write_text(whole[:-20] + "\n" + " ".join([lines[0], lines[1][::-1], lines[2]]) + "\n\x00\xff half a li")
    assert prepare(studies, SMALL, tmp_path / "cache", 1, silent) == files
    known = VolumeCache(tmp_path / "cache").digests()
    assert all(
        known.get(image_facts(s.images["image"])) == content_module.content_digest(s.images["image"]) for s in studies
    )


def test_no_path_and_no_name_is_kept_in_the_cache(files, studies, tmp_path):
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"images" not in content
            assert b"s1.nii" not in content
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0 or sys.platform == "win32"


class TestAnUnreadableVolume:
    @pytest.fixture
    def cut(self, studies: list[Study]) -> list[Study]:
        image = studies[1].images["image"]
        image.write_bytes(image.read_bytes()[:500])
        return [*studies, Study("lost", "p8", {"image": image.parent / "lost.nii.gz"}), Study("bare", "p9")]

    def test_stops_training_naming_the_study(self, cut, in_process, tmp_path):
        with pytest.raises(UserError, match=r"^study s1: .*damaged or cut off"):
            prepare(cut[:3], SMALL, tmp_path / "cache", 1, silent)

    def test_is_listed_and_left_out_if_asked(self, cut, in_process, tmp_path):
        done: list[tuple[int, int]] = []
        filled = prepare_readable(
            cut, SMALL, tmp_path / "cache", 1, lambda stage, at, total, metrics=None: done.append((at, total))
        )
        assert list(filled.files) == ["s0", "s2"]
        assert set(filled.unreadable) == {"s1", "lost", "bare"}
        assert "does not exist" in filled.unreadable["lost"]
        assert done[-1] == (3, 3)

    def test_is_left_out_although_its_content_is_known(self, files, studies, tmp_path, monkeypatch):
        def refuse(*_):
            raise UserError("no contrast")

        monkeypatch.setattr(filling, "read_volume", refuse)
        other = replace(SMALL, window=(-900, 200))
        filled = prepare_readable(studies, other, tmp_path / "cache", 1, silent)
        assert filled.files == {}
        assert filled.unreadable == {"s0": "no contrast", "s1": "no contrast", "s2": "no contrast"}

    def test_missing_image_and_missing_column_are_sentences(self, cut, in_process, tmp_path):
        with pytest.raises(UserError, match=r"study lost: .*does not exist"):
            prepare(cut[3:4], SMALL, tmp_path / "cache", 1, silent)
        with pytest.raises(UserError, match=r"study bare has no image"):
            prepare(cut[4:], SMALL, tmp_path / "cache", 1, silent)


def test_a_worker_ended_from_outside_is_a_sentence(studies, tmp_path, monkeypatch):
    class Broken(ThreadPoolExecutor):
        def submit(self, *_):
            raise BrokenProcessPool

    monkeypatch.setattr(filling, "make_pool", Broken)
    with pytest.raises(UserError, match="ended from outside"):
        prepare(studies, SMALL, tmp_path / "cache", 1, silent)


class TestDiskSpace:
    def test_is_asked_for_before_anything_is_read(self, studies, in_process, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1000))
        monkeypatch.setattr(filling, "read_volume", no_work)
        with pytest.raises(UserError, match=r"needs about 0\.0 GB for 3 volumes and its disk has 0\.0 GB free"):
            prepare(studies, SMALL, tmp_path / "cache", 1, silent)

    def test_a_full_disk_stops_no_training_whose_volumes_are_there(self, files, studies, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1 << 40, 1 << 40, 1000))
        # Also from another path: their content is then read to know them.
        shutil.copytree(tmp_path / "images", tmp_path / "copy")
        copies = [replace(s, images={"image": tmp_path / "copy" / f"{s.study_id}.nii.gz"}) for s in studies]
        assert prepare(copies, SMALL, tmp_path / "cache", 1, silent) == files

    def test_is_measured_on_a_sample_where_the_guess_does_not_fit(self, in_process, tmp_path, monkeypatch):
        rows = studies_in(tmp_path / "images", 12)
        guess = 12 * 2 * int(np.prod(SMALL.size))
        monkeypatch.setattr(filling, "RESERVE", 0)
        for free, fits in ((guess - 1, True), (100, False)):
            monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: shutil._ntuple_diskusage(1, 1, free))
            cache = tmp_path / f"cache{free}"
            monkeypatch.setattr(filling._Filling, "_bytes_each", lambda _: 2.0 * float(np.prod(SMALL.size)))
            if fits:
                assert len(prepare(rows, SMALL, cache, 1, silent)) == 12
            else:
                with pytest.raises(UserError, match="for 4 volumes"):
                    prepare(rows, SMALL, cache, 1, silent)


class TestABrokenFile:
    @pytest.mark.parametrize("damage", ["cut", "empty", "bit", "swapped"])
    def test_is_one_sentence_in_training_and_found_by_verify(self, files, tmp_path, damage):
        data = bytearray(files[0].read_bytes())
        data[len(data) // 2] ^= 4
        if damage == "swapped":
            shutil.copyfile(files[1], files[0])
        else:
            files[0].write_bytes({"cut": data[:-100], "empty": b"", "bit": bytes(data)}[damage])
        crops = Crops(files, SMALL.crop)
        with pytest.raises(BrokenVolume, match=f"{files[0].name}.*greenrfm cache verify"):
            crops.random([0], np.random.default_rng(0))
        cache = VolumeCache(tmp_path / "cache")
        assert list(verify(cache, 1, silent)) == [files[0]]
        assert list(verify(cache, 1, silent, repair=True)) == [files[0]]
        assert not files[0].exists()
        assert verify(cache, 1, silent) == {}

    def test_no_damage_of_one_byte_reaches_the_decompressor_unseen(self, files):
        data = files[0].read_bytes()
        for place in range(0, len(data), max(1, len(data) // 150)):
            files[0].write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
            with pytest.raises(BrokenVolume):
                read_field(files[0])

    def test_a_file_that_is_gone_is_one_sentence(self, files):
        files[2].unlink()
        with pytest.raises(UserError, match="is gone; start again"):
            Crops(files, SMALL.crop)


class TestPrune:
    @pytest.fixture
    def cache(self, files: list[Path], tmp_path: Path) -> VolumeCache:
        for days, file in enumerate(files):
            os.utime(file, (time.time() - 86400 * (days + 0.5),) * 2)
        return VolumeCache(tmp_path / "cache")

    def test_by_days(self, cache, files):
        assert cache.prune(keep_days=1).removed == 2
        assert [file.exists() for file in files] == [True, False, False]

    def test_by_size_takes_the_longest_unused_first(self, cache, files):
        most = sum(file.stat().st_size for file in files[:2])
        done = cache.prune(max_bytes=most)
        assert (done.removed, done.left, done.left_bytes) == (1, 2, most)
        assert not files[2].exists()

    def test_all_leaves_an_empty_cache(self, cache):
        assert cache.prune(everything=True).removed == 3
        assert cache.entries() == []
        assert not (cache.folder / "digests.txt").exists()

    def test_never_takes_what_a_training_holds(self, cache, files):
        crops = Crops(files[:2], SMALL.crop)
        done = cache.prune(everything=True)
        assert (done.removed, done.held) == (1, 2)
        crops.random([0, 1], np.random.default_rng(0))
        del crops
        assert cache.prune(everything=True).removed == 2

    def test_takes_others_for_those_that_are_held(self, cache, files):
        crops = Crops(files[2:], SMALL.crop)  # the longest unused
        done = cache.prune(max_bytes=sum(file.stat().st_size for file in files) - 1)
        assert (done.removed, done.held, done.left) == (1, 1, 2)
        assert [file.exists() for file in files] == [True, False, True]
        del crops

    def test_takes_nothing_while_one_is_preparing(self, cache):
        hold = Hold(cache.folder)
        assert cache.prune(everything=True).held == 3
        hold.release()
        assert cache.prune(everything=True).held == 0

    def test_asking_for_a_volume_makes_it_used(self, cache, files, studies):
        prepare(studies, SMALL, cache.folder, 1, silent)
        assert cache.prune(keep_days=1).removed == 0

    def test_leaves_foreign_files(self, cache):
        (cache.folder / "thesis.doc").write_text("mine")
        (cache.folder / ("0" * 16)).mkdir()
        (cache.folder / ("0" * 16) / "notes.b2nd").write_text("mine")
        cache.prune(everything=True)
        assert (cache.folder / "thesis.doc").exists()
        assert (cache.folder / ("0" * 16) / "notes.b2nd").exists()


FILLER = """
import sys
from pathlib import Path

if __name__ == "__main__":
    from greenrfm.cache import Source, VolumeCache, fill
    from some_volumes import SMALL

    def show(stage, done, total, metrics=None):
        print(done, flush=True)
    sources = [Source(path.name, path) for path in sorted(Path(sys.argv[1]).glob("*.nii.gz"))]
    files = fill(VolumeCache(Path(sys.argv[2])), sources, SMALL, 1, show).files
    print(*(file.name for file in files.values()), flush=True)
"""


def filler(folder: Path, images: Path, cache: Path) -> subprocess.Popen[str]:
    script = folder / "filler.py"
    script.write_text(FILLER)
    path = os.pathsep.join([str(ROOT / "train"), str(ROOT / "Testing")])
    return subprocess.Popen(
        [sys.executable, str(script), str(images), str(cache)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a POSIX matter")
def test_a_killed_filling_leaves_whole_files_no_claim_and_goes_on(tmp_path, monkeypatch):
    rows = studies_in(tmp_path / "images", 40)
    process = filler(tmp_path, tmp_path / "images", tmp_path / "cache")
    assert process.stdout is not None
    while int(process.stdout.readline()) < 5:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    cache = VolumeCache(tmp_path / "cache")
    before = {entry.path: entry.path.stat().st_ino for entry in cache.entries()}
    assert 5 <= len(before) < 40
    for path in before:
        check_field(path)
    monkeypatch.setattr(filling, "make_pool", ThreadPoolExecutor)
    files = prepare(rows, SMALL, cache.folder, 2, silent)
    assert len(set(files)) == 40
    # What was finished was not written again. (Its last worker may have finished one more.)
    assert all(path.stat().st_ino == inode for path, inode in before.items())
    assert cache.prune(everything=True).removed == 40


def test_two_processes_may_fill_one_cache(tmp_path):
    studies_in(tmp_path / "images", 12)
    both = [filler(tmp_path, tmp_path / "images", tmp_path / "cache") for _ in range(2)]
    answers = [process.communicate(timeout=60)[0].splitlines()[-1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0] == answers[1]
    assert sorted(entry.path.name for entry in VolumeCache(tmp_path / "cache").entries()) == sorted(answers[0].split())
    for entry in VolumeCache(tmp_path / "cache").entries():
        check_field(entry.path)
    assert not list((tmp_path / "cache").rglob(".*"))


@pytest.mark.parametrize(
    ("environ", "platform", "end"),
    [
        ({"GREENRFM_CACHE": "/big/cache"}, "linux", "/big/cache"),
        ({"XDG_CACHE_HOME": "/scratch"}, "linux", "/scratch/greenrfm/volumes"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "/.cache/greenrfm/volumes"),
        ({}, "darwin", "/Library/Caches/greenrfm/volumes"),
        ({"LOCALAPPDATA": "/Users/me/AppData/Local"}, "win32", "/Local/greenrfm/volumes"),
    ],
)
def test_the_folder_is_the_platforms(environ, platform, end):
    assert default_folder(environ, platform).as_posix().endswith(end)
