"""`greenrfm cache`: info, verify and prune as a user meets them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from command_line import Command, one_line
from greenrfm.cache import VolumeCache, verification, write_field
from greenrfm.training.volumes import Crops
from some_volumes import SMALL, random_volume


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify in this process: starting others takes longer than the work."""
    monkeypatch.setattr(verification, "make_pool", ThreadPoolExecutor)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a cache of three volumes."""
    folder = VolumeCache(tmp_path / "cache")
    folder.create(SMALL)
    for number in range(3):
        target = folder.file(f"{number}", "", SMALL)
        write_field(target, SMALL.apply(random_volume(number)).array, {"key": target.stem})
    return folder.folder


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.b2nd"))


def test_info_says_what_is_there(greenrfm: Command, cache: Path) -> None:
    facts = greenrfm("cache", "info", "--cache", cache, "--json").json
    assert facts["files"] == 3
    assert facts["bytes"] == sum(file.stat().st_size for file in files(cache))
    assert facts["preprocessings"][0]["preprocessing"]["size"] == [14, 12, 8]
    answer = greenrfm("cache", "info", "--cache", cache)
    assert answer.out.startswith("3 volumes, ")
    assert "14 × 12 × 8 voxels, 2 × 2 × 3 mm: 3 volumes" in answer.out


def test_a_cache_that_does_not_exist_is_empty_and_is_not_made(
    greenrfm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENRFM_CACHE", str(tmp_path / "none"))
    assert greenrfm("cache", "info", "--json").json["files"] == 0
    assert greenrfm("cache", "verify").code == 0
    assert greenrfm("cache", "prune", "--all").out.startswith("0 volumes removed")
    assert not (tmp_path / "none").exists()


def test_verify_fails_until_repaired(greenrfm: Command, cache: Path) -> None:
    assert greenrfm("cache", "verify", "--cache", cache, "--workers", "1").code == 0
    broken = files(cache)[1]
    broken.write_bytes(broken.read_bytes()[:-3])
    answer = greenrfm("cache", "verify", "--cache", cache, "--workers", "1")
    assert answer.code == 1
    assert str(broken) in answer.out
    assert "verify --repair" in answer.err
    answer = greenrfm("cache", "verify", "--cache", cache, "--workers", "1", "--repair", "--json")
    assert answer.code == 0
    assert answer.json == {"checked": 3, "broken": {str(broken): "cut off or overwritten"}, "removed": True}
    assert len(files(cache)) == 2


def test_prune_asks_for_one_way(greenrfm: Command, cache: Path) -> None:
    for wrong in ([], ["--all", "--keep-days", "3"]):
        answer = greenrfm("cache", "prune", "--cache", cache, *wrong)
        assert answer.code == 2
        assert "one of --keep-days" in one_line(answer)
    for size in ("many", "5 parsecs", "-1GB", "GB"):
        answer = greenrfm("cache", "prune", "--cache", cache, f"--max-size={size}")
        assert answer.code == 2
        assert "is no size" in one_line(answer)
    assert len(files(cache)) == 3


def test_prune_keeps_what_a_training_holds(greenrfm: Command, cache: Path) -> None:
    crops = Crops(files(cache)[:1], SMALL.crop)
    answer = greenrfm("cache", "prune", "--cache", cache, "--max-size", "0.0 MB")
    assert answer.out.splitlines()[0].startswith("2 volumes removed")
    assert "a running training holds them" in answer.out
    assert [(path,) for path in files(cache)] == crops._files
    del crops
    assert greenrfm("cache", "prune", "--cache", cache, "--all", "--json").json["removed"] == 1


@pytest.mark.parametrize(("size", "left"), [("1TB", 3), ("50 gb", 3), ("0", 0)])
def test_sizes_are_read_as_people_write_them(greenrfm: Command, cache: Path, size: str, left: int) -> None:
    assert greenrfm("cache", "prune", "--cache", cache, "--max-size", size, "--json").json["left"] == left
