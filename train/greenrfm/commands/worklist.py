"""Reading many studies: what is finished is kept, what is missing is read, and the worklist shows all of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import greenrfm
from greenrfm.bundle import Bundle
from greenrfm.commands.answer import Misses
from greenrfm.commands.scan import readable
from greenrfm.commands.sources import Found
from greenrfm.commands.study import Options, StudyReader, now, report_path
from greenrfm.errors import UserError
from greenrfm.files import write_text
from greenrfm.progress import Progress
from greenrfm.reading import Reader
from greenrfm.reading.reading import notice
from greenrfm.results.folder import ResultFolder
from greenrfm.results.priors import Prior, find_priors
from greenrfm.results.result import Result
from greenrfm.results.study_page import study_page
from greenrfm.results.tables import write_calls, write_scores
from greenrfm.results.urgency import Urgency
from greenrfm.results.worklist import Missing, Worklist, worklist_page, write_worklist

# While reading, the page is written anew this often, and never for more than a twentieth of the time.
REFRESH_S, REFRESH_SHARE = 30.0, 20.0


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
        if self.folder is not None:
            self.folder.check_names(scan.study_id for scan in self.found.scans)
            if not self.options.patients:
                self.folder.forget_patients()
        studies = StudyReader(self.reader, self.options, self.urgency, self.misses, self.folder)
        written = time.monotonic()
        cost = 0.0
        for number, scan in enumerate(self.found.scans, start=1):
            try:
                result = studies.result(scan)
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
            made=f"Bundle {manifest.name} ({self.bundle.hash[:12]}), greenrfm {greenrfm.__version__}, {now()}.",
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
