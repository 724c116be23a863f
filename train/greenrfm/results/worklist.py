"""The worklist as a table for spreadsheets and as a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from greenrfm.results.page import call, change_summary, page
from greenrfm.results.priors import Prior
from greenrfm.results.result import Result, Score
from greenrfm.results.tables import guarded, write_table
from greenrfm.results.urgency import Urgency

SHOWN = 4  # findings in a row


@dataclass(frozen=True)
class Missing:
    """A study without a reading: it could not be read, or its turn has not come."""

    study_id: str
    patient_id: str = ""
    study_date: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Worklist:
    """Everything that a worklist shows, none of it dropped.

    `link` gives a study's file by suffix (".html", ".json", ".dcm") relative to the page, or "". `skipped` holds
    sentences on images that were found but are nothing to read. Without `patients` no patient id is shown.
    """

    results: Sequence[Result]
    priors: Mapping[str, Prior]
    urgency: Urgency
    names: Mapping[str, str]
    bundle: str
    made: str
    notice: str
    link: Callable[[str, str], str]
    unreadable: Sequence[Missing] = ()
    waiting: Sequence[Missing] = ()
    skipped: Sequence[str] = field(default=())
    patients: bool = True

    @property
    def ranked(self) -> list[Result]:
        """Return the studies that have scores, the most urgent first."""
        return self.urgency.sort(result for result in self.results if not result.withheld)

    @property
    def withheld(self) -> list[Result]:
        """Return the studies whose scores are withheld, by id."""
        return sorted((result for result in self.results if result.withheld), key=lambda result: result.study_id)


def write_worklist(worklist: Worklist, path: Path) -> None:
    """Write worklist.csv, for people and their spreadsheets: ids that would be formulas get an apostrophe."""
    header = [
        "rank", "group", "study_id", *(["patient_id"] if worklist.patients else []), "study_date", "urgency",
        "findings", "warnings", "prior_study", "prior_date", "change", "page", "reading", "structured_report",
    ]  # fmt: skip
    rows = []
    for rank, result in enumerate(worklist.ranked, start=1):
        is_urgent, urgency = worklist.urgency.value(result)
        rows.append(_row(worklist, result, str(rank), "urgent" if is_urgent else "read", f"{urgency:.4f}"))
    rows += [_row(worklist, result, "", "withheld", "") for result in worklist.withheld]
    for group, studies in (("unreadable", worklist.unreadable), ("not read yet", worklist.waiting)):
        for study in studies:
            ids = [study.study_id, *([study.patient_id] if worklist.patients else []), study.study_date]
            rows.append(["", group, *ids, "", "", study.reason, "", "", "", "", "", ""])
    number = header.index("urgency")  # it may be negative
    write_table(
        path,
        header,
        [[cell if column == number else guarded(cell) for column, cell in enumerate(row)] for row in rows],
    )


def worklist_page(worklist: Worklist) -> str:
    """Return index.html."""
    ranked, withheld = worklist.ranked, worklist.withheld
    counts = [
        f"{len(ranked)} studies read",
        f"{len(withheld)} with scores withheld" if withheld else "",
        f"{len(worklist.unreadable)} not readable" if worklist.unreadable else "",
        f"{len(worklist.waiting)} not read yet" if worklist.waiting else "",
    ]
    parts = [
        f'<p class="facts">{", ".join(count for count in counts if count)}. {escape(worklist.made)}</p>',
        _group("Could not be read: no model has seen these", worklist.unreadable, worklist.patients),
    ]
    if withheld:
        rows = "\n".join(
            f"<tr><td>{_study(worklist, result)}</td>{_who(result, worklist.patients)}"
            f"<td>{escape(result.withheld)}</td></tr>"
            for result in withheld
        )
        head = _head("study", *(["patient"] if worklist.patients else []), "date", "why the scores are withheld")
        parts.append(f"<h2>Scores withheld ({len(withheld)})</h2>\n<table>{head}{rows}</table>")
    parts.append(f'<h2>By urgency ({len(ranked)})</h2>\n<p class="rule">{escape(_rule(worklist))}</p>')
    head = _head(
        "", "study", *(["patient"] if worklist.patients else []), "date", "urgency", "findings", "warnings",
        "change since the prior study",
    )  # fmt: skip
    rows = "\n".join(_ranked_row(worklist, rank, result) for rank, result in enumerate(ranked, start=1))
    parts.append(f"<table>{head}{rows}</table>")
    parts.append(_group("Not read yet", worklist.waiting, worklist.patients))
    if worklist.skipped:
        items = "".join(f"<li>{escape(text)}</li>" for text in worklist.skipped)
        parts.append(
            f"<details><summary>Skipped: {len(worklist.skipped)} found but nothing to read</summary>"
            f"<ul>{items}</ul></details>"
        )
    return page("Worklist", worklist.notice, "\n".join(part for part in parts if part))


def _rule(worklist: Worklist) -> str:
    return worklist.urgency.rule(worklist.names)


def _row(worklist: Worklist, result: Result, rank: str, group: str, urgency: str) -> list[str]:
    prior = worklist.priors.get(result.study_id)
    findings = [f"{score.name} {score.probability:.3f} {score.call}" for score in _shown(worklist, result)]
    changes = [
        f"{change.name} {change.difference:+.3f} ({change.call_before} → {change.call_after})"
        for change in (prior.changes if prior else ())
        if change.is_new_call
    ]
    return [
        rank,
        group,
        result.study_id,
        *([result.patient_id] if worklist.patients else []),
        result.study_date,
        urgency,
        "; ".join(findings),
        "; ".join(dict.fromkeys([*([result.withheld] if result.withheld else []), *result.warnings])),
        prior.study_id if prior else "",
        prior.study_date if prior else "",
        f"not compared: {prior.reason}" if prior and prior.reason else "; ".join(changes),
        *(worklist.link(result.study_id, suffix) for suffix in (".html", ".json", ".dcm")),
    ]


def _ranked_row(worklist: Worklist, rank: int, result: Result) -> str:
    is_urgent, urgency = worklist.urgency.value(result)
    findings = "<br>".join(call(score) for score in _shown(worklist, result))
    more = sum(score.call == "present" for score in worklist.urgency.ordered(result)[SHOWN:])
    findings += f'<br><span class="small">and {more} more present</span>' if more else ""
    warnings = "<br>".join(escape(text) for text in result.warnings)
    opening = '<tr class="urgent">' if is_urgent else "<tr>"
    return (
        f'{opening}<td class="number">{rank}</td><td>{_study(worklist, result)}</td>'
        f'{_who(result, worklist.patients)}<td class="number">{urgency:+.2f}</td><td>{findings}</td>'
        f'<td class="warning small">{warnings}</td>'
        f"<td>{change_summary(worklist.priors.get(result.study_id))}</td></tr>"
    )


def _shown(worklist: Worklist, result: Result) -> list[Score]:
    """Return the findings of a row: those called present or indeterminate, at least the most urgent one."""
    ordered = worklist.urgency.ordered(result)
    told = [score for score in ordered if score.call != "absent"]
    return (told or ordered[:1])[:SHOWN]


def _study(worklist: Worklist, result: Result) -> str:
    links = {suffix: worklist.link(result.study_id, suffix) for suffix in (".html", ".json", ".dcm")}
    name = escape(result.study_id)
    shown = f'<a href="{escape(quote(links[".html"]))}">{name}</a>' if links[".html"] else name
    others = [
        f'<a href="{escape(quote(links[suffix]))}">{word}</a>'
        for suffix, word in ((".json", "JSON"), (".dcm", "DICOM SR"))
        if links[suffix]
    ]
    return f'{shown}<br><span class="small">{" ".join(others)}</span>' if others else shown


def _who(study: Result | Missing, patients: bool) -> str:
    patient = f"<td>{escape(study.patient_id)}</td>" if patients else ""
    return f'{patient}<td class="date">{escape(study.study_date)}</td>'


def _group(title: str, studies: Sequence[Missing], patients: bool) -> str:
    if not studies:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape(study.study_id)}</td>{_who(study, patients)}<td>{escape(study.reason)}</td></tr>"
        for study in studies
    )
    head = _head("study", *(["patient"] if patients else []), "date", "")
    return f"<h2>{escape(title)} ({len(studies)})</h2>\n<table>{head}{rows}</table>"


def _head(*names: str) -> str:
    return f"<thead><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr></thead>\n"
