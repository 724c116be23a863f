"""A past study as the library keeps it, and the folder it is kept in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings import State

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Case:
    """One past study.

    `states` maps finding keys to what the report says of them (a key may be missing), `thumbnail` is a
    PNG or empty, `study_date` is `YYYY-MM-DD` or empty.
    """

    study_id: str
    patient_id: str
    states: dict[str, State]
    report: str
    thumbnail: bytes
    modality: str
    study_date: str
    series_uid: str


@dataclass(frozen=True)
class Hit:
    """A found case, its dot product with the query's latent, and its place (1 is the most similar)."""

    case: Case
    score: float
    rank: int


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
        entry = {
            "study_id": case.study_id,
            "patient_id": case.patient_id,
            "modality": case.modality,
            "study_date": case.study_date,
            "series_uid": case.series_uid,
            "states": {key: state.name.lower() for key, state in case.states.items()},
        }
        (fresh / "case.json").write_text(json.dumps(entry, ensure_ascii=False, indent=1), encoding="utf-8")
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
            picture = folder / "thumbnail.png"
            return Case(
                study_id=entry["study_id"],
                patient_id=entry["patient_id"],
                states={key: State[state.upper()] for key, state in entry["states"].items()},
                report=report,
                thumbnail=picture.read_bytes() if picture.is_file() else b"",
                modality=entry["modality"],
                study_date=entry["study_date"],
                series_uid=entry["series_uid"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(folder, error) from error

    def read_latent(self, name: str, dimension: int) -> NDArray[np.float32]:
        """Return the latent, float32 (dimension,); raise UserError if it is missing or damaged."""
        folder = self.root / name
        try:
            latent = np.load(folder / "latent.npy", allow_pickle=False)
            if latent.shape != (dimension,) or latent.dtype != np.float32:
                raise ValueError("shape")
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(folder, error) from error
        return np.asarray(latent, np.float32)

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
