"""The volumes a command reads: what to call them, and reading one after the other past those that cannot be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from greenrfm.bundle import Bundle
from greenrfm.cohort import Study, image_column
from greenrfm.commands.answer import Misses
from greenrfm.errors import UserError
from greenrfm.progress import Progress
from greenrfm.reading import Field, Reader, Reading
from greenrfm.reading.planes import as_plane
from greenrfm.volumes import VOLUME_SUFFIXES, Volume, read_volume


@dataclass(frozen=True)
class Scan:
    """One volume or MR study to read: `image` is a file or DICOM folder, None where the cohort names none.

    `images` are all columns of the cohort's row, of which a bundle of several planes takes those that it knows;
    `sequence` is what a single volume is, for such a bundle.
    """

    study_id: str
    image: Path | None
    series_uid: str = ""
    modality: str = ""
    patient_id: str = ""
    study_date: str = ""
    images: Mapping[str, Path] = field(default_factory=dict)
    sequence: str = ""

    def load(self) -> Volume:
        """Read the volume; the cohort says the modality where the file does not. Raises UserError."""
        if self.image is None:
            raise UserError(f"study {self.study_id} has no image; fill the cohort's column 'image'")
        return self._volume(self.image, self.series_uid)

    def load_for(self, bundle: Bundle) -> Volume | dict[tuple[str, str], Volume]:
        """Read what the bundle looks at: one volume, or the study's volumes by (sequence, plane). Raises UserError."""
        networks = bundle.manifest.networks
        columns = {(name, each.plane): image_column(name, each.plane) for each in networks for name in each.sequences}
        taken = {key: self.images[column] for key, column in columns.items() if column in self.images}
        if taken:
            return {key: self._volume(path) for key, path in taken.items()}
        if columns and self.image is None:
            raise UserError(f"study {self.study_id} has none of the images {', '.join(columns.values())}; fill one")
        volume = self.load()
        return as_plane(bundle, volume, self.sequence)[0] if columns and self.sequence else volume

    def _volume(self, path: Path, series_uid: str = "") -> Volume:
        volume = read_volume(path, series_uid or None)
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
            study.extra.get("study_date", ""),
            study.images,
        )
        for study in studies
    ]


def scans_at(paths: Sequence[Path], series_uid: str = "", sequence: str = "") -> list[Scan]:
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
    return [Scan(readable(name), path, series_uid, sequence=sequence) for name, path in zip(names, paths, strict=True)]


def readable(name: object) -> str:
    """Return a path or a name as text that a file can hold: bytes that are no text are spelled out in hex."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def read_each(
    reader: Reader,
    scans: Sequence[Scan],
    progress: Progress,
    misses: Misses,
    *,
    field: Field | None = None,
    heatmaps: bool = False,
) -> Iterator[tuple[Scan, Volume, Reading]]:
    """Yield each scan with its volume and reading; those that cannot be read are noted in `misses`."""
    progress("read", 0, len(scans))
    for number, scan in enumerate(scans, start=1):
        try:
            volume, reading = read_one(reader, scan, field=field, heatmaps=heatmaps)
        except UserError as error:
            misses.note(error)
        else:
            yield scan, volume, reading
            progress("read", number, len(scans))


def read_one(
    reader: Reader, scan: Scan, *, field: Field | None = None, heatmaps: bool = False, **more: Any
) -> tuple[Volume, Reading]:
    """Return a scan's volume (of an MR study the first) and reading; raise UserError, naming the scan, if it fails.

    `more` goes to `Reader.read`.
    """
    try:
        study = scan.load_for(reader.bundle)
        volume = study if isinstance(study, Volume) else next(iter(study.values()))
        return volume, reader.read(study, heatmaps=heatmaps, study_id=scan.study_id, field=field, **more)
    except UserError as error:
        known = str(scan.image) in str(error) or scan.study_id in str(error)
        raise error if known else UserError(f"{scan.image or f'study {scan.study_id}'}: {error}") from error


def open_reader(bundle: Path, threads: int | None = None) -> Reader:
    """Return a reader whose network is open, so that a faulty bundle is said once and not at every volume."""
    reader = Reader(Bundle.load(bundle), threads)
    reader.open()
    return reader


def _stem(path: Path) -> str:
    for suffix in sorted(VOLUME_SUFFIXES, key=len, reverse=True):
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    return path.name if path.is_dir() else path.stem or path.name
