"""Which image this is: a digest of what its files hold, remembered so that gigabytes are read once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.volumes import VOLUME_SUFFIXES
from greenrfm.volumes.headers import data_files

DETACHED = (".nhdr", ".nrrd", ".mhd", ".mha")
# A file changed twice within its clock's step may keep its time: what is this young is not remembered.
SETTLED_S = 3.0
_LINE = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{8})")


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


def content_digest(image: Path) -> str:
    """Return the SHA-256 of what the image's files hold, in 64 hexadecimal digits: not of their names or times.

    The first file counts apart where a single file of several was named, because it chooses the series.
    """
    image = Path(os.path.abspath(image))
    try:
        digests = {path: sha256(path) for path in image_files(image)}
    except PermissionError as error:
        raise UserError(f"{error.filename} cannot be opened ({error.strerror}); check its permissions") from error
    whole = hashlib.sha256(digests.get(image, "").encode())
    for digest in sorted(digests.values()):
        whole.update(digest.encode())
    return whole.hexdigest()


class DigestIndex:
    """Digests by facts, one line each in a file that is only appended to.

    Several processes may append at once and any may be killed: each line carries its own checksum, and a line that
    does not fit is no line. Losing one costs reading the image again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: dict[str, str] = {}
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            found = _LINE.fullmatch(line)
            if found and found[3] == _checksum(found[1], found[2]):
                self._digests[found[1]] = found[2]

    def get(self, facts: ImageFacts) -> str | None:
        """Return the remembered digest of an image that looks the same, or None."""
        return self._digests.get(facts.key)

    def add(self, digests: Mapping[ImageFacts, str] | Iterable[tuple[ImageFacts, str]]) -> None:
        """Remember digests of images whose files have settled."""
        pairs = digests.items() if isinstance(digests, Mapping) else digests
        new = {facts.key: digest for facts, digest in pairs if facts.settled and facts.key not in self._digests}
        if not new:
            return
        self._digests |= new
        lines = "".join(f"{key} {digest} {_checksum(key, digest)}\n" for key, digest in new.items())
        with self._path.open("ab") as stream:
            # First end the line that a killed process may have left.
            stream.write(b"\n" + lines.encode("ascii"))


def _checksum(key: str, digest: str) -> str:
    return f"{zlib.crc32((key + digest).encode()):08x}"
