"""A lock that the operating system takes back when its holder dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

from greenrfm.errors import UserError

# Windows makes locked bytes unreadable to others: the locked one lies far behind the holder's number.
LOCKED_BYTE = 1 << 30


class Lock:
    """Keep something to one opener, of this process or another.

    The lock belongs to an open file and not to the file's existence, so `kill -9` leaves nothing stale.
    """

    def __init__(self, path: Path, name: str, way_out: str) -> None:
        """Take the lock on the file at `path`, which is made if missing and stays.

        `name` is what it keeps ("library /data/past"), `way_out` what to do while another holds it.
        Raises UserError if it is held, or if the file system gives no locks or refuses to write.
        """
        self.path = path
        try:
            stream = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise UserError(
                f"{name} cannot be written ({error.strerror}); it needs write access to its folder"
            ) from error
        try:
            _lock(stream)
        except OSError as error:
            stream.seek(0)
            holder = stream.read(20).decode("ascii", "replace").strip()
            stream.close()
            if isinstance(error, BlockingIOError | PermissionError):
                number = f" (process {holder})" if holder.isdigit() else ""
                raise UserError(f"{name} is open elsewhere{number}; {way_out}") from error
            raise UserError(
                f"{name} lies on a file system without locks ({error.strerror}); move it to a local disk"
            ) from error
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n".encode())
        stream.flush()
        self._stream: BinaryIO | None = stream

    def release(self) -> None:
        """Give the lock back; nothing happens the second time."""
        if self._stream is not None:
            _unlock(self._stream)
            self._stream.close()
            self._stream = None


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: BinaryIO) -> None:
        stream.seek(LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        stream.seek(0)

    def _unlock(stream: BinaryIO) -> None:
        stream.seek(LOCKED_BYTE)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(stream: BinaryIO) -> None:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(stream: BinaryIO) -> None:
        fcntl.flock(stream, fcntl.LOCK_UN)
