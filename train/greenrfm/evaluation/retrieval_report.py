"""Everything about retrieval in one result: three directions, the honest definition and that of public scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.evaluation.intervals import BOOTSTRAPS, Floats
from greenrfm.evaluation.public_scripts import label_overlap_with_itself, recall_of_own_row
from greenrfm.evaluation.reconstructions import Volumes
from greenrfm.evaluation.retrieval import KS, recall_at_k, retrieval_measures
from greenrfm.evaluation.similar import label_overlap

# Two studies are alike if they share at least this part (Jaccard) of the findings that either of them has.
ALIKE = 0.5


def evaluate_retrieval(
    images: Floats,
    texts: Floats | None,
    volumes: Volumes,
    states: NDArray[np.int8] | None = None,
    ks: Sequence[int] = KS,
    *,
    alike: float = ALIKE,
    bootstraps: int = BOOTSTRAPS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return recall@k and MAP@k of text -> image, image -> text and image -> image.

    Parameters
    ----------
    images : (N, L) latents of the volumes; similarity is the raw dot product.
    texts : (N, L) latents of each volume's report; None if the bundle reads no text.
    volumes : patient and report of each volume; both must be known.
    states : (N, F) of the volumes, for image -> image; UNCERTAIN and NOT_MENTIONED entries are not compared.
    ks : those above N are left out.
    alike : in image -> image a volume is relevant if its label overlap (Jaccard) with the query is at least this.

    Returns
    -------
    `{"n", "reports", "patients", "ks", "honest": {direction: {"definition", …measures}}, "as_public_scripts": {…}}`.
    Honest: each report is one query (text -> image) or one candidate (image -> text) however many volumes share it,
    and any of them is a hit; in image -> image a report's first volume stands for all, and no volume of the query's
    own patient is a candidate. A direction that cannot be measured is None.

    Raises ValueError if patients or reports are not known.
    """
    if volumes.patients is None or volumes.reports is None:
        raise ValueError("retrieval needs the patient and the report of every volume")
    images = np.asarray(images, dtype=np.float64)
    patients, first = volumes.patients, volumes.first_of_each_report()
    depths = tuple(k for k in ks if k <= len(images))
    settings: dict[str, Any] = {"bootstraps": bootstraps, "seed": seed}
    honest: dict[str, Any] = {"text_to_image": None, "image_to_text": None, "image_to_image": None}
    public: dict[str, Any] = {"text_to_image": None, "image_to_image": None}
    if texts is not None:
        similarity = np.asarray(texts, dtype=np.float64) @ images.T
        of_first = [volumes.reports[row] for row in first]
        honest["text_to_image"] = {
            "definition": "each report once; a hit is any volume of that report",
            **recall_at_k(
                similarity[first],
                of_first,
                volumes.reports,
                depths,
                patient_ids=[patients[row] for row in first],
                **settings,
            ),
        }
        honest["image_to_text"] = {
            "definition": "each volume; candidates are the reports, each once; a hit is its own report",
            **recall_at_k(
                similarity.T[:, first],
                volumes.reports,
                of_first,
                tuple(k for k in depths if k <= len(first)),
                patient_ids=patients,
                **settings,
            ),
        }
        public["text_to_image"] = {
            "definition": "CT-CLIP: a query per volume; a hit is the volume of the same row, no other of its report",
            **recall_of_own_row(similarity, depths, patients, **settings),
        }
    if states is not None:
        honest["image_to_image"] = _alike(
            images[first], states[first], [patients[row] for row in first], depths, alike, settings
        )
        found = label_overlap_with_itself(images, states, depths, patients, **settings)
        if found is not None:
            public["image_to_image"] = {
                "definition": "CT-CLIP's 'MAP@K': mean label Jaccard with the first k by cosine; the query counts "
                "itself; volumes without a finding are queries but no candidates; as_written_at_k is what its script "
                "writes, the mean over all its k up to this one",
                **found,
            }
    return {
        "n": len(images),
        "reports": len(first),
        "patients": len(set(patients)),
        "ks": list(depths),
        "honest": honest,
        "as_public_scripts": public,
    }


def _alike(
    images: Floats,
    states: NDArray[np.int8],
    patients: Sequence[str],
    ks: Sequence[int],
    alike: float,
    settings: dict[str, Any],
) -> dict[str, Any] | None:
    """Return image -> image retrieval of studies with like findings, None if no two patients are alike."""
    of = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    other = of[:, None] != of[None, :]
    relevant = (label_overlap(states) >= alike) & other
    if not relevant.any():
        return None
    return {
        "definition": f"candidates are the volumes of other patients, one per report; a hit shares at least {alike:g} "
        "(Jaccard) of the findings that either has, or both have none",
        "alike": alike,
        **retrieval_measures(
            images @ images.T,
            relevant,
            other,
            tuple(k for k in ks if k < len(images)),
            patient_ids=patients,
            **settings,
        ),
    }
