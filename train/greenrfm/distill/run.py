"""A run over a cohort: bounded, resumable, within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock

from greenrfm.distill.cost import Meter, Spent, lacking
from greenrfm.distill.evidence import Evidence, Labeler, Labelled, Unlabelled, Usage
from greenrfm.distill.journal import Journal
from greenrfm.distill.journal_lines import Entry, Header
from greenrfm.distill.labels_out import Outputs, write_outputs
from greenrfm.distill.overrides import Overrides, report_digest
from greenrfm.distill.parallel import in_parallel
from greenrfm.errors import UserError
from greenrfm.findings import FindingSet, State
from greenrfm.progress import Progress, silent

STAGE = "label reports"


@dataclass(frozen=True)
class Summary:
    """What a run left: its outputs, the usage of all runs on this journal and its cost (None without a price).

    `over_budget` tells that studies are unfinished because the budget is spent.
    """

    outputs: Outputs
    usage: Usage
    cost: float | None
    over_budget: bool


def distill_reports(
    labeler: Labeler,
    studies: Sequence[tuple[str, str]],
    journal: Journal,
    *,
    workers: int = 1,
    progress: Progress = silent,
    retry_failed: bool = True,
    meter: Meter | None = None,
    overrides: Overrides | None = None,
    form: str = "",
    stop: Callable[[], None] | None = None,
) -> Summary:
    """Label what the journal has not labelled yet, and write labels, evidence and failures from it.

    The outputs do not depend on the number of workers, nor on how often the run was stopped. They are
    written at every end: of the work, of the budget, by an error or by Ctrl-C. An empty report mentions
    nothing and is shown to no labeler. What failed in earlier runs comes last: it may fail again.

    Parameters
    ----------
    labeler
        Called from `workers` threads at once.
    studies
        (study_id, report) of each study, every id once.
    journal
        Open, see `Journal`.
    progress
        Called after each study, with reports/s, failed, tokens and cost where there are any.
    retry_failed
        Whether studies that failed in an earlier run are tried again.
    meter
        Holds price and budget. Where the labeler counts on it too, no request begins once the runs on
        this journal have cost the budget, and only requests under way (at most `workers`) still cost
        something; a labeler that does not is asked for no further report. Requests for no report, or
        for one that has no entry in the end, are kept in the journal too.
    overrides
        What people decided; it goes before the labeler's word.
    form
        Of a server's answers, kept in the journal for the next run.
    stop
        Called once no further label is wanted, so that what waits for a server stops waiting.

    Raises UserError where the labeler does, after the outputs are written; and if the journal was begun
    with another labeler, model, version or finding set.

    """
    if len({study for study, _ in studies}) < len(studies):
        raise UserError("a study id occurs twice; keep one row per study")
    journal.begin(Header.of(labeler, form))
    run = _Run(labeler, studies, journal, retry_failed, meter or Meter())
    try:
        run.label(workers, progress, stop or (lambda: None))
    finally:
        run.keep_usage()
        outputs = write_outputs(journal, labeler.finding_set, studies, overrides or Overrides())
    if run.error is not None:
        raise UserError(f"{run.error} ({outputs.labelled} of {len(studies)} studies are labelled and kept)")
    return Summary(outputs, journal.usage, run.meter.cost, run.is_over_budget)


class _Run:
    def __init__(
        self,
        labeler: Labeler,
        studies: Sequence[tuple[str, str]],
        journal: Journal,
        retry_failed: bool,
        meter: Meter,
    ) -> None:
        self.meter = meter
        self.error: UserError | None = None
        self.is_over_budget = False
        self._labeler = labeler
        self._studies = studies
        self._journal = journal
        self._retry_failed = retry_failed
        meter.at_least(journal.usage)
        self.keep_usage()  # of finding out the form
        # Counted where it arises: the journal's own count lags behind the workers.
        self._usage, self._counting = journal.usage, Lock()

    def label(self, workers: int, progress: Progress, stop: Callable[[], None]) -> None:
        """Label every study that is to do, or until an error or the end of the budget; fill the journal."""
        studies = self._to_do()
        to_do = len(studies)
        total, began = len(self._studies), time.monotonic()
        new = failed = 0
        progress(STAGE, total - to_do, total)
        try:
            for result in in_parallel(self._work, studies, workers):
                if self.error is not None:
                    stop()  # answers that are under way are still kept
                if result is not None:
                    self._journal.append(result)
                    new += 1
                    failed += bool(result.failed)
                    metrics = self._metrics(new / max(time.monotonic() - began, 1e-9), failed)
                    progress(STAGE, total - to_do + new, total, metrics)
        finally:
            stop()

    def keep_usage(self) -> None:
        """Write what was used for no entry into the journal, as an entry of no study."""
        rest = lacking(self._journal.usage, self.meter.usage)
        if rest != Usage():
            self._journal.append(Entry("", "", _today(), {}, rest, "requests of no labelled report"))

    def _to_do(self) -> list[tuple[str, str]]:
        new, again = [], []
        for study, report in self._studies:
            digest = report_digest(report)
            if self._journal.lacks(study, digest, or_failed=False):
                new.append((study, report))
            elif self._retry_failed and self._journal.lacks(study, digest, or_failed=True):
                again.append((study, report))
        return new + again

    def _work(self, study: tuple[str, str]) -> Entry | None:
        """Return the study's entry, or None if the run has ended or ends with this study's error."""
        if self.error is not None:
            return None
        study_id, report = study
        try:
            self.meter.check()
            labelled = self._labeler.label(report) if report.strip() else Labelled({})
            found, usage, failed = mentioned(labelled, self._labeler.finding_set, report), labelled.usage, ""
        except Spent:
            self.is_over_budget = True
            return None
        except UserError as error:
            self.error = self.error or error
            return None
        except Unlabelled as error:
            found, usage, failed = {}, error.usage, " ".join(str(error).split()) or "no reason given"
        except Exception as error:
            # One report must not end the run of all; never its words, which an error may quote.
            found, usage, failed = {}, Usage(), f"the labeler broke down ({type(error).__name__})"
        with self._counting:
            self._usage += usage
            self.meter.at_least(self._usage)
        return Entry(study_id, report_digest(report), _today(), found, usage, failed)

    def _metrics(self, rate: float, failed: int) -> dict[str, float]:
        usage = self.meter.usage
        metrics = {"reports/s": rate, "failed": failed, "tokens": usage.prompt_tokens + usage.completion_tokens}
        if (cost := self.meter.cost) is not None:
            metrics["cost"] = cost
        return {name: value for name, value in metrics.items() if value}


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def mentioned(labelled: Labelled, finding_set: FindingSet, report: str) -> dict[str, Evidence]:
    """Return the findings that the report mentions or that were voted on, in the set's order.

    Raises Unlabelled if the labeler says nothing of a finding, or names a place that is not in the report.
    """
    found = {}
    if report.strip() and set(labelled.findings) != set(finding_set.keys):
        raise Unlabelled("the labeler did not answer every finding of the set", labelled.usage)
    for key in finding_set.keys:
        evidence = labelled.findings.get(key)
        if evidence is None or (evidence.state is State.NOT_MENTIONED and not evidence.votes):
            continue
        if evidence.state is not State.NOT_MENTIONED and not 0 <= evidence.start < evidence.end <= len(report):
            raise Unlabelled("the labeler gave evidence that is not in the report", labelled.usage)
        found[key] = evidence
    return found
