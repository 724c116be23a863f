"""The searchable index: a Qdrant Edge shard of latents with what searches filter by."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings import State
from greenrfm.library.case import Case, folder_name, iso_date

KEYWORDS = ("present", "absent", "modality", "patient")
# Candidates of the compressed pass that are compared again by their float32 latents, for each case asked for; and for
# each of the near ones among which fitting ones are looked for (docs/library.md says what others find and cost).
OVERSAMPLING = 64.0
NEAR_OVERSAMPLING = 10.0
# Kilobytes of latents that are compared one by one before Qdrant compresses them.
PLAIN_KB = 10_000
# Cases not yet compressed cost each search time, compressing costs seconds: when at least so many wait, and a tenth.
WAITING = 5_000
MARKER = "compressing"
# Where every condition fits at least this share of the cases, a search looks among the best of all for those that fit:
# so many times as many as should hold the wanted ones if fitting had nothing to do with being similar, up to a limit.
WIDE = 0.25
MARGIN = 2.5
LIMIT = 500
# Up to so many cases of an excluded patient are dropped after the search, which is faster than a filter.
DROPPED = 100


class CaseIndex:
    """One point per case, with its folder name as id.

    Qdrant leaves a deleted payload in its files, so a payload holds only states, modality, day and a hash
    of the patient; no text, no id, no picture.
    """

    def __init__(self, folder: Path, shard: qdrant.EdgeShard) -> None:
        """Wrap an open shard; use `create` or `load`."""
        self.folder = folder
        self._shard = shard

    @classmethod
    def create(cls, folder: Path, dimension: int) -> CaseIndex:
        """Make an empty index in a new folder."""
        # Distance.Dot is the raw dot product of METHOD.md: Qdrant normalises for Distance.Cosine only.
        vectors = qdrant.EdgeVectorParams(size=dimension, distance=qdrant.Distance.Dot)
        config = qdrant.EdgeConfig(
            vectors=vectors,
            # No graph (m = 0): see `query`.
            hnsw_config=qdrant.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
            quantization_config=qdrant.TurboQuantQuantizationConfig(
                bits=qdrant.TurboQuantBitSize.Bits2, memory=qdrant.Memory.Pinned
            ),
            optimizers=qdrant.EdgeOptimizersConfig(indexing_threshold=PLAIN_KB),
        )
        with _failing(folder):
            shard = qdrant.EdgeShard.create(str(folder), config)
            for field in KEYWORDS:
                shard.update(qdrant.UpdateOperation.create_field_index(field, qdrant.PayloadSchemaType.Keyword))
            shard.update(qdrant.UpdateOperation.create_field_index("day", qdrant.PayloadSchemaType.Integer))
        return cls(folder, shard)

    @classmethod
    def load(cls, folder: Path) -> CaseIndex:
        """Open an index; raise UserError if it is missing or damaged."""
        if not (folder / "edge_config.json").is_file():
            raise UserError(f"index {folder} is missing; open the library again to build it anew")
        if (folder / MARKER).exists():
            raise UserError(f"index {folder} was cut off while it was compressed; open the library again")
        with _failing(folder):
            _read_ahead(folder)
            return cls(folder, qdrant.EdgeShard.load(str(folder)))

    def close(self) -> None:
        """Compress what is worth it, flush and close the shard."""
        with _failing(self.folder):
            if not self._compress():
                self._shard.flush()
                self._shard.close()

    def __len__(self) -> int:
        """Return the number of cases."""
        with _failing(self.folder):
            return self._shard.count(qdrant.CountRequest(exact=True))

    def upsert(self, cases: Sequence[tuple[Case, NDArray[np.float32]]]) -> None:
        """Add or replace cases with their latents, float32 (dimension,); when it returns they survive a kill."""
        points = [qdrant.Point(folder_name(case.study_id), latent.tolist(), payload(case)) for case, latent in cases]
        with _failing(self.folder):
            self._shard.update(qdrant.UpdateOperation.upsert_points(points))

    def query(
        self,
        latent: NDArray[np.float32],
        k: int,
        *,
        present: Sequence[str] = (),
        absent: Sequence[str] = (),
        modality: str = "",
        exclude_patient: str = "",
        date_from: str = "",
        date_to: str = "",
    ) -> list[tuple[str, float]]:
        """Return folder names and dot products of the `k` best cases, best first.

        All cases are compared in two bits a number (TurboQuant), and the best `OVERSAMPLING * k` again by
        their float32 latents, so that scores are exact. There is no graph: raw dot products are no metric,
        and Qdrant's graph found only 86 % of the true ten among 10,000 random latents of 768 numbers
        (measured with train/benchmarks/library_search.py: docs/library.md).
        """
        must = conditions(qdrant, present, absent, modality, date_from, date_to)
        must_not, own = [], set[str]()
        if exclude_patient:
            patient = equals(qdrant, "patient", patient_hash(exclude_patient))
            with _failing(self.folder):
                # By their ids, which lie in memory: to read the patient of each hit takes longer than the search.
                those, _ = self._shard.scroll(
                    qdrant.ScrollRequest(limit=DROPPED + 1, filter=qdrant.Filter(must=[patient]), with_payload=False)
                )
            own = {_name(point.id) for point in those}
            if len(own) > DROPPED:
                must_not, own = [patient], set()
        with _failing(self.folder):
            found = self._best(latent, k + len(own), must, must_not)
        hits = [(_name(point.id), point.score) for point in found]
        return [hit for hit in hits if hit[0] not in own][:k]

    def _best(
        self, latent: NDArray[np.float32], count: int, must: list[Any], must_not: list[Any]
    ) -> list[qdrant.ScoredPoint]:
        """Return the best points that fit.

        Qdrant lists the points of the rarest condition and asks of each whether it fits before comparing it, which
        costs more than the comparison where they are many. If enough of the best of all fit, they are the best
        of those that fit.
        """
        if not must and not must_not:
            return self._scan(latent, count, None)
        fitting = qdrant.Filter(must=must, must_not=must_not)
        total, fit, *each = (self._about(one) for one in (None, fitting, *(qdrant.Filter(must=[one]) for one in must)))
        near = math.ceil(MARGIN * count * total / max(fit, 1))
        if near <= LIMIT and min(each, default=fit) > WIDE * total:
            oversampling = max(NEAR_OVERSAMPLING, OVERSAMPLING * count / near)
            among = qdrant.HasIdCondition({point.id for point in self._scan(latent, near, None, oversampling)})
            found = self._scan(latent, count, qdrant.Filter(must=[*must, among], must_not=must_not))
            if len(found) == count:
                return found
        return self._scan(latent, count, fitting)

    def _about(self, fitting: qdrant.Filter | None) -> int:
        """Return about how many points fit; exact counting takes milliseconds."""
        return self._shard.count(qdrant.CountRequest(filter=fitting, exact=False))

    def _scan(
        self,
        latent: NDArray[np.float32],
        count: int,
        fitting: qdrant.Filter | None,
        oversampling: float = OVERSAMPLING,
    ) -> list[qdrant.ScoredPoint]:
        return self._shard.query(
            qdrant.QueryRequest(
                limit=count,
                query=qdrant.Query.Nearest(latent.tolist()),
                filter=fitting,
                params=qdrant.SearchParams(
                    quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=oversampling)
                ),
                with_payload=False,
                with_vector=False,
            )
        )

    def tidy(self) -> None:
        """Compress what was added since the last time, if that is enough to be worth the seconds."""
        with _failing(self.folder):
            if self._compress():
                # Only closing removes the files of the uncompressed segments.
                self._shard = qdrant.EdgeShard.load(str(self.folder))

    def _compress(self) -> bool:
        """Compress and close if enough waits, else leave the shard open; return whether it was compressed.

        A shard whose process is killed meanwhile comes back with old and new segments side by side, seven
        times as large and as slow (seen with 0.9.0); the marker tells `load` to refuse it.
        """
        info = self._shard.info()
        if info.points_count - info.indexed_vectors_count < max(WAITING, info.points_count // 10):
            return False
        marker = self.folder / MARKER
        marker.touch()
        self._shard.optimize()
        self._shard.flush()
        self._shard.close()
        marker.unlink()
        return True

    def remove(self) -> None:
        """Close the index and remove its files."""
        with _failing(self.folder):
            self._shard.close()
        shutil.rmtree(self.folder)

    def counts(self, field: str) -> dict[str, int]:
        """Return how many cases have each value of `present`, `absent`, `modality` or `patient`."""
        with _failing(self.folder):
            answer = self._shard.facet(qdrant.FacetRequest(field, limit=max(len(self), 1000), exact=True))
        return {str(hit.value): hit.count for hit in answer.hits}


def patient_hash(patient_id: str) -> str:
    """Return what stands for a patient in the index."""
    return hashlib.sha256(patient_id.encode("utf-8")).hexdigest()[:32]


def payload(case: Case) -> dict[str, Any]:
    """Return what searches filter by: no text, no id, no name."""
    content: dict[str, Any] = {
        "present": [key for key, state in case.states.items() if state is State.PRESENT],
        "absent": [key for key, state in case.states.items() if state is State.ABSENT],
        "modality": case.modality,
        "patient": patient_hash(case.patient_id),
    }
    if case.study_date:
        content["day"] = _day(case.study_date)
    return content


def conditions(
    api: Any, present: Sequence[str], absent: Sequence[str], modality: str, date_from: str, date_to: str
) -> list[Any]:
    """Return the conditions that all hold for a wanted case, in the classes of a Qdrant interface."""
    must = [equals(api, "present", key) for key in present] + [equals(api, "absent", key) for key in absent]
    if modality:
        must.append(equals(api, "modality", modality))
    if date_from or date_to:
        first, last = (_day(text) if text else None for text in (date_from, date_to))
        days = (api.RangeFloat if hasattr(api, "RangeFloat") else api.Range)(gte=first, lte=last)
        must.append(api.FieldCondition(key="day", range=days))
    return must


def equals(api: Any, field: str, value: str) -> Any:
    """Return the condition that `field` has the value, in the classes of a Qdrant interface."""
    return api.FieldCondition(key=field, match=api.MatchValue(value=value))


def _day(text: str) -> int:
    return iso_date(text, f"date '{text}'").toordinal()


def _name(point_id: object) -> str:
    # Ids go in as 32 hexadecimal digits and come out as UUIDs.
    return str(point_id).replace("-", "")


def _read_ahead(folder: Path) -> None:
    """Read the compressed latents once, in order.

    Qdrant maps them for access at random and so reads them from the disk page by page: of 100,000 cases that was half
    of the time of opening (0.6 of 1.3 s).
    """
    for path in folder.glob("segments/*/vector_storage/quantized.data"):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


@contextmanager
def _failing(folder: Path) -> Iterator[None]:
    """Turn whatever Qdrant raises, which is always a bare Exception, into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"index {folder} failed ({reason}); close the library, delete that folder and open the library again, "
            "which builds it anew from the cases"
        ) from error
