"""Scores from prompts alone (METHOD.md, "Zero-shot"): what text encoder and image encoder agree on without a head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenrfm.bundle import Bundle
from greenrfm.bundle.bundle import Prompts
from greenrfm.errors import UserError

NOT_CALIBRATED = (
    "Zero-shot probabilities come from prompts alone and are not calibrated: they rank studies, and say nothing of how "
    "often a finding is there."
)


@dataclass(frozen=True)
class ZeroShotScore:
    """How much more a study resembles "there is X" than "there is no X", 0 to 1; not calibrated, hence no call."""

    key: str
    name: str
    probability: float

    def to_dict(self) -> dict[str, str | float]:
        """Return the entry of `zero_shot` in `greenrfm read --json`."""
        return {"key": self.key, "name": self.name, "probability": self.probability}


def prompts_of(bundle: Bundle) -> Prompts:
    """Return the encoded prompts; raise UserError if the bundle was trained on images alone."""
    if bundle.prompts is None:
        raise UserError(
            f"bundle {bundle.folder} has no prompts: it was trained on images and labels alone; leave zero-shot out, "
            "or train with reports"
        )
    return bundle.prompts


def zero_shot(bundle: Bundle, latent: NDArray[np.float32]) -> tuple[ZeroShotScore, ...]:
    """Return a score per finding for a latent (768,): dot products, softmax over each pair, mean over the pairs.

    Raises UserError if the bundle was trained on images alone.
    """
    prompts = prompts_of(bundle)
    margin = (prompts.positive - prompts.negative).astype(np.float64) @ latent  # (pairs, findings)
    probability = (0.5 * (1.0 + np.tanh(0.5 * margin))).mean(axis=0)
    return tuple(
        ZeroShotScore(finding.key, finding.name, float(value))
        for finding, value in zip(bundle.findings.findings, probability, strict=True)
    )
