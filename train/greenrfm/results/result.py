"""What is kept of one reading: enough for every form in which it leaves, without the volume or the bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
_CALLS = ("present", "absent", "indeterminate")


@dataclass(frozen=True)
class Score:
    """One finding's calibrated probability, its call, and the two thresholds that made it (`FindingScore`)."""

    key: str
    name: str
    probability: float
    call: str
    present_from: float
    absent_below: float

    @property
    def excess(self) -> float:
        """Return how far the probability lies above the present threshold, as a share of what there is.

        0 at the threshold, 1 at certainty, -1 at probability 0: findings of different thresholds compare.
        """
        over = self.probability - self.present_from
        room = 1.0 - self.present_from if over >= 0 else self.present_from
        return over / room if room > 0 else 0.0


@dataclass(frozen=True)
class Result:
    """One study that was read.

    Parameters
    ----------
    key
        Names what the reading was made from: study, content of the source, bundle, software, options.
    study_id, patient_id, study_date
        "" where nobody says; the date is YYYY-MM-DD.
    series_uid, source
        DICOM SeriesInstanceUID or "", and the path that was read.
    read_at, software
        ISO time in UTC, and the version of greenrfm.
    scores
        In the bundle's order; none where they are withheld.
    reading
        What `Reading.to_dict` gave.
    pictures
        Finding keys of which the folder holds a picture of the heat map, and `cell_mm`, the size of its cells.
    """

    key: str
    study_id: str
    patient_id: str
    study_date: str
    series_uid: str
    source: str
    read_at: str
    software: str
    scores: tuple[Score, ...]
    reading: Mapping[str, Any]
    pictures: tuple[str, ...] = ()
    cell_mm: tuple[float, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def bundle_hash(self) -> str:
        """Return the hash of the bundle that read."""
        return str(self.reading["bundle"])

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the sentences that cast doubt on the reading."""
        return tuple(self.reading["warnings"])

    @property
    def notice(self) -> str:
        """Return what stands above the scores."""
        return str(self.reading["notice"])

    @property
    def withheld(self) -> str:
        """Return why there are no scores, or ""."""
        return str(self.reading.get("withheld") or "") or ("" if self.scores else "there are no scores")

    def to_json(self) -> str:
        """Return the content of the study's file."""
        value = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in _TEXTS},
            "scores": [vars(score) for score in self.scores],
            "reading": self.reading,
            "pictures": self.pictures,
            "cell_mm": self.cell_mm,
            "options": self.options,
        }
        return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def parse(cls, text: str) -> Result:
        """Return the result that `to_json` wrote; raise ValueError if the text is none of this format."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            reading = value["reading"]
            if not isinstance(reading["bundle"], str) or not isinstance(reading["notice"], str):
                raise ValueError("reading")
            if not isinstance(reading["findings"], list) or not _texts(reading["warnings"]):
                raise ValueError("reading")
            if not _texts(value["pictures"]) or not isinstance(value["options"], dict):
                raise ValueError("pictures")
            return cls(
                **{name: _text(value[name]) for name in _TEXTS},
                scores=tuple(_score(item) for item in value["scores"]),
                reading=reading,
                pictures=tuple(value["pictures"]),
                cell_mm=tuple(float(length) for length in value["cell_mm"]),
                options=value["options"],
            )
        except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError("no result of a reading") from error


_TEXTS = ("key", "study_id", "patient_id", "study_date", "series_uid", "source", "read_at", "software")


def _score(item: Mapping[str, Any]) -> Score:
    probability, present, absent = (float(item[name]) for name in ("probability", "present_from", "absent_below"))
    if not 0 <= probability <= 1 or not (math.isfinite(present) and math.isfinite(absent)):
        raise ValueError("probability")
    if item["call"] not in _CALLS:
        raise ValueError("call")
    return Score(_text(item["key"]), _text(item["name"]), probability, item["call"], present, absent)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("text")
    value.encode("utf-8")  # a lone surrogate could not be written again (UnicodeEncodeError is a ValueError)
    return value


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
