"""Which studies at which rate: both follow from the step alone, so that a resumed run needs no history."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from greenrfm.training.recipe import Stage


@dataclass(frozen=True)
class Schedule:
    """The batches and learning rates of a stage over `studies` studies."""

    plan: Stage
    studies: int
    seed: int

    @property
    def batch(self) -> int:
        """Return the studies of a batch; all batches are of equal size."""
        return min(self.plan.batch, self.studies)

    @property
    def steps(self) -> int:
        """Return the steps of an epoch; the few studies left over take their turn in another epoch."""
        return self.studies // self.batch

    @property
    def total(self) -> int:
        """Return the steps of the stage."""
        return self.steps * self.plan.epochs

    def order(self, epoch: int) -> list[int]:
        """Return the order of the studies in an epoch (from 0)."""
        order: list[int] = np.random.default_rng((self.seed, epoch)).permutation(self.studies).tolist()
        return order

    def rate(self, step: int, peak: float) -> float:
        """Return the learning rate of a step: linear over the warm-up, then a cosine down to `final_rate`."""
        warm = self.plan.warmup * self.total
        if step < warm:
            return peak * (step + 1) / warm
        along = (step - warm) / max(1.0, self.total - warm)
        low = min(self.plan.final_rate, peak)
        return low + (peak - low) * (1 + math.cos(math.pi * along)) / 2
