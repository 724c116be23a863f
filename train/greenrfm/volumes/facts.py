"""Which files an image is read from, and what tells cheaply that they are still the same."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from greenrfm.errors import UserError
from greenrfm.volumes.headers import data_files
from greenrfm.volumes.read import VOLUME_SUFFIXES

DETACHED = (".nhdr", ".nrrd", ".mhd", ".mha")
# A file changed twice within its clock's step may keep its time: what is this young is not remembered.
SETTLED_S = 3.0


@dataclass(frozen=True)
class ImageFacts:
    """What tells cheaply that an image's files are still the same: name, bytes and time (ns) of each."""

    image: str
    files: tuple[tuple[str, int, int], ...]

    @property
    def key(self) -> str:
        """Return the facts as 32 hexadecimal digits, so that no path or patient's name is kept."""
        return hashlib.sha256(json.dumps([self.image, self.files]).encode()).hexdigest()[:32]

    @property
    def settled(self) -> bool:
        """Return whether the files were last changed so long ago that a change since would show in their time."""
        return max(changed for _, _, changed in self.files) < (time.time() - SETTLED_S) * 1e9


def image_files(image: Path) -> list[Path]:
    """Return the files that reading `image` may open, sorted.

    A DICOM folder's own files (those of its sub-folders if it has none), all files beside a single DICOM file, a
    detached header with its data files, else the file alone. Raises UserError if there is nothing.
    """
    if not image.exists():
        raise UserError(f"image {image} does not exist; check the path")
    if image.is_dir():
        files = [path for path in image.iterdir() if path.is_file()]
        files = files or [path for path in image.rglob("*") if path.is_file()]
    elif not image.name.lower().endswith(VOLUME_SUFFIXES):
        files = [path for path in image.parent.iterdir() if path.is_file()]
    elif image.name.lower().endswith(DETACHED):
        files = [image, *_beside(image)]
    else:
        files = [image]
    if not files:
        raise UserError(f"image {image} is an empty folder; check the path")
    return sorted(files)


def _beside(header: Path) -> list[Path]:
    meta = header.name.lower().endswith((".mha", ".mhd"))
    try:
        names = list(data_files(header, meta=meta))
    except (OSError, ValueError):
        return []  # reading it says what is wrong
    # "slice%03d.raw 1 40 1" stands for many files: any of the folder may be among them.
    if any("%" in name for name in names):
        return [path for path in header.parent.iterdir() if path.is_file() and path != header]
    return [header.parent / name for name in names if (header.parent / name).is_file()]


def image_facts(image: Path) -> ImageFacts:
    """Return name, size and time of the image's files; raise UserError if it has none."""
    image = Path(os.path.abspath(image))
    known = [(path, path.stat()) for path in image_files(image)]
    folder = image if image.is_dir() else image.parent
    return ImageFacts(str(image), tuple((str(path.relative_to(folder)), s.st_size, s.st_mtime_ns) for path, s in known))
