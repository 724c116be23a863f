"""Cases and index kept together: locking, writing, deleting, and mending after a kill."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.library.case import Case, CaseFiles
from greenrfm.library.index import CaseIndex
from greenrfm.library.manifest import Intent, Manifest
from greenrfm.locks import Lock

LOG = logging.getLogger(__name__)
BATCH = 128


class CaseStore:
    """An open library folder.

    The cases are the truth and the index is made from them. Every change is announced in `pending.json`,
    done to the cases, done to the index, and then no longer announced: a kill in between is mended by
    doing the announced change again.
    """

    def __init__(self, folder: Path, manifest: Manifest, lock: Lock, index: CaseIndex | None) -> None:
        """Hold a locked folder; use `create` or `open`."""
        self.folder = folder
        self.manifest = manifest
        self.cases = CaseFiles(folder / "cases")
        self._lock = lock
        self._index = index

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> CaseStore:
        """Make an empty library in a new or empty folder; raise UserError if the folder is in use."""
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _check_free(folder)
            lock = _lock(folder)
            try:
                # Once more: another process may have made one just before the lock was ours.
                _check_free(folder)
                _remove_indexes(folder)
                store = cls(folder, manifest, lock, None)
                store.rebuild_index()
            except BaseException:
                lock.release()
                raise
        return store

    @classmethod
    def open(cls, folder: Path, bundle_hash: str | None) -> CaseStore:
        """Open and mend a library; raise UserError if it is none, damaged, open elsewhere or of another bundle."""
        # Before the lock, which would leave a file in a folder that is no library.
        Manifest.read(folder / "library.json")
        lock = _lock(folder)
        store = None
        try:
            manifest = Manifest.read(folder / "library.json")
            manifest.check_bundle(folder, bundle_hash)
            with _writing(folder):
                _remove_indexes(folder, keep=manifest.index)
                store = cls(folder, manifest, lock, _load_index(folder / manifest.index))
                store.mend()
                if store._index is None or len(store._index) != sum(1 for _ in store.cases.names()):
                    store.rebuild_index()
        except BaseException:
            if store is None:
                lock.release()
            else:
                store.close()
            raise
        return store

    def close(self) -> None:
        """Close the index and give the lock back; nothing happens the second time."""
        index, self._index = self._index, None
        try:
            if index is not None:
                index.close()
        finally:
            self._lock.release()

    @property
    def index(self) -> CaseIndex:
        """Return the index; raise ValueError if the library is closed."""
        if self._index is None:
            raise ValueError(f"library {self.folder} is closed")
        return self._index

    def write(self, cases: Mapping[str, tuple[Case, NDArray[np.float32]]]) -> None:
        """Write or replace cases by folder name; when it returns they survive a kill."""
        index = self.index
        self.mend()
        with _writing(self.folder):
            Intent(write=tuple(cases)).save(self._pending)
            for name, (case, latent) in cases.items():
                self.cases.write(name, case, latent)
            index.upsert(list(cases.values()))
            self._pending.unlink()

    def delete(self, names: Sequence[str]) -> None:
        """Delete cases by folder name, from the files of the index too."""
        with _writing(self.folder):
            Intent(delete=tuple(names)).save(self._pending)
            self.mend()

    def mend(self) -> None:
        """Do again what `pending.json` announces, if anything."""
        intent = Intent.load(self._pending)
        if intent is None:
            return
        with _writing(self.folder):
            for name in intent.write:
                self.cases.settle(name)
            for name in intent.delete:
                self.cases.delete(name)
            if intent.delete or self._index is None:
                # Qdrant keeps latent and payload of a deleted point in its files; a new index has neither.
                self.rebuild_index()
            else:
                self._fill(self._index, (name for name in intent.write if self.cases.exists(name)))
            self._pending.unlink()

    def rebuild_index(self) -> None:
        """Build the index anew from the cases and remove the old one; a kill leaves one of the two."""
        name = f"index-{secrets.token_hex(4)}"
        with _writing(self.folder):
            index = CaseIndex.create(self.folder / name, self.manifest.dimension)
            try:
                self._fill(index, self.cases.names())
                manifest = dataclasses.replace(self.manifest, index=name)
                manifest.write(self.folder / "library.json")
            except BaseException:
                index.close()
                raise
            old, self._index, self.manifest = self._index, index, manifest
            if old is not None:
                old.close()
            _remove_indexes(self.folder, keep=name)

    @property
    def _pending(self) -> Path:
        return self.folder / "pending.json"

    def _fill(self, index: CaseIndex, names: Iterable[str]) -> None:
        names = iter(names)
        while batch := list(islice(names, BATCH)):
            index.upsert([(self.cases.read(n), self.cases.read_latent(n, self.manifest.dimension)) for n in batch])


def _lock(folder: Path) -> Lock:
    # Qdrant Edge refuses a shard that is open elsewhere only after it touched the shard's files, and the
    # holder's next flush then fails; so this lock is taken first.
    way_out = "close it in the other Slicer window or greenrfm command and try again"
    return Lock(folder / "library.lock", f"library {folder}", way_out)


def _load_index(folder: Path) -> CaseIndex | None:
    try:
        return CaseIndex.load(folder)
    except UserError as error:
        LOG.warning("index %s is missing or damaged and is built anew from the cases", folder)
        LOG.debug("%s", error)
        return None


def _check_free(folder: Path) -> None:
    if (folder / "library.json").exists():
        raise UserError(f"folder {folder} already holds a case library; open it, or choose another folder")
    # A killed `create` leaves such names, and a desktop leaves hidden files.
    if any(not path.name.startswith((".", "library.lock", "index-")) for path in folder.iterdir()):
        raise UserError(f"folder {folder} is not empty; choose a new folder for the library")


def _remove_indexes(folder: Path, keep: str = "") -> None:
    for path in folder.glob("index-*"):
        if path.name != keep:
            shutil.rmtree(path)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"library {folder} cannot be written ({error.strerror or type(error).__name__}); "
            "check the folder's rights and the free space, and try again"
        ) from error
