"""The volumes a command reads: what to call them, and reading one after the other past those that cannot be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from greenrfm.bundle import Bundle
from greenrfm.cohort import Study
from greenrfm.commands.answer import Misses
from greenrfm.errors import UserError
from greenrfm.progress import Progress
from greenrfm.reading import Field, Reader, Reading
from greenrfm.volumes import VOLUME_SUFFIXES, Volume, read_volume


@dataclass(frozen=True)
class Scan:
    """One volume to read: `image` is a file or DICOM folder, None where the cohort names none."""

    study_id: str
    image: Path | None
    series_uid: str = ""
    modality: str = ""
    patient_id: str = ""

    def load(self) -> Volume:
        """Read the volume; the cohort says the modality where the file does not. Raises UserError."""
        if self.image is None:
            raise UserError(f"study {self.study_id} has no image; fill the cohort's column 'image'")
        volume = read_volume(self.image, self.series_uid or None)
        return volume if volume.modality else replace(volume, modality=self.modality)


def scans_of(studies: Iterable[Study]) -> list[Scan]:
    """Return a scan for each study of a cohort."""
    return [
        Scan(
            study.study_id,
            study.images.get("image"),
            study.extra.get("series_uid", ""),
            study.modality,
            study.patient_id,
        )
        for study in studies
    ]


def scans_at(paths: Sequence[Path], series_uid: str = "") -> list[Scan]:
    """Return a scan for each path, called by its stem, with as many folders before it as tell all apart.

    Raises UserError for a path that is given twice.
    """
    places = [path.absolute() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"{path} is given twice; name each volume once")
    parts = [(*place.parts[1:-1], _stem(place)) for place in places]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    else:  # scan.nii and scan.nrrd in one folder
        names = [path.name for path in paths]
    return [Scan(name, path, series_uid) for name, path in zip(names, paths, strict=True)]


def read_each(
    reader: Reader,
    scans: Sequence[Scan],
    progress: Progress,
    misses: Misses,
    *,
    field: Field = "padded",
    heatmaps: bool = False,
) -> Iterator[tuple[Scan, Volume, Reading]]:
    """Yield each scan with its volume and reading; those that cannot be read are noted in `misses`."""
    progress("read", 0, len(scans))
    for number, scan in enumerate(scans, start=1):
        try:
            volume = scan.load()
            reading = reader.read(volume, heatmaps=heatmaps, study_id=scan.study_id, field=field)
        except UserError as error:
            known = str(scan.image) in str(error) or scan.study_id in str(error)
            misses.note(error if known else f"{scan.image}: {error}")
        else:
            yield scan, volume, reading
            progress("read", number, len(scans))


def open_reader(bundle: Path, threads: int | None = None) -> Reader:
    """Return a reader whose network is open, so that a faulty bundle is said once and not at every volume."""
    loaded = Bundle.load(bundle)
    loaded.vision(threads)
    return Reader(loaded, threads)


def file_name(study_id: str) -> str:
    """Return the study's id as the name of a file; an id that no file system takes gets a hash behind it."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", study_id).lstrip(".")[:80].rstrip(".")
    if safe == study_id:
        return safe
    return f"{safe}-{hashlib.sha256(study_id.encode()).hexdigest()[:8]}".lstrip("-")


def _stem(path: Path) -> str:
    for suffix in sorted(VOLUME_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name if path.is_dir() else path.stem or path.name
