"""Reading many studies: what is finished is kept, what is missing is read, and the worklist shows all of them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime

import greenrfm
from greenrfm.bundle import Bundle
from greenrfm.commands.answer import Misses
from greenrfm.commands.scan import Scan, read_one, readable
from greenrfm.commands.sources import Found
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.progress import Progress
from greenrfm.reading import Field, Reader, Reading, calibrated_field, coarse_volume
from greenrfm.reading.features import Features
from greenrfm.reading.reading import notice
from greenrfm.results.folder import ResultFolder, file_name, reading_key
from greenrfm.results.pictures import heat_picture
from greenrfm.results.priors import Prior, find_priors
from greenrfm.results.result import Result, Score
from greenrfm.results.study_page import study_page
from greenrfm.results.tables import write_calls, write_scores
from greenrfm.results.urgency import Urgency
from greenrfm.results.worklist import Missing, Worklist, worklist_page, write_worklist
from greenrfm.volumes import Volume, write_volume
from greenrfm.volumes.facts import image_facts

# Heat maps of a study that get a picture: those a radiologist looks at first.
PICTURES = 4
QUERY = "text"  # the key of the map of a free text
# While reading, the page is written anew this often, and never for more than a twentieth of the time.
REFRESH_S, REFRESH_SHARE = 30.0, 20.0


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
class Session:
    """One run over what was `found`; with a `folder` it goes on where an earlier one stopped."""

    reader: Reader
    found: Found
    options: Options
    urgency: Urgency
    misses: Misses
    folder: ResultFolder | None = None
    earlier: Sequence[Result] = ()
    results: dict[str, Result] = field(default_factory=dict)
    unreadable: dict[str, Missing] = field(default_factory=dict)

    @property
    def bundle(self) -> Bundle:
        """Return the bundle that reads."""
        return self.reader.bundle

    def run(self, progress: Progress) -> Iterator[Result]:
        """Read what is missing, yield each result in the order of the scans, and keep the worklist fresh."""
        progress("read", 0, len(self.found.scans))
        written = time.monotonic()
        cost = 0.0
        for number, scan in enumerate(self.found.scans, start=1):
            try:
                result = self._result(scan)
            except UserError as error:
                self.misses.note(error)
                self.unreadable[scan.study_id] = Missing(
                    scan.study_id, scan.patient_id, scan.study_date, readable(error)
                )
            else:
                self.results[scan.study_id] = result
                yield result
                progress("read", number, len(self.found.scans))
            now = time.monotonic()
            if self.folder is not None and now - written > max(REFRESH_S, REFRESH_SHARE * cost):
                self.write()
                written = time.monotonic()
                cost = written - now

    @property
    def priors(self) -> dict[str, Prior]:
        """Return the prior study of each study that has one."""
        return find_priors(self.results.values(), self.earlier)

    def prior(self, result: Result) -> Prior | None:
        """Return the prior study of one that has been read, among those read so far."""
        if not result.patient_id:
            return None
        same = [each for each in self.results.values() if each.patient_id == result.patient_id]
        return find_priors(same, self.earlier).get(result.study_id)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return what --json prints: the readings, each with its prior study and, where known, date and series."""
        priors = self.priors
        return [self._entry(result, priors.get(result.study_id)) for result in self.results.values()]

    def write(self) -> None:
        """Write tables and pages of everything read so far."""
        folder = self.folder
        if folder is None:
            return
        done, priors = list(self.results.values()), self.priors
        patients = self.options.patients
        write_text(folder.root / "readings.json", _json(self.to_dicts()))
        write_scores(done, self.bundle.findings.keys, folder.root / "scores.csv", patients=patients)
        write_calls(done, folder.root / "calls.csv")
        worklist = self._worklist(done, priors)
        for result in done:
            page = study_page(
                result,
                priors.get(result.study_id),
                _pictures(folder, result),
                bundle=self.bundle.manifest.name,
                patients=patients,
                back="../index.html",
            )
            folder.write_page(result.study_id, page)
        write_worklist(worklist, folder.root / "worklist.csv")
        write_text(folder.root / "index.html", worklist_page(worklist))

    def _result(self, scan: Scan) -> Result:
        """Return the scan's result, kept or read now. Raises UserError if it cannot be read."""
        key = self._key(scan)
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
                "time": _now(),
                "study": scan.study_id,
                "series": result.series_uid if result else scan.series_uid,
                "outcome": "unreadable" if result is None else "withheld" if result.withheld else "read",
                "bundle": self.bundle.hash,
                "bundle_name": self.bundle.manifest.name,
                "greenrfm": greenrfm.__version__,
                "onnxruntime": onnxruntime.__version__,
                "options": {**self._changing, **self._asked()},
                "warnings": [check["code"] for check in checks],
                "seconds": round(time.monotonic() - began, 3),
                "key": key,
            }
        )

    @property
    def _changing(self) -> dict[str, Any]:
        return self.options.changing(self.bundle)

    def _asked(self) -> dict[str, Any]:
        # Whether there was a query, not its words: they may describe the patient.
        return {"query": True} if self.options.query else {}

    def _key(self, scan: Scan) -> str:
        return reading_key(
            study=scan.study_id,
            sources=[_facts(path) for path in _images(scan)],
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

    def _entry(self, result: Result, prior: Prior | None) -> dict[str, Any]:
        known = {"study_date": result.study_date, "series_uid": result.series_uid}
        return {
            **result.reading,
            **{name: value for name, value in known.items() if value},
            "prior": prior.to_dict() if prior else None,
        }

    def _worklist(self, done: Sequence[Result], priors: dict[str, Prior]) -> Worklist:
        manifest = self.bundle.manifest
        waiting = [
            Missing(scan.study_id, scan.patient_id, scan.study_date)
            for scan in self.found.scans
            if scan.study_id not in self.results and scan.study_id not in self.unreadable
        ]
        return Worklist(
            results=done,
            priors=priors,
            urgency=self.urgency,
            names={finding.key: finding.name for finding in self.bundle.findings.findings},
            bundle=manifest.name,
            made=f"Bundle {manifest.name} ({self.bundle.hash[:12]}), greenrfm {greenrfm.__version__}, {_now()}.",
            notice=notice(manifest.intended_use, manifest.calibrated),
            link=self._link,
            unreadable=list(self.unreadable.values()),
            waiting=waiting,
            skipped=[*self.found.skipped, *self.found.damaged],
            patients=self.options.patients,
        )

    def _link(self, study_id: str, suffix: str) -> str:
        folder, reports = self.folder, self.options.reports
        if folder is None:
            return ""
        if suffix != ".dcm":
            return folder.link(study_id, suffix)
        path = report_path(reports, study_id) if reports is not None else None
        return os.path.relpath(path, folder.root) if path is not None and path.is_file() else ""


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
        read_at=_now(),
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


def _pictures(folder: ResultFolder, result: Result) -> dict[str, bytes]:
    pictures = {}
    for key in result.pictures:
        try:
            pictures[key] = folder.picture(result, key)
        except OSError:
            continue  # somebody removed it: the page shows the others
    return pictures


def _json(value: Iterable[Any]) -> str:
    return json.dumps(list(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
