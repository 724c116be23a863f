"""What one read of a volume says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import NOT_CALIBRATED_BUNDLE
from greenrfm.reading.checks import Check
from greenrfm.reading.features import Features
from greenrfm.reading.maps import HeatMaps
from greenrfm.reading.zero_shot import NOT_CALIBRATED, ZeroShotScore

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
class Reading:
    """Scores, latent and checks for one study; `latent` is float32 (L,), not normalised.

    `notice` stands above the scores wherever they are shown: one sentence a line. `bundle_hash` names the bundle that
    read. Who shows scores or heat maps asks `withheld` first. Of an MR study `plane_heatmaps` has a map for each
    plane, and `heatmaps` is that plane's where the study has only one; so with `features`.
    """

    study_id: str
    scores: tuple[FindingScore, ...]
    latent: NDArray[np.float32]
    heatmaps: HeatMaps | None
    notice: str
    bundle_hash: str
    checks: tuple[Check, ...] = ()
    plane_heatmaps: Mapping[str, HeatMaps] = field(default_factory=dict)
    features: Features | None = None
    plane_features: Mapping[str, Features] = field(default_factory=dict)
    zero_shot: tuple[ZeroShotScore, ...] | None = None
    overruled: bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return a sentence for each reason to doubt the scores, the worst first, without full stops."""
        sentences = tuple(check.sentence for check in self.checks)
        if self.overruled and self._reasons:
            return ("these scores are shown because somebody overruled that they be withheld", *sentences)
        return sentences

    @property
    def withheld(self) -> str:
        """Return why the scores must not be shown, or "" if they may be."""
        return "" if self.overruled else "; ".join(self._reasons)

    def overrule(self) -> Reading:
        """Return this reading with its scores to be shown whatever the checks say."""
        return replace(self, overruled=True)

    def to_dict(self) -> dict[str, Any]:
        """Return what `greenrfm read --json` prints for one study."""
        shown = () if self.withheld else self.scores
        zero_shot = None if self.withheld else self.zero_shot
        return {
            "study": self.study_id,
            "findings": [
                {"key": score.key, "name": score.name, "probability": score.probability, "call": score.call}
                for score in shown
            ],
            "zero_shot": None
            if zero_shot is None
            else {"notice": NOT_CALIBRATED, "findings": [score.to_dict() for score in zero_shot]},
            "withheld": self.withheld,
            "overruled": self.overruled,
            "warnings": list(self.warnings),
            "checks": [check.to_dict() for check in self.checks],
            "notice": self.notice,
            "bundle": self.bundle_hash,
        }

    @property
    def _reasons(self) -> tuple[str, ...]:
        return tuple(check.sentence for check in self.checks if check.level == "withhold")


def notice(intended_use: str, calibrated: bool = True) -> str:
    """Return the sentences that stand above the scores of a bundle with this intended use, one a line."""
    sentences = [NOT_DIAGNOSTIC]
    if intended_use == "demonstration":
        sentences.append(DEMONSTRATION)
    if not calibrated:
        sentences.append(NOT_CALIBRATED_BUNDLE)
    return "\n".join(sentences)
