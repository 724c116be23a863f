"""Which prepared volumes a running training needs, so that `greenrfm cache prune` leaves them.

Each run has two files in CACHE/runs: `<id>.lock`, locked by the operating system for as long as the process lives,
and `<id>.txt`, the names it holds. One without a list yet (it is still preparing) holds everything.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.locks import Lock

RUNS = "runs"
EVERYTHING = "*"
PATIENCE_S = 60.0


class Hold:
    """A running process's claim on files of the cache in `folder`; released by `release` or by the process's end."""

    def __init__(self, folder: Path) -> None:
        """Hold everything.

        Raises UserError if the folder cannot be written, has no locks, or is being pruned for very long.
        """
        runs = folder / RUNS
        runs.mkdir(parents=True, exist_ok=True)
        name = secrets.token_hex(8)
        self._list = runs / f"{name}.txt"
        with gate(folder):
            self._lock = Lock(runs / f"{name}.lock", f"volume cache {folder}", "wait for it to end")

    def only(self, names: Iterable[str]) -> None:
        """Hold no more than these files, by name."""
        write_text(self._list, "".join(f"{name}\n" for name in sorted(set(names))))

    def release(self) -> None:
        """Let prune remove the files; nothing happens the second time."""
        self._lock.release()
        # The next prune clears away what a killed process, or Windows, leaves.
        with contextlib.suppress(OSError):
            self._lock.path.unlink(missing_ok=True)
            self._list.unlink(missing_ok=True)


@contextlib.contextmanager
def gate(folder: Path) -> Iterator[None]:
    """Keep claims and pruning apart: only one process is within, the others wait up to a minute."""
    runs = folder / RUNS
    runs.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            lock = Lock(runs / "gate", f"volume cache {folder}", "wait for greenrfm cache to end there")
            break
        except UserError as error:
            if not _held(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.release()


def held_names(folder: Path) -> set[str]:
    """Return the names that running processes hold, EVERYTHING among them if one is preparing; call within `gate`.

    What ended processes left is removed.
    """
    names: set[str] = set()
    for path in sorted((folder / RUNS).glob("*.lock")):
        listed = path.with_suffix(".txt")
        try:
            Lock(path, f"volume cache {folder}", "").release()
        except UserError as error:
            if not _held(error):
                raise
            try:
                names.update(listed.read_text(encoding="utf-8").split())
            except FileNotFoundError:
                names.add(EVERYTHING)
            continue
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            listed.unlink(missing_ok=True)
    return names


def _held(error: UserError) -> bool:
    """Return whether a lock is held elsewhere, rather than impossible."""
    kinds = (BlockingIOError, PermissionError) if sys.platform == "win32" else BlockingIOError
    return isinstance(error.__cause__, kinds)
