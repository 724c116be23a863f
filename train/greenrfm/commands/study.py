"""Reading one study: what an earlier run kept of it, or a reading now with its maps, report and audit record."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime

import greenrfm
from greenrfm.bundle import Bundle
from greenrfm.commands.answer import Misses
from greenrfm.commands.scan import Scan, read_one, readable
from greenrfm.errors import UserError
from greenrfm.reading import Field, Reader, Reading, calibrated_field, coarse_volume
from greenrfm.reading.features import Features
from greenrfm.results.folder import ResultFolder, file_name, reading_key
from greenrfm.results.pictures import heat_picture
from greenrfm.results.result import Result, Score
from greenrfm.results.urgency import Urgency
from greenrfm.volumes import Volume, write_volume
from greenrfm.volumes.facts import image_facts

# Heat maps of a study that get a picture: those a radiologist looks at first.
PICTURES = 4
QUERY = "text"  # the key of the map of a free text


@dataclass(frozen=True)
class Options:
    """How studies are read and what is written of them; `zero_shot`, `overrule` and `query` as the Reader has them."""

    field: Field | None = None
    heatmaps: Path | None = None
    reports: Path | None = None
    zero_shot: bool = False
    overrule: bool = False
    query: str = ""
    patients: bool = True

    def changing(self, bundle: Bundle) -> dict[str, Any]:
        """Return what decides what a reading with this bundle says: the field, and the options that were set."""
        names = [name for name in ("zero_shot", "overrule") if getattr(self, name)]
        return {"field": self.field or calibrated_field(bundle), **dict.fromkeys(names, True)}


@dataclass
class StudyReader:
    """Reads studies as the `options` say; with a `folder` it keeps them, and reads none that is kept."""

    reader: Reader
    options: Options
    urgency: Urgency
    misses: Misses
    folder: ResultFolder | None = None

    @property
    def bundle(self) -> Bundle:
        """Return the bundle that reads."""
        return self.reader.bundle

    def result(self, scan: Scan) -> Result:
        """Return the scan's result, kept or read now. Raises UserError if it cannot be read."""
        try:
            key = self._key(scan)
        except UserError:
            self._audit(scan, "", time.monotonic(), None)
            raise
        kept = self.folder.load(scan.study_id) if self.folder else None
        if kept is not None and kept.key == key and self._has_heat_maps(kept):
            result = replace(kept, patient_id=scan.patient_id, study_date=scan.study_date)
            if self.folder is not None and self._stored(result) != kept:
                self.folder.save(self._stored(result))
        else:
            result = self._read(scan, key)
        if self.options.reports is not None:
            self._write_report(scan, result, self.options.reports)
        return result

    def _read(self, scan: Scan, key: str) -> Result:
        options, began = self.options, time.monotonic()
        try:
            volume, reading = read_one(
                self.reader,
                scan,
                field=options.field,
                heatmaps=options.heatmaps is not None,
                features=bool(options.query) and options.heatmaps is not None,
                zero_shot=options.zero_shot,
                overrule=options.overrule,
            )
            result = _result_of(scan, reading, volume, key, self._changing)
            if result.withheld:
                self._remove_heat_maps(result)
            elif options.heatmaps is not None:
                result = self._write_heat_maps(volume, reading, result, options.heatmaps)
        except UserError:
            self._audit(scan, key, began, None)
            raise
        # First the record, then the reading: none is ever kept without a record.
        self._audit(scan, key, began, result)
        if self.folder is not None:
            self.folder.save(self._stored(result))
        return result

    def _write_heat_maps(self, volume: Volume, reading: Reading, result: Result, root: Path) -> Result:
        """Write all maps as volumes and the most urgent findings' ones as pictures; return the result with them."""
        planes = dict(reading.plane_heatmaps) or ({"": reading.heatmaps} if reading.heatmaps else {})
        if not planes:
            return result
        folder = root / file_name(result.study_id)
        for stale in folder.rglob("*.nii.gz"):
            stale.unlink()
        for plane, maps in planes.items():
            for key in maps.keys:
                write_volume(coarse_volume(maps, key), folder / plane / f"{key}.nii.gz")
        first = next(iter(planes.values()))
        shown = [(score.key, first) for score in self.urgency.ordered(result)[:PICTURES]]
        for plane, features in self._features(reading).items():
            asked = self.reader.text_heatmap(self.options.query, features)
            write_volume(coarse_volume(asked, QUERY), folder / plane / f"{QUERY}.nii.gz")
            if QUERY not in dict(shown):
                shown.append((QUERY, asked))
        if self.folder is not None:
            for key, maps in shown:
                picture = heat_picture(volume, maps, key, self.bundle.preprocessing)
                self.folder.save_picture(result.study_id, key, picture)
        return replace(
            result,
            pictures=tuple(key for key, _ in shown),
            cell_mm=first.cell_size_mm,
            options={**result.options, **self._asked()},
        )

    def _remove_heat_maps(self, result: Result) -> None:
        """Remove what a reading left whose scores somebody overruled, or an earlier bundle did not withhold."""
        if self.options.heatmaps is not None:
            shutil.rmtree(self.options.heatmaps / file_name(result.study_id), ignore_errors=True)
        if self.folder is not None:
            self.folder.remove_pictures(result.study_id)

    def _features(self, reading: Reading) -> dict[str, Features]:
        """Return each plane's feature map if there is a text to look for in it."""
        if not self.options.query:
            return {}
        return dict(reading.plane_features) or ({"": reading.features} if reading.features else {})

    def _write_report(self, scan: Scan, result: Result, folder: Path) -> None:
        from greenrfm.results.structured_report import write_structured_report

        path = report_path(folder, scan.study_id)
        try:
            write_structured_report(result, self.bundle, _images(scan), path)
        except UserError as error:
            self.misses.note(error)

    def _audit(self, scan: Scan, key: str, began: float, result: Result | None) -> None:
        if self.folder is None:
            return
        checks = result.reading.get("checks", ()) if result is not None else ()
        self.folder.audit.add(
            {
                "time": now(),
                "study": scan.study_id,
                "series": result.series_uid if result else scan.series_uid,
                "outcome": "unreadable" if result is None else "withheld" if result.withheld else "read",
                "bundle": self.bundle.hash,
                "bundle_name": self.bundle.manifest.name,
                "greenrfm": greenrfm.__version__,
                "onnxruntime": onnxruntime.__version__,
                "options": {
                    **self._changing,
                    **self._asked(),
                    **({"sequence": scan.sequence} if scan.sequence else {}),
                },
                "warnings": [check["code"] for check in checks],
                "seconds": round(time.monotonic() - began, 3),
                "key": key,
            }
        )

    @property
    def _changing(self) -> dict[str, Any]:
        changing = self.options.changing(self.bundle)
        return changing | {"half": True} if self.reader.half else changing

    def _asked(self) -> dict[str, Any]:
        # Whether there was a query, not its words: they may describe the patient.
        return {"query": True} if self.options.query else {}

    def _key(self, scan: Scan) -> str:
        return reading_key(
            study=scan.study_id,
            # Which image is which matters: two sequences that changed places are another study.
            sources=[
                *([_facts(scan.image)] if scan.image is not None else []),
                *([name, _facts(path)] for name, path in sorted(scan.images.items())),
            ],
            series=scan.series_uid,
            modality=scan.modality,
            sequence=scan.sequence,
            bundle=self.bundle.hash,
            software=greenrfm.__version__,
            options=self._changing,
            query=self.options.query if self.options.heatmaps is not None else "",
        )

    def _stored(self, result: Result) -> Result:
        return result if self.options.patients else replace(result, patient_id="")

    def _has_heat_maps(self, result: Result) -> bool:
        if self.options.heatmaps is None or result.withheld:
            return True
        folder = self.options.heatmaps / file_name(result.study_id)
        wanted = [*(score.key for score in result.scores), *([QUERY] if self.options.query else [])]
        return bool(result.pictures) and all(any(folder.rglob(f"{key}.nii.gz")) for key in wanted)


def report_path(folder: Path, study_id: str) -> Path:
    """Return where the structured report of a study goes."""
    return folder / f"{file_name(study_id)}.dcm"


def _result_of(scan: Scan, reading: Reading, volume: Volume, key: str, options: dict[str, Any]) -> Result:
    scores = [
        Score(each.key, each.name, each.probability, each.call, each.threshold, each.absent_below)
        for each in (() if reading.withheld else reading.scores)
    ]
    return Result(
        key=key,
        study_id=scan.study_id,
        patient_id=scan.patient_id,
        study_date=scan.study_date,
        series_uid=volume.series_uid or scan.series_uid,
        source=", ".join(readable(path) for path in _images(scan)),
        read_at=now(),
        software=greenrfm.__version__,
        scores=tuple(scores),
        reading=reading.to_dict(),
        options=options,
    )


def _images(scan: Scan) -> list[Path]:
    """Return all images that the study may be read from, each once."""
    return sorted({path for path in (scan.image, *scan.images.values()) if path is not None})


def _facts(image: Path) -> str:
    try:
        return image_facts(image).key
    except OSError as error:
        raise UserError(f"image {image} cannot be read ({error.strerror}); check its permissions") from error


def now() -> str:
    """Return the time of day in UTC as results and records have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
