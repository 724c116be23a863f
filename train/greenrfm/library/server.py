"""The same index on a Qdrant server or cluster, for a group of machines: latents, and nothing that names anyone."""

from __future__ import annotations

import hashlib
import hmac
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.library.case import Case, folder_name
from greenrfm.library.index import KEYWORDS, OVERSAMPLING, conditions, equals, patient_hash, payload

try:
    import qdrant_client
    from qdrant_client import models
except ImportError as missing:
    raise UserError(
        "a library on a server needs the package qdrant-client; pip install 'greenrfm[server]'"
    ) from missing

KEY_VARIABLE = "GREENRFM_QDRANT_API_KEY"
TIMEOUT_S = 30


@dataclass(frozen=True)
class Server:
    """A Qdrant server that may be given latents; its address was checked by whoever made this.

    `remote` says whether it is another machine. The key of its interface is read from the environment variable
    `KEY_VARIABLE` and never kept.
    """

    url: str
    remote: bool = True

    def connect(self) -> qdrant_client.QdrantClient:
        """Return a client; nothing is sent yet, not even to ask for the server's version."""
        with warnings.catch_warnings():
            if not self.remote:
                # A key that stays on this machine needs no https.
                warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
            # trust_env would let a proxy of the environment read along.
            return qdrant_client.QdrantClient(
                url=self.url,
                api_key=os.environ.get(KEY_VARIABLE) or None,
                timeout=TIMEOUT_S,
                check_compatibility=False,
                trust_env=False,
            )


class ServerIndex:
    """One collection with one point per case; the interface of `CaseIndex`.

    A server sees more people than a folder, and whoever knows the accession numbers could try out plain
    hashes: ids of studies and patients are keyed with the library's `secret`, which stays in its folder.
    """

    def __init__(
        self, client: qdrant_client.QdrantClient, collection: str, secret: str, names: Callable[[], Iterable[str]]
    ) -> None:
        """Take a client, the collection's name, the secret in hex, and what gives all folder names of cases."""
        self._client = client
        self._collection = collection
        self._secret = bytes.fromhex(secret)
        self._names = {self._keyed(name): name for name in names()}

    def exists(self) -> bool:
        """Return whether the server has the collection."""
        with self._failing():
            return self._client.collection_exists(self._collection)

    def create(self, dimension: int) -> None:
        """Make the empty collection."""
        with self._failing():
            self._client.create_collection(
                self._collection,
                vectors_config=models.VectorParams(size=dimension, distance=models.Distance.DOT),
                hnsw_config=models.HnswConfigDiff(m=0),
                quantization_config=models.TurboQuantization(
                    turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS4, always_ram=True)
                ),
            )
            for field in KEYWORDS:
                self._client.create_payload_index(self._collection, field, models.PayloadSchemaType.KEYWORD)
            self._client.create_payload_index(self._collection, "day", models.PayloadSchemaType.INTEGER)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def remove(self) -> None:
        """Delete the collection and close the connection."""
        with self._failing():
            self._client.delete_collection(self._collection)
        self.close()

    def tidy(self) -> None:
        """Leave it to the server, which compresses by itself."""

    def __len__(self) -> int:
        """Return the number of cases."""
        with self._failing():
            return self._client.count(self._collection, exact=True).count

    def upsert(self, cases: Sequence[tuple[Case, NDArray[np.float32]]]) -> None:
        """Add or replace cases with their latents, float32 (dimension,); when it returns the server has them."""
        points = []
        for case, latent in cases:
            name = folder_name(case.study_id)
            self._names[self._keyed(name)] = name
            content = payload(case) | {"patient": self._keyed(patient_hash(case.patient_id))}
            points.append(models.PointStruct(id=self._keyed(name), vector=latent.tolist(), payload=content))
        with self._failing():
            self._client.upsert(self._collection, points, wait=True)

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
        """Return folder names and dot products of the `k` best cases, best first; see `CaseIndex.query`."""
        must = conditions(models, present, absent, modality, date_from, date_to)
        patient = self._keyed(patient_hash(exclude_patient))
        must_not = [equals(models, "patient", patient)] if exclude_patient else []
        with self._failing():
            answer = self._client.query_points(
                self._collection,
                query=latent.tolist(),
                limit=k,
                query_filter=models.Filter(must=must, must_not=must_not) if must or must_not else None,
                search_params=models.SearchParams(
                    quantization=models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
                ),
                with_payload=False,
            )
            found = [(str(point.id).replace("-", ""), point.score) for point in answer.points]
        # A point without a folder was added from another copy of the folder: it has no report here.
        return [(self._names[name], score) for name, score in found if name in self._names]

    def counts(self, field: str) -> dict[str, int]:
        """Return how many cases have each value of `present`, `absent`, `modality` or `patient`."""
        with self._failing():
            answer = self._client.facet(self._collection, field, limit=max(len(self), 1000), exact=True)
        return {str(hit.value): hit.count for hit in answer.hits}

    def _keyed(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("ascii"), hashlib.sha256).hexdigest()[:32]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn whatever the client raises into a sentence that quotes neither what was sent nor the key."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            status = getattr(error, "status_code", None)
            reason = f"status {status}" if status else type(error).__name__
            raise UserError(
                f"the Qdrant server failed for collection {self._collection} ({reason}); check that it runs, that its "
                f"address is right, and its key in {KEY_VARIABLE}, then try again"
            ) from error
