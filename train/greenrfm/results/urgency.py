"""Which study a radiologist should open first, by a rule that is printed on the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from greenrfm.errors import UserError
from greenrfm.findings.sets import nearest
from greenrfm.results.result import Result, Score

# A study that is normal in everything is not urgent, however sure the model is.
NEVER = ("normal",)


@dataclass(frozen=True)
class Urgency:
    """The order of a worklist; `weights` holds the findings that the user named with `--urgent`.

    A weight above 0 makes a finding urgent, 0 makes it count for nothing.
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, texts: Iterable[str], keys: Sequence[str]) -> Urgency:
        """Return the urgency of "pleural_effusion,lung_nodule=2" and such; raise UserError for what it cannot mean."""
        weights: dict[str, float] = {}
        for part in (part.strip() for text in texts for part in text.split(",")):
            if not part:
                continue
            key, equals, number = (piece.strip() for piece in part.partition("="))
            if key not in keys:
                raise UserError(
                    f"--urgent names '{key}', which the bundle does not score{nearest(key, tuple(keys))}; "
                    f"it scores {', '.join(keys)}"
                )
            try:
                weights[key] = float(number) if equals else 1.0
            except ValueError:
                weights[key] = math.nan
            if not 0 <= weights[key] < math.inf:
                raise UserError(f"--urgent gives '{key}' the weight '{number}'; write a number from 0 up")
        return cls(weights)

    def of(self, score: Score) -> float:
        """Return one finding's urgency: its excess over the present threshold, times its weight."""
        weight = self.weights.get(score.key, 0.0 if score.key in NEVER else 1.0)
        # Below the threshold a weight must not make a finding less urgent.
        return score.excess * weight if score.excess > 0 else (score.excess if weight else -1.0)

    def ordered(self, result: Result) -> list[Score]:
        """Return the study's scores, the most urgent first: as in the worklist, urgent findings lead if present."""
        return sorted(result.scores, key=lambda score: (not self._is_urgent(score), -self.of(score), score.key))

    def value(self, result: Result) -> tuple[int, float]:
        """Return whether an urgent finding is called present, and the urgency of the most urgent finding."""
        urgent = [self.of(score) for score in result.scores if self._is_urgent(score)]
        return int(bool(urgent)), max(urgent or [self.of(score) for score in result.scores], default=-1.0)

    def sort(self, results: Iterable[Result]) -> list[Result]:
        """Return the results, the most urgent first; equal ones by date, latest first, then by study id."""
        # Sorting is stable: the last criterion goes first.
        by_id = sorted(results, key=lambda result: result.study_id)
        by_date = sorted(by_id, key=lambda result: result.study_date, reverse=True)
        return sorted(by_date, key=self.value, reverse=True)

    def rule(self, names: Mapping[str, str]) -> str:
        """Return the rule in words; `names` are the findings' names by key."""
        said = (
            "Sorted by urgency: of all findings of a study the largest excess of the probability p, as the bundle "
            "calibrates it, over the finding's threshold t for 'present', (p − t) / (1 − t) above the threshold and "
            "(p − t) / t below it: 1 is certainty, 0 the threshold."
        )
        urgent = [self._named(key, names) for key, weight in self.weights.items() if weight > 0]
        mute = [names.get(key, key) for key in (*self.weights, *NEVER) if not self.weights.get(key, 0.0)]
        mute = [name for name in dict.fromkeys(mute) if name in names.values()]
        if urgent:
            said += (
                f" Studies in which an urgent finding is called present stand first ({', '.join(urgent)}); among "
                "them only urgent findings count."
            )
        if mute:
            said += f" Without weight: {', '.join(mute)}."
        return said

    def _is_urgent(self, score: Score) -> bool:
        return score.call == "present" and self.weights.get(score.key, 0.0) > 0

    def _named(self, key: str, names: Mapping[str, str]) -> str:
        weight = self.weights[key]
        return names.get(key, key) + (f", weight {weight:g}" if weight != 1 else "")
