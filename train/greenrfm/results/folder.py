"""The folder of a worklist: a file per study, so that a kill costs at most the study that was being read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from greenrfm.errors import UserError
from greenrfm.files import replacing, write_text
from greenrfm.locks import Lock
from greenrfm.results.audit import AuditLog
from greenrfm.results.result import Result

# What another id's name may end with, and what Windows takes for a device.
_HASHED = re.compile(r".*-[0-9a-f]{8}|[0-9a-f]{8}", re.DOTALL)
# As `files.replacing` names them.
_TEMPORARY = re.compile(r"\.\d+-[0-9a-f]{8}\..*", re.DOTALL)
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def file_name(study_id: str) -> str:
    """Return the study's id as the name of a file, another one for every id.

    An id that no file system takes, or that could be the name of another id, gets a hash behind it.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", study_id).lstrip(".")[:80].rstrip(".")
    if safe == study_id and not _HASHED.fullmatch(safe) and not _DEVICE.fullmatch(safe):
        return safe
    return f"{safe}-{hashlib.sha256(study_id.encode()).hexdigest()[:8]}".lstrip("-")


def reading_key(**facts: Any) -> str:
    """Return what names a reading by everything that it depends on, as 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class ResultFolder:
    """The results in `root`, locked against a second run as long as it is open; a context manager.

    `studies/<name>.json` is a reading, `<name>.html` its page, `<name>.<finding>.jpg` pictures of its heat maps;
    `audit.jsonl` is the record of all readings.
    """

    def __init__(self, root: Path) -> None:
        """Make or open the folder; raise UserError if another run has it open or it is a file."""
        if root.exists() and not root.is_dir():
            raise UserError(f"{root} is a file; name a folder with --out")
        self.root = root
        self.studies = root / "studies"
        self.studies.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(root / "worklist.lock", f"worklist {root}", "wait for it, or name another --out")
        try:
            self.audit = AuditLog(root / "audit.jsonl")
        except BaseException:
            self._lock.release()
            raise

    def load(self, study_id: str) -> Result | None:
        """Return what is kept of the study; None if nothing, or only a damaged file or one of another version."""
        return _read(self._path(study_id, ".json"), study_id)

    def save(self, result: Result) -> None:
        """Keep a result; when it returns, a kill does not lose it."""
        write_text(self._path(result.study_id, ".json"), result.to_json())

    def forget_patients(self) -> None:
        """Take the patients' ids out of what earlier runs kept; their pages go, and are written anew.

        What cannot be read goes too, because it may hold them, and so do the temporary files of a killed run.
        """
        for path in [*self.root.glob(".*"), *self.studies.glob(".*")]:
            if _TEMPORARY.fullmatch(path.name):
                path.unlink()
        for path in self.studies.glob("*.json"):
            result = _read(path)
            if result is None:
                path.unlink()
            elif result.patient_id:
                self._path(result.study_id, ".html").unlink(missing_ok=True)
                self.save(replace(result, patient_id=""))

    def check_names(self, study_ids: Iterable[str]) -> None:
        """Raise UserError if two studies would share a file, as on file systems that do not tell a from A."""
        if not (self.root / "STUDIES").exists():
            return
        names: dict[str, str] = {}
        for study_id in study_ids:
            other = names.setdefault(file_name(study_id).casefold(), study_id)
            if other != study_id:
                raise UserError(
                    f"studies {other} and {study_id} differ only in capital letters, and the disk of {self.root} "
                    "takes their files for one; rename one of them, or name a folder of another disk with --out"
                )

    def save_picture(self, study_id: str, key: str, picture: bytes) -> None:
        """Keep the picture of a finding's heat map, a JPEG."""
        with replacing(self._path(study_id, f".{key}.jpg")) as temporary:
            temporary.write_bytes(picture)

    def remove_pictures(self, study_id: str) -> None:
        """Remove the pictures that an earlier reading of the study left."""
        for path in self._path(study_id, "").parent.glob(f"{file_name(study_id)}.*.jpg"):
            path.unlink()

    def picture(self, result: Result, key: str) -> bytes:
        """Return the picture of a finding's heat map; raise OSError if somebody took it away."""
        return self._path(result.study_id, f".{key}.jpg").read_bytes()

    def write_page(self, study_id: str, text: str) -> None:
        """Write the study's page if it is another one than before."""
        path = self._path(study_id, ".html")
        if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
            write_text(path, text)

    def link(self, study_id: str, suffix: str) -> str:
        """Return one of the study's files relative to the folder."""
        return self._path(study_id, suffix).relative_to(self.root).as_posix()

    def close(self) -> None:
        """Close the audit file and give the lock back; nothing happens the second time."""
        self.audit.close()
        self._lock.release()

    def __enter__(self) -> Self:
        """Return the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _path(self, study_id: str, suffix: str) -> Path:
        return self.studies / (file_name(study_id) + suffix)


def read_results(root: Path) -> Iterator[Result]:
    """Yield all results of a folder that may be another run's; raise UserError if it is no worklist folder."""
    if not (root / "studies").is_dir():
        raise UserError(f"{root} holds no readings; name a folder that greenrfm read --out has written")
    for path in sorted((root / "studies").glob("*.json")):
        result = None if path.name.startswith(".") else _read(path)
        if result is not None:
            yield result


def _read(path: Path, study_id: str | None = None) -> Result | None:
    try:
        result = Result.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # Where two ids came to one name, the file is of the other one.
    return result if study_id in (None, result.study_id) else None
