"""What lies in a folder to be read: files of volumes, and every DICOM series; and who the patient is."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError

from greenrfm.cohort import read_cohort
from greenrfm.commands.scan import Scan, readable, scans_at, scans_of
from greenrfm.errors import UserError
from greenrfm.progress import Progress, silent
from greenrfm.volumes import VOLUME_SUFFIXES
from greenrfm.volumes.dicom_series import Series
from greenrfm.volumes.dicom_series import scan as list_series

_WHO = ["PatientID", "StudyDate", "SeriesInstanceUID"]


@dataclass(frozen=True)
class Found:
    """What a folder holds: volumes to read, sentences on what is none, and on what is damaged."""

    scans: tuple[Scan, ...]
    skipped: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def find_sources(
    volumes: Sequence[Path],
    series_uid: str,
    cohort: Path | None,
    folder: Path | None,
    *,
    modality: str,
    outputs: Collection[Path],
    progress: Progress,
) -> Found:
    """Return what to read, of a cohort.csv, a folder or single volumes, with patients and dates."""
    if cohort is not None:
        found = Found(tuple(scans_of(read_cohort(cohort))))
    elif folder is not None:
        found = find_scans(folder, modality, leave_out=outputs, progress=progress)
    else:
        found = Found(tuple(scans_at(volumes, series_uid)))
    return replace(found, scans=tuple(with_header(scan) for scan in found.scans))


def find_scans(root: Path, modality: str, *, leave_out: Collection[Path] = (), progress: Progress = silent) -> Found:
    """Return the volumes in `root` and below: files by their suffix, and each DICOM series with two slices or more.

    A series of another modality than the bundle's is skipped and named. Hidden files and the folders `leave_out`
    (where results go) are passed over. Raises UserError if `root` is no folder or holds nothing at all.
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder; name the folder that holds the volumes")
    outputs = {path.absolute() for path in leave_out}
    folders = list(_folders(root, outputs))
    files: list[Path] = []
    series: list[tuple[Path, Series]] = []
    skipped: list[str] = []
    damaged: list[str] = []
    progress("look for volumes", 0, len(folders))
    for number, (folder, names) in enumerate(folders, start=1):
        paths = [folder / name for name in names]
        volumes = [path for path in paths if path.name.lower().endswith(VOLUME_SUFFIXES)]
        files += volumes
        try:
            found = list_series(path for path in paths if path not in volumes)
        except UserError as error:
            damaged.append(str(error))
            found = {}
        for one in found.values():
            reason = _unreadable(one, modality)
            if reason:
                skipped.append(f"{folder}, series {one.number or one.uid or 'without number'}: {reason}")
            else:
                series.append((folder, one))
        skipped += (
            f"{path}: a link to a folder is not followed"
            for path in sorted(folder.iterdir())
            if path.is_symlink() and path.is_dir() and not path.name.startswith(".")
        )
        progress("look for volumes", number, len(folders))
    scans = [*(scans_at(files) if files else []), *_series_scans(root, series)]
    if not scans and not skipped and not damaged:
        raise UserError(f"folder {root} holds no volume; name one with NIfTI, NRRD or MHA files or DICOM series")
    return Found(tuple(_told_apart(scans)), tuple(map(readable, skipped)), tuple(map(readable, damaged)))


def with_header(scan: Scan) -> Scan:
    """Return the scan with patient and date from its DICOM header, where the cohort names none."""
    day = _iso(scan.study_date)
    if scan.image is None or (scan.patient_id and day) or scan.image.name.lower().endswith(VOLUME_SUFFIXES):
        return replace(scan, study_date=day)
    header = _header(scan.image, scan.series_uid)
    if header is None:
        return replace(scan, study_date=day)
    patient = scan.patient_id or str(header.get("PatientID") or "").strip()
    return replace(scan, patient_id=patient, study_date=day or _iso(str(header.get("StudyDate") or "")))


def _folders(root: Path, leave_out: Collection[Path]) -> Iterator[tuple[Path, list[str]]]:
    for here, below, names in os.walk(root):
        folder = Path(here)
        below[:] = sorted(
            name for name in below if not name.startswith(".") and (folder / name).absolute() not in leave_out
        )
        # A pipe or a device would be waited for without end.
        yield folder, sorted(name for name in names if not name.startswith(".") and (folder / name).is_file())


def _unreadable(series: Series, modality: str) -> str:
    """Return why the series is nothing to read, or ""."""
    if series.modality and series.modality != modality:
        return f"it is {series.modality}, the bundle reads {modality}"
    if len(series.slices) < 2:
        return "it has no two slices with a place in the patient (a localizer, a picture, a dose report)"
    return ""


def _series_scans(root: Path, series: list[tuple[Path, Series]]) -> list[Scan]:
    """Return a scan for each series, called by its folder and, where that holds several, by its number."""
    folders = [folder for folder, _ in series]
    scans = []
    for folder, one in series:
        inside = folder.relative_to(root).parts
        name = "-".join(inside) or root.absolute().name
        if folders.count(folder) > 1:
            name += f"-series{one.number or one.uid.rpartition('.')[2]}"
        scans.append(Scan(readable(name), folder, one.uid, one.modality))
    return scans


def _told_apart(scans: list[Scan]) -> Iterator[Scan]:
    """Yield the scans; one whose name is taken gets a number behind it."""
    taken: set[str] = set()
    for scan in scans:
        name, number = scan.study_id, 1
        while name in taken:
            number += 1
            name = f"{scan.study_id}-{number}"
        taken.add(name)
        yield replace(scan, study_id=name)


def _header(image: Path, series_uid: str) -> pydicom.Dataset | None:
    """Return who was scanned and when, from the first file of the series that opens; None if none does."""
    try:
        files = sorted(path for path in (image.iterdir() if image.is_dir() else [image]) if path.is_file())
        files = files or sorted(path for path in image.rglob("*") if path.is_file())
    except OSError:
        return None
    for path in files:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_WHO)
        except (InvalidDicomError, OSError, ValueError, KeyError):
            continue  # reading the volume says what is wrong
        if series_uid in ("", str(header.get("SeriesInstanceUID", ""))):
            return header
    return None


def _iso(text: str) -> str:
    """Return a date as YYYY-MM-DD, "" if it is none."""
    try:
        return date.fromisoformat(text.strip()).isoformat()
    except ValueError:
        return ""
