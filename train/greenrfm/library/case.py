"""A past study as the library keeps it, and the folder it is kept in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings import State

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
TEXTS = ("study_id", "patient_id", "modality", "study_date", "series_uid", "source")
NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Case:
    """One past study.

    `states` maps finding keys to what the report says of them (a key may be missing), `thumbnail` is a
    PNG or empty, `study_date` is `YYYY-MM-DD` or empty, `source` is the file or DICOM folder of the image, the first
    one of an MR study. `images` are all of such a study, by the cohort's columns ("image_pd_sagittal").
    """

    study_id: str
    patient_id: str
    states: dict[str, State]
    report: str
    thumbnail: bytes
    modality: str
    study_date: str
    series_uid: str
    source: str = ""
    images: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """A found case, its dot product with the query's latent, and its place (1 is the most similar).

    `thumbnail` is the path of its picture, or None if it has none.
    """

    case: Case
    score: float
    rank: int
    thumbnail: Path | None = None


@dataclass(frozen=True)
class Comparison:
    """What a case has in common with the query: finding keys, in the order of the query.

    `shared` are present in both, `only_query` and `only_case` present in one and absent in or not
    mentioned by the other; a finding that either calls uncertain is in none.
    """

    shared: tuple[str, ...]
    only_query: tuple[str, ...]
    only_case: tuple[str, ...]


def compare(query: Mapping[str, State], case: Case) -> Comparison:
    """Return the findings that the query's report or reading shares with a case, and those that differ.

    A key that the query lacks was not looked for and says nothing of the case; give NOT_MENTIONED for a
    finding that was.
    """
    silent = (State.ABSENT, State.NOT_MENTIONED)
    shared, only_query, only_case = [], [], []
    for key, state in query.items():
        other = case.states.get(key, State.NOT_MENTIONED)
        if state is State.PRESENT and other is State.PRESENT:
            shared.append(key)
        elif state is State.PRESENT and other in silent:
            only_query.append(key)
        elif state in silent and other is State.PRESENT:
            only_case.append(key)
    return Comparison(tuple(shared), tuple(only_query), tuple(only_case))


def iso_date(text: str, what: str) -> date:
    """Return the calendar day written as `YYYY-MM-DD`; raise UserError, which begins with `what`, otherwise."""
    try:
        if ISO_DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise UserError(f"{what} is not a calendar day; write it as YYYY-MM-DD")


def folder_name(study_id: str) -> str:
    """Return the folder name of a study: 32 hexadecimal digits of the SHA-256 of its id.

    Ids may hold characters that no file system takes, and may identify a patient.
    """
    return hashlib.sha256(study_id.encode("utf-8")).hexdigest()[:32]


def entry_of(case: Case) -> dict[str, Any]:
    """Return what case.json holds: everything but the report and the picture."""
    entry: dict[str, Any] = {
        "study_id": case.study_id,
        "patient_id": case.patient_id,
        "modality": case.modality,
        "study_date": case.study_date,
        "series_uid": case.series_uid,
        "source": case.source,
        "states": {key: state.name.lower() for key, state in case.states.items()},
    }
    return entry | {"images": case.images} if case.images else entry


def case_from(entry: Any, report: str, thumbnail: bytes) -> Case:
    """Return the case of what `entry_of` made; raise ValueError if it is anything else."""
    if not isinstance(entry, dict) or not isinstance(entry.get("states"), dict):
        raise ValueError("no case")
    images = entry.get("images", {})
    if not isinstance(images, dict) or not all(isinstance(path, str) for path in images.values()):
        raise ValueError("images")
    # Libraries made before there was a source have none.
    texts = {"source": "", **{key: value for key, value in entry.items() if key in TEXTS}}
    if set(texts) != set(TEXTS) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("a text is missing")
    if not texts["study_id"] or not texts["patient_id"]:
        raise ValueError("no id")
    states = {}
    for key, name in entry["states"].items():
        if not isinstance(name, str) or name.upper() not in State.__members__:
            raise ValueError("unknown state")
        states[key] = State[name.upper()]
    if texts["study_date"]:
        try:
            iso_date(texts["study_date"], "the date")
        except UserError:
            raise ValueError("no calendar day") from None
    # A lone surrogate can be read from JSON and written nowhere.
    "".join([*texts.values(), *states, *images, *images.values()]).encode("utf-8")
    return Case(states=states, report=report, thumbnail=thumbnail, images=images, **texts)


def load_array(path: Path) -> NDArray[Any]:
    """Return an .npy file mapped into memory, so that a header which promises more than the file has costs nothing.

    Raises OSError or ValueError for whatever is no such file.
    """
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except OSError:
        raise
    except Exception as error:
        # numpy parses the header as Python, and what it raises is what Python's tokenizer and parser raise.
        raise ValueError("no array") from error


class CaseFiles:
    """The folder `cases`: `<name>/case.json`, `report.txt`, `latent.npy` and `thumbnail.png` for each study.

    These files are the library; its index is made from them. While a case is replaced, `<name>.new` and
    `<name>.old` lie beside it.
    """

    def __init__(self, root: Path) -> None:
        """Take the folder that holds the cases; it need not exist yet."""
        self.root = root

    def names(self) -> Iterator[str]:
        """Yield the folder names of all cases, in no order."""
        if self.root.is_dir():
            with os.scandir(self.root) as entries:
                yield from (entry.name for entry in entries if NAME.fullmatch(entry.name))

    def exists(self, name: str) -> bool:
        """Return whether there is a case in the folder called `name`."""
        return (self.root / name).is_dir()

    def write(self, name: str, case: Case, latent: NDArray[np.float32]) -> None:
        """Write a case, or replace it, so that at any moment the old one or the new one can be restored."""
        # The files need not be replaced one by one: renaming the finished folder is the atomic step.
        fresh, old = self._beside(name)
        _remove(fresh)
        fresh.mkdir(parents=True)
        (fresh / "case.json").write_text(json.dumps(entry_of(case), ensure_ascii=False, indent=1), encoding="utf-8")
        # As bytes, because text mode would change the line ends of the report on Windows.
        (fresh / "report.txt").write_bytes(case.report.encode("utf-8"))
        np.save(fresh / "latent.npy", latent, allow_pickle=False)
        if case.thumbnail:
            (fresh / "thumbnail.png").write_bytes(case.thumbnail)
        if self.exists(name):
            os.replace(self.root / name, old)
        os.replace(fresh, self.root / name)
        _remove(old)

    def settle(self, name: str) -> None:
        """Bring the folder of a case in order whose writing was cut off."""
        fresh, old = self._beside(name)
        if old.exists() and not self.exists(name):
            os.replace(old, self.root / name)
        _remove(fresh)
        _remove(old)

    def delete(self, name: str) -> None:
        """Delete everything of a case, also what a cut-off writing left; no error if there is nothing."""
        for folder in (self.root / name, *self._beside(name)):
            _remove(folder)

    def read(self, name: str) -> Case:
        """Return the case in the folder called `name`; raise UserError if it is missing or damaged."""
        folder = self.root / name
        try:
            entry = json.loads((folder / "case.json").read_text(encoding="utf-8"))
            report = (folder / "report.txt").read_bytes().decode("utf-8")
            picture = self.thumbnail(name)
            return case_from(entry, report, picture.read_bytes() if picture else b"")
        except (OSError, ValueError, RecursionError) as error:
            raise self._damaged(folder, error) from error

    def thumbnail(self, name: str) -> Path | None:
        """Return the path of the case's picture, or None."""
        picture = self.root / name / "thumbnail.png"
        return picture if picture.is_file() else None

    def read_latent(self, name: str, dimension: int) -> NDArray[np.float32]:
        """Return the latent, float32 (dimension,); raise UserError if it is missing or damaged."""
        folder = self.root / name
        try:
            latent = load_array(folder / "latent.npy")
            if latent.shape != (dimension,) or latent.dtype != np.float32:
                raise ValueError("shape")
            if not np.isfinite(latent).all():
                raise ValueError("not finite")
        except (OSError, ValueError) as error:
            raise self._damaged(folder, error) from error
        return np.array(latent)

    def _beside(self, name: str) -> tuple[Path, Path]:
        return self.root / f"{name}.new", self.root / f"{name}.old"

    @staticmethod
    def _damaged(folder: Path, error: Exception) -> UserError:
        return UserError(
            f"case folder {folder} is missing or damaged ({type(error).__name__}); "
            "restore it from a backup, or delete it, open the library again and add the study again"
        )


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
