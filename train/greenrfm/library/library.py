"""The case library: add past studies, find the most similar ones, delete a patient."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.library.case import Case, Hit, folder_name, iso_date
from greenrfm.library.manifest import FORMAT_VERSION, SIMILARITIES, Manifest
from greenrfm.library.store import BATCH, CaseStore

if TYPE_CHECKING:
    from greenrfm.library.server import Server

# Cases whose dot products tell the scale of a query: enough for a standard deviation to 3 %.
SAMPLE = 512


class CaseLibrary:
    """Past studies in a folder, searchable by latent; a context manager.

    The folder holds `library.json`, `cases/` (reports, ids, pictures, latents), `index-…/` (a Qdrant Edge
    shard made from the cases, free of text and ids), `library.lock`, and `pending.json` while something
    is being written. One process at a time has it open. A study is safe from a killed process as soon as
    `add` returns or `add_many` reports it; what a kill cut off is finished or undone by the next `open`.
    """

    def __init__(self, store: CaseStore) -> None:
        """Hold an open store; use `create` or `open`."""
        self._store = store
        self.folder = store.folder

    @classmethod
    def create(
        cls,
        folder: Path | str,
        *,
        bundle_hash: str,
        dimension: int,
        keys: Sequence[str],
        similarity: str = "dot",
        server: Server | None = None,
    ) -> CaseLibrary:
        """Make an empty library in a new or empty folder and open it.

        With `server` the index, which is latents and what searches filter by, lies there; reports, ids and
        pictures stay in the folder.

        `bundle_hash` names the bundle whose latents it will hold, `dimension` is their length, `keys` the
        findings that cases may have states of. Raises UserError if the folder is in use or the latents
        are to be compared by anything but the raw dot product.
        """
        folder = Path(folder).absolute()
        if similarity not in SIMILARITIES:
            raise UserError(f"library {folder} cannot compare latents by '{similarity}'; only 'dot' is known")
        if dimension < 1 or not bundle_hash:
            raise ValueError("a library needs the hash of a bundle and a positive dimension")
        manifest = Manifest(bundle_hash, dimension, similarity, tuple(keys))
        if server is None:
            return cls(CaseStore.create(folder, manifest))
        manifest = replace(manifest, server=server.url, secret=secrets.token_hex(16))
        return cls(CaseStore.create(folder, manifest, server.connect))

    @classmethod
    def open(cls, folder: Path | str, bundle_hash: str | None = None, server: Server | None = None) -> CaseLibrary:
        """Open a library; with `bundle_hash`, refuse one that was made with another bundle.

        A library whose index is on a server is connected only to the `server` that is given here.

        Finishes what a killed process left undone and builds a missing or damaged index anew from the
        cases. Raises UserError if the folder is no library, damaged, open elsewhere or of another bundle.
        """
        folder = Path(folder).absolute()
        kept = Manifest.read(folder / "library.json").server
        if server is not None and server.url != kept:
            where = f"on {kept}" if kept else "in its folder"
            raise UserError(f"the index of library {folder} is {where} and not on {server.url}; name the right one")
        return cls(CaseStore.open(folder, bundle_hash, server.connect if server else None))

    def close(self) -> None:
        """Close the library and give its lock back; nothing happens the second time."""
        self._store.close()

    def __enter__(self) -> CaseLibrary:
        """Return the open library."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the library."""
        self.close()

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self._store.index)

    def __contains__(self, study_id: str) -> bool:
        """Return whether the study is in the library."""
        return self._store.cases.exists(folder_name(study_id))

    def add(self, case: Case, latent: ArrayLike) -> None:
        """Add a case, or replace the one of the same study, with its latent, float32 (dimension,)."""
        self.add_many([(case, latent)])

    def add_many(self, items: Iterable[tuple[Case, ArrayLike]], progress: Callable[[int], None] | None = None) -> int:
        """Add or replace cases with their latents, float32 (dimension,), and return how many.

        `progress` gets the number of items that are safe so far, after each batch. Raises UserError for a
        case that does not fit; the batches before it stay.
        """
        done = 0
        checked = (self._checked(case, latent) for case, latent in items)
        while batch := list(islice(checked, BATCH)):
            # The last of two with the same id wins, as it would in two batches.
            self._store.write({folder_name(case.study_id): (case, latent) for case, latent in batch})
            done += len(batch)
            if progress is not None:
                progress(done)
        return done

    def search(
        self,
        latent: ArrayLike,
        k: int = 10,
        *,
        present: Sequence[str] = (),
        absent: Sequence[str] = (),
        modality: str = "",
        exclude_patient: str = "",
        date_from: str = "",
        date_to: str = "",
    ) -> list[Hit]:
        """Return the `k` cases with the largest raw dot product with `latent`, best first.

        The latent, float32 (dimension,), may come from the bundle's vision encoder or from its text
        encoder, which share one space (GreenRFM, retrieval). Every finding in `present` must be reported
        present, every one in `absent` reported absent: a finding that is not mentioned is neither. Days
        are `YYYY-MM-DD` and included; a case without a date fits no range. Raises UserError for an unknown
        finding, a bad day, or a latent of another dimension.
        """
        query = self._checked_latent(latent, "the query")
        if k < 1:
            raise UserError(f"library {self.folder} was asked for {k} cases; ask for at least 1")
        for key in (*present, *absent):
            self._check_key(key)
        for day, what in ((date_from, "first"), (date_to, "last")):
            if day:
                iso_date(day, f"the {what} day of the search, '{day}',")
        found = self._store.index.query(
            query,
            k,
            present=present,
            absent=absent,
            modality=modality,
            exclude_patient=exclude_patient,
            date_from=date_from,
            date_to=date_to,
        )
        cases = self._store.cases
        return [
            Hit(cases.read(name), score, rank, cases.thumbnail(name))
            for rank, (name, score) in enumerate(found, start=1)
        ]

    def both(self, image: ArrayLike, text: ArrayLike, weight: float = 0.5) -> NDArray[np.float32]:
        """Return one latent, float32 (dimension,), that searches by an image and a text together.

        A case's dot product with it is `weight` times that with the image plus the rest times that with the
        text, each first divided by its own standard deviation over up to `SAMPLE` cases of the library:
        otherwise the longer latent alone decides. A sum of dot products is the dot product with a sum, so
        that the search stays one search. Raises UserError for a weight outside 0 … 1.
        """
        if not 0 <= weight <= 1:
            raise UserError(
                f"the weight of the image is {weight:g}; give a number from 0 (text alone) to 1 (image alone)"
            )
        queries = [self._checked_latent(image, "the image"), self._checked_latent(text, "the text")]
        cases, dimension = self._store.cases, self._store.manifest.dimension
        sample = [cases.read_latent(name, dimension) for name in sorted(islice(cases.names(), SAMPLE))]
        spreads = [float(np.std(np.stack(sample) @ query)) if len(sample) > 1 else 0.0 for query in queries]
        # Fewer than two cases, or all alike: nothing to compare, so that the norm has to do.
        spreads = [
            spread or float(np.linalg.norm(query)) or 1.0 for spread, query in zip(spreads, queries, strict=True)
        ]
        return np.asarray(weight / spreads[0] * queries[0] + (1 - weight) / spreads[1] * queries[1], np.float32)

    def items(self) -> Iterator[tuple[Case, NDArray[np.float32]]]:
        """Yield every case with its latent, float32 (dimension,), ordered by the hash of its study id."""
        for name in sorted(self._store.cases.names()):
            yield self._store.cases.read(name), self._store.cases.read_latent(name, self._store.manifest.dimension)

    def get(self, study_id: str) -> Case:
        """Return the case of a study; raise UserError if the library does not have it."""
        if study_id not in self:
            raise UserError(f"library {self.folder} has no study {study_id}; add it first")
        return self._store.cases.read(folder_name(study_id))

    def study_ids(self) -> list[str]:
        """Return the ids of all studies, sorted; reads every case."""
        cases = self._store.cases
        return sorted(cases.read(name).study_id for name in cases.names())

    def delete_patient(self, patient_id: str) -> int:
        """Delete every case of a patient and return how many there were; reads every case.

        Nothing of them stays in the folder: their files are deleted, and the index, whose files would keep
        the latents and payloads of deleted points, is built anew from the cases that are left.
        """
        store = self._store
        store.mend()
        # By the cases and not by the index: what must be deleted is what lies in the files.
        names = [name for name in store.cases.names() if store.cases.read(name).patient_id == patient_id]
        if names:
            store.delete(names)
        return len(names)

    def rebuild_index(self) -> None:
        """Build the index anew from the cases; replaced latents leave its files too."""
        self._store.rebuild_index()

    def info(self) -> dict[str, Any]:
        """Return what the library is and holds: format, bundle, findings, numbers of cases and patients."""
        manifest, index = self._store.manifest, self._store.index
        return {
            "folder": str(self.folder),
            "server": manifest.server,
            "format_version": FORMAT_VERSION,
            "bundle_hash": manifest.bundle_hash,
            "similarity": manifest.similarity,
            "dimension": manifest.dimension,
            "keys": list(manifest.keys),
            "cases": len(index),
            "patients": len(index.counts("patient")),
            "modalities": index.counts("modality"),
            "present": index.counts("present"),
        }

    def _checked(self, case: Case, latent: ArrayLike) -> tuple[Case, NDArray[np.float32]]:
        if not case.study_id or not case.patient_id:
            raise UserError(f"a case for library {self.folder} has no study id or no patient id; give it both")
        for key in case.states:
            self._check_key(key)
        if case.study_date:
            iso_date(case.study_date, f"the date of study {case.study_id}, '{case.study_date}',")
        return case, self._checked_latent(latent, f"study {case.study_id}")

    def _checked_latent(self, latent: ArrayLike, owner: str) -> NDArray[np.float32]:
        array, dimension = np.asarray(latent, np.float32), self._store.manifest.dimension
        if array.shape != (dimension,):
            raise UserError(
                f"the latent of {owner} has shape {array.shape} and library {self.folder} needs ({dimension},); "
                "make it with the library's own bundle"
            )
        if not np.isfinite(array).all():
            raise UserError(f"the latent of {owner} is not finite; check the volume that it was read from")
        return array

    def _check_key(self, key: str) -> None:
        keys = self._store.manifest.keys
        if key not in keys:
            raise UserError(f"library {self.folder} has no finding '{key}'{nearest(key, keys)}")
