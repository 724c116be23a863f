"""Which image this is: a digest of what its files hold, remembered so that gigabytes are read once."""

from __future__ import annotations

import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from greenrfm.errors import UserError
from greenrfm.files import sha256
from greenrfm.volumes.facts import ImageFacts, image_files

_LINE = re.compile(r"([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{8})")


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
