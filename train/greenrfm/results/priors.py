"""The earlier study of the same patient, beside the current one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from greenrfm.results.result import Result, Score


@dataclass(frozen=True)
class Change:
    """One finding's change since the prior study: probabilities subtracted, calls side by side."""

    key: str
    name: str
    before: float
    after: float
    call_before: str
    call_after: str

    @property
    def difference(self) -> float:
        """Return by how much the probability rose."""
        return self.after - self.before

    @property
    def is_new_call(self) -> bool:
        """Return whether the call is another one now."""
        return self.call_before != self.call_after


@dataclass(frozen=True)
class Prior:
    """The latest earlier study of a patient; where it cannot be compared there are no changes but a reason."""

    study_id: str
    study_date: str
    changes: tuple[Change, ...] = ()
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what --json says under "prior"."""
        value: dict[str, Any] = {"study": self.study_id, "study_date": self.study_date}
        if self.reason:
            return value | {"not_compared": self.reason}
        return value | {
            "findings": [
                {
                    "key": change.key,
                    "probability": change.before,
                    "call": change.call_before,
                    "difference": change.difference,
                }
                for change in self.changes
            ]
        }


def find_priors(results: Iterable[Result], earlier: Iterable[Result] = ()) -> dict[str, Prior]:
    """Return for each study that has one its prior, by study id.

    A prior is the latest study of the same patient on a day before, among `results` and `earlier` (an older output
    folder, a library). Studies without patient or date have none. Probabilities of two bundles are not compared:
    one of the same bundle is preferred, else the prior says so.
    """
    current = list(results)
    own = {result.study_id for result in current}
    patients: dict[str, list[Result]] = defaultdict(list)
    for result in [*current, *(result for result in earlier if result.study_id not in own)]:
        if result.patient_id and result.study_date:
            patients[result.patient_id].append(result)
    priors = {}
    for result in current:
        before = [each for each in patients.get(result.patient_id, ()) if each.study_date < result.study_date]
        if before and result.study_date:
            priors[result.study_id] = _prior(result, before)
    return priors


def _prior(result: Result, before: list[Result]) -> Prior:
    same = [each for each in before if each.bundle_hash == result.bundle_hash and each.scores]
    latest = max(same or before, key=lambda each: (each.study_date, each.study_id))
    if not result.scores:
        return Prior(latest.study_id, latest.study_date, reason="the scores of the current study are withheld")
    if not latest.scores:
        return Prior(latest.study_id, latest.study_date, reason="its scores were withheld")
    if not same:
        return Prior(latest.study_id, latest.study_date, reason="it was read with another bundle")
    old = {score.key: score for score in latest.scores}
    changes = tuple(_change(old[score.key], score) for score in result.scores if score.key in old)
    return Prior(latest.study_id, latest.study_date, changes)


def _change(old: Score, new: Score) -> Change:
    return Change(new.key, new.name, old.probability, new.probability, old.call, new.call)
