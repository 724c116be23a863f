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
    one of the same bundle is preferred, else the prior says so; nor are those of two fields of view, or such as
    somebody overruled. An id may come again on another day, as folders' names do.
    """
    current = list(results)
    own = {(result.study_id, result.study_date) for result in current}
    own |= {(result.study_id, result.series_uid) for result in current if result.series_uid}
    patients: dict[str, list[Result]] = defaultdict(list)
    others = (
        each for each in earlier if own.isdisjoint({(each.study_id, each.study_date), (each.study_id, each.series_uid)})
    )
    for result in [*current, *others]:
        if result.patient_id and result.study_date:
            patients[result.patient_id].append(result)
    priors = {}
    for result in current:
        before = [each for each in patients.get(result.patient_id, ()) if each.study_date < result.study_date]
        if before and result.study_date:
            priors[result.study_id] = _prior(result, before)
    return priors


def _prior(result: Result, before: list[Result]) -> Prior:
    same = [each for each in before if each.scores and not _other(each, result)]
    latest = max(same or before, key=lambda each: (each.study_date, each.study_id))
    if not result.scores:
        return Prior(latest.study_id, latest.study_date, reason="the scores of the current study are withheld")
    if not latest.scores:
        return Prior(latest.study_id, latest.study_date, reason="its scores were withheld")
    if not same:
        return Prior(latest.study_id, latest.study_date, reason=_other(latest, result))
    old = {score.key: score for score in latest.scores}
    changes = tuple(_change(old[score.key], score) for score in result.scores if score.key in old)
    return Prior(latest.study_id, latest.study_date, changes)


def _other(before: Result, now: Result) -> str:
    """Return why the probabilities of two readings cannot be compared, "" if they can."""
    if before.bundle_hash != now.bundle_hash:
        return "it was read with another bundle"
    if before.options.get("field") != now.options.get("field"):
        return "another field of view was read"
    if any(result.reading.get("overruled") and _withholds(result) for result in (before, now)):
        return "scores that would be withheld are shown by overrule"
    return ""


def _withholds(result: Result) -> bool:
    return any(check.get("level") == "withhold" for check in result.reading.get("checks", ()))


def _change(old: Score, new: Score) -> Change:
    return Change(new.key, new.name, old.probability, new.probability, old.call, new.call)
