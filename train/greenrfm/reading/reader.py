"""From a volume to a reading, with onnxruntime alone."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from greenrfm.bundle import Bundle, FeatureGrid
from greenrfm.errors import UserError
from greenrfm.reading.plausibility import warnings_for
from greenrfm.reading.reading import FindingScore, HeatMaps, Reading, notice
from greenrfm.volumes import Prepared, Volume

Field = Literal["padded", "crop", "whole"]


class Cancelled(Exception):
    """The read was cancelled by another thread; there is no reading."""


class Reader:
    """Reads volumes with one bundle, one at a time; the network is opened at the first read and then kept."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Read with `bundle` on `threads` CPU threads; None is one per physical core."""
        self.bundle = bundle
        self._threads = threads
        self._running: onnxruntime.RunOptions | None = None

    def read(
        self,
        volume: Volume,
        *,
        heatmaps: bool = False,
        study_id: str = "",
        field: Field = "padded",
        cancel: onnxruntime.RunOptions | None = None,
    ) -> Reading:
        """Return scores, latent and warnings for `volume`, in any stored orientation.

        Parameters
        ----------
        volume
            In HU if the bundle reads CT.
        heatmaps
            Also say where each logit comes from.
        field
            "padded": the bundle's full field, centred on the volume. "crop": the size of its training
            crop, which is faster. "whole": as large as the volume.
        cancel
            Setting its `terminate` in another thread, before or during the read, ends this read
            between two layers; `Reader.cancel` does so without it.

        Raises
        ------
        UserError
            If the network cannot take the field or gives no finite scores.
        Cancelled
            If the read was cancelled.
        """
        options = onnxruntime.RunOptions() if cancel is None else cancel
        self._running = options
        try:
            prepared = self._prepare(volume, field)
            latent, features = self._run(prepared, options, heatmaps)
        finally:
            self._running = None
        logits = self.bundle.weight @ latent + self.bundle.bias
        if not np.isfinite(logits).all() or (features is not None and not np.isfinite(features).all()):
            raise UserError(
                f"bundle {self.bundle.folder} gives scores that are not finite; check it: greenrfm bundle check"
            )
        return Reading(
            study_id=study_id,
            scores=self._scores(logits),
            latent=latent,
            heatmaps=None if features is None else self._heatmaps(features, prepared),
            warnings=warnings_for(volume, prepared, self.bundle),
            notice=notice(self.bundle.manifest.intended_use),
            bundle_hash=self.bundle.hash,
        )

    def cancel(self) -> None:
        """End the read that is running in another thread, if there is one: it raises Cancelled there."""
        running = self._running
        if running is not None:
            running.terminate = True

    def _prepare(self, volume: Volume, field: Field) -> Prepared:
        preprocessing = self.bundle.preprocessing
        if field == "crop":
            return preprocessing.apply(volume, preprocessing.crop)
        if field == "padded":
            return preprocessing.apply(volume)
        prepared = preprocessing.apply(volume, "whole")
        height, width, depth = (
            max(count, int(np.ceil(step)))
            for count, step in zip(prepared.array.shape, self.bundle.manifest.features.stride, strict=True)
        )
        if (height, width, depth) == prepared.array.shape:
            return prepared
        # A volume thinner than one cell gets air around it, as in the padded field.
        return preprocessing.apply(volume, (height, width, depth))

    def _run(
        self, prepared: Prepared, options: onnxruntime.RunOptions, heatmaps: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        session = self.bundle.vision(self._threads)
        names = ["latent", "features"] if heatmaps else ["latent"]
        try:
            latent, *features = session.run(names, {"volume": prepared.array[None, None]}, options)
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            if options.terminate:
                raise Cancelled from None
            raise UserError(
                f"bundle {self.bundle.folder} could not read a field of {prepared.array.shape} voxels "
                f"({type(error).__name__}); read with the smaller field 'crop' or free some memory"
            ) from error
        return latent[0], features[0][0] if features else None

    def _scores(self, logits: NDArray[np.float32]) -> tuple[FindingScore, ...]:
        manifest = self.bundle.manifest
        probabilities = manifest.calibration.probability(logits)
        return tuple(
            FindingScore(finding.key, finding.name, float(logit), float(probability), present, absent)
            for finding, logit, probability, present, absent in zip(
                self.bundle.findings.findings,
                logits,
                probabilities,
                manifest.thresholds.present,
                manifest.thresholds.absent,
                strict=True,
            )
        )

    def _heatmaps(self, features: NDArray[np.float32], prepared: Prepared) -> HeatMaps:
        weight = self.bundle.weight @ self.bundle.projection  # (findings, features)
        values = np.tensordot(weight, features, axes=1) + self.bundle.bias[:, None, None, None]
        affine = _cell_affine(prepared.affine, self.bundle.manifest.features)
        height, width, depth = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
        rows, columns, slices = prepared.array.shape
        return HeatMaps(
            self.bundle.findings.keys,
            values.astype(np.float32, copy=False),
            affine,
            (height, width, depth),
            prepared.affine,
            (rows, columns, slices),
        )


def _cell_affine(field_affine: NDArray[np.float64], grid: FeatureGrid) -> NDArray[np.float64]:
    cells = np.diag([*grid.stride, 1.0])
    cells[:3, 3] = grid.offset
    return np.asarray(field_affine @ cells)
