"""The volume cache: a folder of prepared volumes, named by what they were made of.

CACHE/<preprocessing>/<key>.b2nd, beside it preprocessing.json; CACHE/digests.txt remembers images that were read;
CACHE/runs says who is at work. Every file appears complete or not at all, so readers need no lock, and two processes
that prepare the same volume do double work and no harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from greenrfm.cache.content import DigestIndex
from greenrfm.cache.field import SUFFIX
from greenrfm.cache.holds import EVERYTHING, gate, held_names
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.volumes import Preprocessing

# Raise it when preprocessing gives other voxels for the same settings, or the file's layout changes.
FORMAT = 1
DAY_S = 86400.0
_FOLDER, _NAME = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}" + re.escape(SUFFIX))


@dataclass(frozen=True)
class Entry:
    """A file of the cache: its bytes and when a training last asked for it, in seconds since 1970."""

    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class Pruned:
    """What `prune` removed, what is left, and how many files stayed only because a running training holds them."""

    removed: int
    removed_bytes: int
    left: int
    left_bytes: int
    held: int


class VolumeCache:
    """The cache in `folder`, which `create` makes; looking into one that does not exist finds nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))

    def create(self, preprocessing: Preprocessing) -> None:
        """Make the folders for volumes of this preprocessing, open to their owner alone: they show patients."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = self.folder / preprocessing_digest(preprocessing)
            folder.mkdir(exist_ok=True)
            # https://bford.info/cachedir: backups leave such folders out.
            for path, text in (
                (self.folder / "CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
                (folder / "preprocessing.json", json.dumps(preprocessing_facts(preprocessing), indent=1) + "\n"),
            ):
                if not path.is_file():
                    write_text(path, text)
        except OSError as error:
            raise UserError(
                f"volume cache {self.folder} cannot be written ({error.strerror}); name another folder with --cache"
            ) from error

    def digests(self) -> DigestIndex:
        """Return the remembered digests of images."""
        return DigestIndex(self.folder / "digests.txt")

    def file(self, digest: str, series_uid: str, preprocessing: Preprocessing) -> Path:
        """Return where the volume of this image content, DICOM series ("" for none) and preprocessing lies."""
        kind = preprocessing_digest(preprocessing)
        key = hashlib.sha256(json.dumps([FORMAT, digest, series_uid, kind]).encode()).hexdigest()[:32]
        return self.folder / kind / f"{key}{SUFFIX}"

    def entries(self) -> list[Entry]:
        """Return every prepared volume, those not used for longest first."""
        found = []
        for path in self._files():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    found.append(Entry(path, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda entry: (entry.used, entry.path))

    def mean_bytes(self, preprocessing: Preprocessing, most: int = 256) -> float | None:
        """Return the mean size of a file of this preprocessing, or None while there are fewer than eight."""
        folder = self.folder / preprocessing_digest(preprocessing)
        sizes = []
        for path in folder.glob(f"[!.]*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                sizes.append(path.stat().st_size)
            if len(sizes) == most:
                break
        return sum(sizes) / len(sizes) if len(sizes) >= 8 else None

    def info(self) -> dict[str, Any]:
        """Return files, bytes and times of use (UTC), also by preprocessing; plain types, for JSON."""
        entries = self.entries()
        kinds: dict[Path, list[Entry]] = {}
        for entry in entries:
            kinds.setdefault(entry.path.parent, []).append(entry)
        return {
            "folder": str(self.folder),
            **_summary(entries),
            "preprocessings": [
                {"digest": folder.name, **_summary(held), "preprocessing": _described(folder)}
                for folder, held in sorted(kinds.items())
            ],
        }

    def prune(
        self, *, keep_days: float | None = None, max_bytes: int | None = None, everything: bool = False
    ) -> Pruned:
        """Remove volumes unused for `keep_days`, or the longest unused beyond `max_bytes`, or all.

        Never one that a running training holds; while one is preparing it holds all.
        """
        if not self.folder.is_dir():
            return Pruned(0, 0, 0, 0, 0)
        with gate(self.folder):
            entries, held = self.entries(), held_names(self.folder)
            now, total, kept = time.time(), sum(entry.bytes for entry in entries), 0
            gone = []
            for entry in entries:
                too_old = keep_days is not None and entry.used < now - keep_days * DAY_S
                too_much = max_bytes is not None and total > max_bytes
                if not (everything or too_old or too_much):
                    continue
                if {EVERYTHING, entry.path.name} & held:
                    kept += 1
                else:
                    entry.path.unlink(missing_ok=True)
                    gone.append(entry)
                    total -= entry.bytes
            if EVERYTHING not in held:
                self._tidy(now)
        removed = sum(entry.bytes for entry in gone)
        return Pruned(len(gone), removed, len(entries) - len(gone), total, kept)

    def _tidy(self, now: float) -> None:
        """Remove what killed processes left, folders without volumes, and digests if no volume is left."""
        for path in self._files():
            if path.name.startswith("."):  # greenrfm.files.replacing's
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < now - DAY_S:
                        path.unlink()
        for folder in self._folders():
            if not any(path.name != "preprocessing.json" for path in folder.iterdir()):
                (folder / "preprocessing.json").unlink(missing_ok=True)
                folder.rmdir()
        if not self._folders():
            (self.folder / "digests.txt").unlink(missing_ok=True)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()]

    def _files(self) -> Iterator[Path]:
        for folder in self._folders():
            yield from folder.iterdir()


def preprocessing_facts(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return what decides the stored voxels: all of the preprocessing but the training crop."""
    return {key: value for key, value in preprocessing.to_dict().items() if key != "crop"}


def preprocessing_digest(preprocessing: Preprocessing) -> str:
    """Return 16 hexadecimal digits for what decides the stored voxels."""
    text = json.dumps([FORMAT, preprocessing_facts(preprocessing)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _summary(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return count, bytes and times of entries that are sorted by use."""
    ends = [_utc(entries[0].used), _utc(entries[-1].used)] if entries else [None, None]
    return {
        "files": len(entries),
        "bytes": sum(entry.bytes for entry in entries),
        "oldest_use": ends[0],
        "newest_use": ends[1],
    }


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _described(folder: Path) -> dict[str, Any] | None:
    try:
        facts: dict[str, Any] = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts
