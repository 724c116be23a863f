"""What one read of a volume says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest

NOT_DIAGNOSTIC = "Not for diagnostic use: no regulator has cleared this software or this model."
DEMONSTRATION = (
    "This model was trained on generated phantoms to demonstrate the software: its scores on real scans mean nothing."
)

Call = Literal["present", "absent", "indeterminate"]


@dataclass(frozen=True)
class FindingScore:
    """One finding's score: `probability` is calibrated, `call` compares it with the bundle's two thresholds."""

    key: str
    name: str
    logit: float
    probability: float
    threshold: float
    absent_below: float

    @property
    def call(self) -> Call:
        """Return "present" from `threshold` up, "absent" below `absent_below`, and "indeterminate" between them."""
        if self.probability >= self.threshold:
            return "present"
        return "absent" if self.probability < self.absent_below else "indeterminate"


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Where each logit comes from: it is the mean over the map's cells (every `features.pooled`-th of the manifest).

    Parameters
    ----------
    keys
        Finding keys in the order of `values`.
    values
        float32 (findings, h, w, d), in logits.
    affine
        4 × 4: cell index to LPS mm of the cell's centre, which is the centre of its receptive field.
    cell_size_mm
        Distance between cell centres along (h, w, d).
    field_affine, field_shape
        Of the field the network saw: index to LPS mm, voxels (H, W, D).
    """

    keys: tuple[str, ...]
    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    cell_size_mm: tuple[float, float, float]
    field_affine: NDArray[np.float64]
    field_shape: tuple[int, int, int]

    @property
    def inner(self) -> NDArray[np.bool_]:
        """Return which cells (h, w, d) are not outermost.

        Half of what an outermost cell looks at is the network's own zero padding, not the field: such a cell is a
        part of the logit, but says nothing of a place. An axis of one or two cells has no inner ones, all count.
        """
        extents: tuple[int, ...] = self.values.shape[1:]
        inner = np.ones(extents, bool)
        for axis, extent in enumerate(extents):
            if extent > 2:
                np.moveaxis(inner, axis, 0)[[0, -1]] = False
        return inner

    def shown(self, key: str, below: float = np.inf) -> NDArray[np.float32]:
        """Return the map (h, w, d) of one finding for the eye: no outermost cell is its maximum.

        They lie one logit below the least inner value, and below `below`, where colour begins.
        """
        cells, inner = self[key], self.inner
        return np.where(inner, cells, np.float32(min(float(cells[inner].min()), below) - 1.0))

    def __getitem__(self, key: str) -> NDArray[np.float32]:
        """Return the map (h, w, d) of one finding; raise UserError if there is none."""
        if key not in self.keys:
            raise UserError(f"this reading has no heat map for '{key}'{nearest(key, self.keys)}")
        return np.asarray(self.values[self.keys.index(key)])


@dataclass(frozen=True, eq=False)
class Reading:
    """Scores, latent and warnings for one volume; `latent` is float32 (L,), not normalised.

    `notice` stands above the scores wherever they are shown: one sentence a line. `bundle_hash`
    names the bundle that read.
    """

    study_id: str
    scores: tuple[FindingScore, ...]
    latent: NDArray[np.float32]
    heatmaps: HeatMaps | None
    warnings: tuple[str, ...]
    notice: str
    bundle_hash: str

    def to_dict(self) -> dict[str, Any]:
        """Return what `greenrfm read --json` prints for one study."""
        return {
            "study": self.study_id,
            "findings": [
                {"key": score.key, "name": score.name, "probability": score.probability, "call": score.call}
                for score in self.scores
            ],
            "warnings": list(self.warnings),
            "notice": self.notice,
            "bundle": self.bundle_hash,
        }


def notice(intended_use: str) -> str:
    """Return the sentences that stand above the scores of a bundle with this intended use."""
    return f"{NOT_DIAGNOSTIC}\n{DEMONSTRATION}" if intended_use == "demonstration" else NOT_DIAGNOSTIC
