"""Reading every prepared volume of a cache again, on all cores, to find those that the disk has spoilt."""

from __future__ import annotations

from concurrent.futures import as_completed
from pathlib import Path

from greenrfm.cache.cache import VolumeCache
from greenrfm.cache.field import BrokenVolume, check_field
from greenrfm.progress import Progress
from greenrfm.workers import make_pool

STAGE = "verify volumes"


def verify(cache: VolumeCache, workers: int, progress: Progress, *, repair: bool = False) -> dict[Path, str]:
    """Decompress and compare every volume; return the broken ones with what is wrong, removed if `repair`."""
    entries = cache.entries()
    broken: dict[Path, str] = {}
    with make_pool(workers) as pool:
        futures = {pool.submit(_wrong_with, entry.path): entry.path for entry in entries}
        for done, future in enumerate(as_completed(futures), start=1):
            if why := future.result():
                broken[futures[future]] = why
            progress(STAGE, done, len(entries))
    if repair:
        for path in broken:
            path.unlink(missing_ok=True)
    return dict(sorted(broken.items()))


def _wrong_with(path: Path) -> str:
    """Return what is wrong with a volume, "" for one that is whole, or that was pruned meanwhile."""
    if not path.is_file():
        return ""
    try:
        check_field(path)
    except BrokenVolume as error:
        return error.why
    return ""
