"""cohort.csv: one row per study, with its patient, images, report and split (DESIGN.md, "cohort.csv")."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.findings.sets import nearest

SPLITS = ("train", "validation", "test")
_REQUIRED = ("study_id", "patient_id")
_REPORT = ("report", "findings", "impression")
# Kept in `Study.extra` and written back as they are.
_CARRIED = ("study_date", "series_uid", "accession", "sex", "age", "institution")
_KNOWN = (*_REQUIRED, "image", *_REPORT, "split", "modality", *_CARRIED)
_IMAGE = re.compile(r"image(_[a-z0-9]+)*")
OWN_PREFIX = "x_"
# In characters; Python's own limit is 131,072, which a report with tables passes.
LONGEST_CELL = 1 << 24


@dataclass(frozen=True)
class Study:
    """One examination.

    `images` maps "image" or "image_<sequence>_<plane>" to a file or a DICOM folder; `report` is ""
    if there is none; `split` is "", "train", "validation" or "test"; `extra` holds the other columns.
    """

    study_id: str
    patient_id: str
    images: dict[str, Path] = field(default_factory=dict)
    report: str = ""
    split: str = ""
    modality: str = ""
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cohort:
    """The studies of the table at `path`, in its order.

    Raises
    ------
    UserError
        If a study id occurs twice, a split has an unknown name, or a patient is in two splits.
    """

    path: Path
    studies: tuple[Study, ...]

    def __post_init__(self) -> None:
        """Check what no step downstream may meet."""
        seen: set[str] = set()
        first: dict[str, Study] = {}  # of each patient's studies that have a split
        for study in self.studies:
            if study.study_id in seen:
                raise UserError(f"cohort {self.path} has study {study.study_id} twice; keep one row per study")
            seen.add(study.study_id)
            if study.split not in ("", *SPLITS):
                raise UserError(
                    f"cohort {self.path}, study {study.study_id}: split '{study.split}' is none of "
                    f"{', '.join(SPLITS)}{nearest(study.split, SPLITS)}"
                )
            other = first.setdefault(study.patient_id, study) if study.split else study
            if other.split != study.split:
                raise UserError(
                    f"cohort {self.path} has one patient in two splits: study {other.study_id} in {other.split}, "
                    f"study {study.study_id} in {study.split}; put all studies of a patient into one split"
                )

    def __len__(self) -> int:
        """Return the number of studies."""
        return len(self.studies)

    def __iter__(self) -> Iterator[Study]:
        """Iterate over the studies."""
        return iter(self.studies)

    def by_split(self, name: str) -> Cohort:
        """Return the cohort of the studies in this split; "" takes those without one."""
        return Cohort(self.path, tuple(study for study in self.studies if study.split == name))


def read_cohort(path: Path) -> Cohort:
    """Read cohort.csv (UTF-8, commas); image paths are relative to its folder.

    Raises UserError for a file that cannot be read, unknown, missing or repeated columns, rows of
    another length, empty ids, and whatever `Cohort` refuses.
    """
    path = Path(path)
    csv.field_size_limit(max(LONGEST_CELL, csv.field_size_limit()))
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            studies = []
            header: list[str] = []
            folder = path.resolve().parent
            # Study by study: all rows beside all reports would double the memory.
            for row in reader:
                line = reader.line_num  # a report spans several lines: rows are named by the one on which they end
                row = [cell.strip() for cell in row]
                if not any(row):
                    continue
                if header:
                    studies.append(_study(_cells(row, header, path, line), folder))
                else:
                    _check_header(row, path)
                    header = row
    except FileNotFoundError as error:
        raise UserError(f"cohort {path} does not exist; check the path") from error
    except csv.Error as error:
        raise UserError(
            f"cohort {path} cannot be read as a CSV after line {line} ({error}); is a quotation mark missing there?"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cohort {path} cannot be read as a CSV in UTF-8 ({type(error).__name__})") from error
    if not header:
        _check_header(header, path)
    if not studies:
        raise UserError(f"cohort {path} has no studies; add a row for each")
    return Cohort(path, tuple(studies))


def write_cohort(cohort: Cohort, path: Path) -> None:
    """Write the studies as cohort.csv in one step; images below its folder become relative paths."""
    path = Path(path)
    folder = path.resolve().parent
    images = _ordered(key for study in cohort for key in study.images)
    extra = _ordered(key for study in cohort for key in study.extra)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_REQUIRED, *images, "report", "split", "modality", *extra])
    for study in cohort:
        places = [_relative(study.images[key], folder) if key in study.images else "" for key in images]
        others = [study.extra.get(key, "") for key in extra]
        writer.writerow([study.study_id, study.patient_id, *places, study.report, study.split, study.modality, *others])
    write_text(path, text.getvalue())


def check_cohort(cohort: Cohort) -> list[str]:
    """Return a sentence for each thing that would stop or weaken training; images are not opened."""
    problems = []
    for study in cohort:
        if not study.images and not study.report:
            problems.append(f"study {study.study_id} has neither an image nor a report")
        for key, image in study.images.items():
            if not image.exists():
                problems.append(f"study {study.study_id}: {key} {image} does not exist")
            elif image.is_dir() and not any(image.iterdir()):
                problems.append(f"study {study.study_id}: {key} {image} is an empty folder")
    return problems


def _check_header(header: list[str], path: Path) -> None:
    for required in _REQUIRED:
        if required not in header:
            raise UserError(
                f"cohort {path} has no column '{required}'; its first line must name the columns, separated by commas"
            )
    for name in header:
        if header.count(name) > 1:
            raise UserError(f"cohort {path} has the column '{name}' twice; remove one")
        if name not in _KNOWN and not _IMAGE.fullmatch(name) and not name.startswith(OWN_PREFIX):
            raise UserError(
                f"cohort {path} has an unknown column '{name}'{nearest(name, _KNOWN)}; "
                f"your own columns begin with {OWN_PREFIX}"
            )


def _cells(row: list[str], header: list[str], path: Path, line: int) -> dict[str, str]:
    if len(row) != len(header):
        raise UserError(f"cohort {path}, line {line}: {len(row)} cells, the header has {len(header)}")
    cells = dict(zip(header, row, strict=True))
    for required in _REQUIRED:
        if not cells[required]:
            raise UserError(f"cohort {path}, line {line}: {required} is empty; every study needs one")
    return cells


def _study(cells: dict[str, str], folder: Path) -> Study:
    parts = [cells.get(name, "") for name in ("findings", "impression")]
    return Study(
        study_id=cells["study_id"],
        patient_id=cells["patient_id"],
        images={name: folder / cell for name, cell in cells.items() if _IMAGE.fullmatch(name) and cell},
        report=cells.get("report", "") or "\n".join(part for part in parts if part),
        split=cells.get("split", ""),
        modality=cells.get("modality", ""),
        extra={name: cell for name, cell in cells.items() if name in _CARRIED or name.startswith(OWN_PREFIX)},
    )


def _ordered(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(keys))


def _relative(image: Path, folder: Path) -> str:
    image = Path(os.path.abspath(image))
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)
