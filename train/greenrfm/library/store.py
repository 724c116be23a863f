"""Cases and index kept together: locking, writing, deleting, and mending after a kill."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.library.case import Case, CaseFiles
from greenrfm.library.index import CaseIndex
from greenrfm.library.manifest import Intent, Manifest
from greenrfm.locks import Lock

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from greenrfm.library.server import ServerIndex

Index: TypeAlias = "CaseIndex | ServerIndex"
Connect: TypeAlias = "Callable[[], QdrantClient]"

# Free bytes that are left alone: the index merges and compresses in files of its own before old ones go.
RESERVE = 64 << 20
LOG = logging.getLogger(__name__)
BATCH = 128


class CaseStore:
    """An open library folder.

    The cases are the truth and the index is made from them. Every change is announced in `pending.json`,
    done to the cases, done to the index, and then no longer announced: a kill in between is mended by
    doing the announced change again.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, lock: Lock, index: Index | None, connect: Connect | None = None
    ) -> None:
        """Hold a locked folder; use `create` or `open`."""
        self._connect = connect
        self.folder = folder
        self.manifest = manifest
        self.cases = CaseFiles(folder / "cases")
        self._lock = lock
        self._index = index

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, connect: Connect | None = None) -> CaseStore:
        """Make an empty library in a new or empty folder; raise UserError if the folder is in use."""
        with _writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _check_free(folder)
            lock = _lock(folder)
            try:
                # Once more: another process may have made one just before the lock was ours.
                _check_free(folder)
                _remove_indexes(folder)
                store = cls(folder, manifest, lock, None, connect)
                store.rebuild_index()
            except BaseException:
                lock.release()
                raise
        return store

    @classmethod
    def open(cls, folder: Path, bundle_hash: str | None, connect: Connect | None = None) -> CaseStore:
        """Open and mend a library; raise UserError if it is none, damaged, open elsewhere or of another bundle.

        `connect` gives the client of the server that the library's index lies on, if it does.
        """
        # Before the lock, which would leave a file in a folder that is no library.
        Manifest.read(folder / "library.json")
        lock = _lock(folder)
        store = None
        try:
            manifest = Manifest.read(folder / "library.json")
            manifest.check_bundle(folder, bundle_hash)
            with _writing(folder):
                _remove_indexes(folder, keep=manifest.index)
                store = cls(folder, manifest, lock, None, connect)
                store._index = store._load_index()
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
    def index(self) -> Index:
        """Return the index; raise ValueError if the library is closed."""
        if self._index is None:
            raise ValueError(f"library {self.folder} is closed")
        return self._index

    def write(self, cases: Mapping[str, tuple[Case, NDArray[np.float32]]]) -> None:
        """Write or replace cases by folder name; when it returns they survive a kill."""
        index = self.index
        self.mend()
        with _writing(self.folder):
            _check_space(self.folder, cases.values())
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
            index = self._make_index(name)
            try:
                self._fill(index, self.cases.names())
                index.tidy()
                manifest = dataclasses.replace(self.manifest, index=name)
                manifest.write(self.folder / "library.json")
            except BaseException:
                index.remove()
                raise
            old, self._index, self.manifest = self._index, index, manifest
            if old is not None:
                old.remove()
            _remove_indexes(self.folder, keep=name)

    @property
    def _pending(self) -> Path:
        return self.folder / "pending.json"

    def _make_index(self, name: str) -> Index:
        if not self.manifest.server:
            return CaseIndex.create(self.folder / name, self.manifest.dimension)
        return self._server_index(name, create=True)

    def _load_index(self) -> Index | None:
        if self.manifest.server:
            # A server that cannot be reached is no damaged index.
            return self._server_index(self.manifest.index, create=False)
        return _load_index(self.folder / self.manifest.index)

    def _server_index(self, name: str, create: bool) -> Index:
        from greenrfm.library.server import ServerIndex

        manifest = self.manifest
        if self._connect is None:
            raise UserError(
                f"the index of library {self.folder} is on the Qdrant server {manifest.server}; "
                f"name it to allow the connection: --url {manifest.server}"
            )
        index = ServerIndex(self._connect(), f"greenrfm-{name}", manifest.secret, self.cases.names)
        if create:
            index.create(manifest.dimension)
        elif not index.exists():
            LOG.warning("the server does not have the index of library %s; it is filled anew", self.folder)
            index.create(manifest.dimension)
        return index

    def _fill(self, index: Index, names: Iterable[str]) -> None:
        names = iter(names)
        dimension = self.manifest.dimension
        while batch := list(islice(names, BATCH)):
            cases = [(self.cases.read(name), self.cases.read_latent(name, dimension)) for name in batch]
            _check_space(self.folder, cases)
            index.upsert(cases)


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


def _check_space(folder: Path, cases: Iterable[tuple[Case, NDArray[np.float32]]]) -> None:
    # Qdrant writes through mapped memory, where a full disk ends the process instead of raising an error.
    # Five times a latent: its file, the write-ahead log, the segment, and both again where segments are merged.
    needed = RESERVE + sum(5 * latent.nbytes + len(case.thumbnail) + 4 * len(case.report) for case, latent in cases)
    if shutil.disk_usage(folder).free < needed:
        raise UserError(
            f"library {folder} needs {needed >> 20} MB of free space to take more studies and has less; "
            "nothing was changed: free some space and add them again"
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"library {folder} cannot be written ({error.strerror or type(error).__name__}); "
            "check the folder's rights and the free space, and try again"
        ) from error
