"""The held-out patients: read from their files, and measured against what is truly there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import Bundle, TextEncoder
from greenrfm.cohort import Study
from greenrfm.evaluation import (
    Localisation,
    evaluate_classification,
    evaluate_retrieval,
    hit_rate,
    localise,
    pooled_calibration,
    share_label_measures,
    volumes_of,
)
from greenrfm.findings import State
from greenrfm.phantoms.cohort import truth_masks
from greenrfm.progress import Progress
from greenrfm.reading import Reader, Reading
from greenrfm.volumes import read_volume

Floats = NDArray[np.float64]
States = NDArray[np.int8]


@dataclass(frozen=True)
class HeldOut:
    """The test studies by id, their readings, and the true states (studies, findings) of the bundle's findings."""

    bundle: Bundle
    studies: tuple[Study, ...]
    readings: tuple[Reading, ...]
    truth: States

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the findings that the bundle scores."""
        return self.bundle.findings.keys

    @property
    def patients(self) -> tuple[str, ...]:
        """Return the patient of each study."""
        return tuple(study.patient_id for study in self.studies)

    @property
    def probabilities(self) -> Floats:
        """Return the calibrated probabilities (studies, findings)."""
        return np.array([[score.probability for score in reading.scores] for reading in self.readings])

    @property
    def called(self) -> NDArray[np.bool_]:
        """Return which findings were called present (studies, findings)."""
        return np.array([[score.call == "present" for score in reading.scores] for reading in self.readings])

    @property
    def latents(self) -> Floats:
        """Return the volumes' latents (studies, 768)."""
        return np.stack([reading.latent for reading in self.readings]).astype(np.float64)

    def classification(self, probabilities: Floats | None = None) -> dict[str, Any]:
        """Evaluate these probabilities, or the model's own, against the true state, resampling patients."""
        if probabilities is not None:
            return evaluate_classification(probabilities, self.truth, self.keys, patient_ids=self.patients)
        limits = self.bundle.manifest.thresholds
        return evaluate_classification(
            self.probabilities,
            self.truth,
            self.keys,
            patient_ids=self.patients,
            thresholds=dict(zip(self.keys, limits.present, strict=True)),
            absent_below=dict(zip(self.keys, limits.absent, strict=True)),
        )

    def calibration(self) -> dict[str, Any]:
        """Return the calibration of all findings together, beside what perfect calibration would show."""
        return pooled_calibration(self.probabilities, self.truth, self.patients)

    def retrieval(self) -> dict[str, Any]:
        """Return how reports and volumes find each other among the held-out ones, by raw dot product."""
        reports = TextEncoder(self.bundle).encode([study.report for study in self.studies]).astype(np.float64)
        return evaluate_retrieval(self.latents, reports, volumes_of(self.studies), self.truth)

    def volume_to_volume(self) -> dict[str, Any]:
        """Return whether similar held-out volumes of other patients truly share findings."""
        similarity = self.latents @ self.latents.T
        return share_label_measures(similarity, self.truth, self.keys, self.patients, (5,))


def read_held_out(bundle: Bundle, studies: Sequence[Study], truth: States, progress: Progress) -> HeldOut:
    """Read every study's image file with heat maps; `truth` is (studies, findings) in the same order."""
    reader = Reader(bundle)
    readings = []
    for number, study in enumerate(studies):
        volume = read_volume(study.images["image"])
        readings.append(reader.read(volume, heatmaps=True, study_id=study.study_id))
        progress("read held-out patients", number + 1, len(studies))
    return HeldOut(bundle, tuple(studies), tuple(readings), truth)


@dataclass(frozen=True)
class HeatMapHits:
    """For each truly present finding, by (row of the study, finding key), whether its heat map points at it."""

    each: dict[tuple[int, str], Localisation]
    overall: dict[str, Any] | None
    findings: dict[str, dict[str, Any]]


def heat_map_hits(held_out: HeldOut, cohort_folder: Path, progress: Progress) -> HeatMapHits:
    """Compare the heat map of every truly present finding with its mask, whether it was called or not."""
    each: dict[tuple[int, str], Localisation] = {}
    for row, (study, reading) in enumerate(zip(held_out.studies, held_out.readings, strict=True)):
        masks = truth_masks(cohort_folder, study.study_id)
        body = read_volume(masks["body"])
        for column in np.flatnonzero(held_out.truth[row] == State.PRESENT):
            key = held_out.keys[column]
            mask = read_volume(masks[key])
            assert reading.heatmaps is not None
            heat = reading.heatmaps
            place = heat.affine, mask.array, mask.affine, body.array, body.affine
            each[row, key] = localise(heat.shown(key), *place, inner=heat.inner)
        progress("compare heat maps", row + 1, len(held_out.studies))

    def rate(wanted: str | None) -> dict[str, Any] | None:
        chosen = [index for index in each if wanted in (None, index[1])]
        if not chosen:
            return None
        return hit_rate([each[index] for index in chosen], [held_out.patients[row] for row, _ in chosen])

    rates = {key: rate(key) for key in held_out.keys}
    return HeatMapHits(each, rate(None), {key: value for key, value in rates.items() if value is not None})
