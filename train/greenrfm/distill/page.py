"""The review page: one file that needs no network and keeps nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from itertools import pairwise

from greenrfm.distill.evidence import RANK
from greenrfm.distill.overrides import Override, report_digest
from greenrfm.distill.review import Item, Selection
from greenrfm.distill.worth import Opinion, opinion_worth, rare_findings
from greenrfm.findings import FindingSet, State

SIGNS = {State.PRESENT: "+", State.ABSENT: "−", State.UNCERTAIN: "?", State.NOT_MENTIONED: "·"}
_BLANK = re.compile(r"\{\{(\w+)\}\}")
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def render_page(selection: Selection, finding_set: FindingSet, *, command: str, made: str) -> str:
    """Return the page as HTML.

    Everything that comes from reports, labels or the user's files is escaped, and the page's policy
    lets no other script or style run than its own (by hash) and nothing be loaded or sent.

    Parameters
    ----------
    selection
        The studies, best first.
    finding_set
        Names the findings.
    command
        What applies the decisions, as the user would type it.
    made
        One sentence on when and from what the page was made.

    """
    template = (resources.files("greenrfm.distill") / "data" / "review.html").read_text(encoding="utf-8")
    hashes: dict[str, str] = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in _INLINE.findall(template)
    }
    total = len(selection.items)
    studies = [_study(item, number, total, finding_set, selection) for number, item in enumerate(selection.items, 1)]
    blanks = {
        "policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
        + "; ".join(f"{kind}-src 'sha256-{digest}'" for kind, digest in sorted(hashes.items())),
        "title": escape(finding_set.title),
        "summary": _summary(selection),
        "made": escape(made),
        "command": escape(command),
        "studies": "\n".join(studies) or '<p class="note">There is nothing to review.</p>',
    }
    # In one pass: a report that holds a blank of the template must not be filled.
    return _BLANK.sub(lambda match: blanks[match[1]], template)


def _summary(selection: Selection) -> str:
    many = f"<b>{len(selection.items)}</b> of {_plural(selection.studies, 'study', 'studies')}"
    parts = [
        f"<b>{number}</b> {words}"
        for number, words in (
            (selection.stale, "decided on another wording of the report"),
            (selection.disputed, "on which the labelers contradict each other"),
            (selection.uncertain, "uncertain"),
        )
        if number
    ]
    text = f"{many}, those first at which a human look is worth most."
    text += f" Undecided findings in all: {', '.join(parts)}." if parts else " No finding is undecided."
    if selection.failed:
        text += f" <b>{selection.failed}</b> could not be labelled: label them by hand or distill again."
    if selection.unfinished:
        text += f" {_plural(selection.unfinished, 'study is', 'studies are')} not labelled yet."
    return text


def _study(item: Item, number: int, total: int, finding_set: FindingSet, selection: Selection) -> str:
    names = {finding.key: finding.name for finding in finding_set.findings}
    ordered = sorted(item.opinions, key=lambda each: _order(each, selection.present))
    silent = [each for each in ordered if _is_silent(each)]
    loud = [each for each in ordered if not _is_silent(each)]
    is_current = _is_current(item)
    rows = [_finding(each, names[each.key]) for each in loud]
    if item.failed:
        rows.append(
            '<p class="rest"><button type="button">The rest is not mentioned</button> '
            '<span class="note">A study by hand counts once every finding is decided.</span></p>'
        )
    if silent:
        inner = "\n".join(_finding(each, names[each.key]) for each in silent)
        rows.append(f"<details><summary>{len(silent)} not mentioned</summary>\n{inner}\n</details>")
    report = _marked(item.report, item.opinions, names) if is_current else escape(item.report)
    changed = "" if is_current else '<p class="note">The report has changed since it was labelled: distill again.</p>'
    return (
        f'<section class="study" data-study="{escape(item.study_id)}" data-report="{report_digest(item.report)}">\n'
        f'<div class="top"><h2>{escape(item.study_id)}</h2>{_why(item, names, selection)}'
        f'<span class="note place">{number} of {total}</span></div>{changed}\n'
        f'<div class="two"><div class="report" dir="auto">{report}</div>\n'
        f"<div>{''.join(rows)}</div></div>\n</section>"
    )


def _why(item: Item, names: Mapping[str, str], selection: Selection) -> str:
    worth = item.worth
    reasons = []
    if worth.stale:
        reasons.append(f"the report changed after {_plural(worth.stale, 'decision', 'decisions')}")
    if worth.disagreements:
        reasons.append(f"labelers disagree on {_plural(worth.disagreements, 'finding', 'findings')}")
    if worth.uncertain:
        reasons.append(f"{worth.uncertain} uncertain")
    if worth.failed:
        reasons.append(f"not labelled: {item.failed}")
    for key in rare_findings(item.opinions, selection.present, selection.studies)[:2]:
        present = selection.present[key]
        reasons.append(f"{names[key]}: present in {_plural(present, 'study', 'studies')} only")
    if not reasons:
        return ""
    first, *others = (f"{escape(text)}</li>" for text in reasons)
    return f'<ul class="why"><li class="first">{first}{"".join("<li>" + each for each in others)}</ul>'


def _order(opinion: Opinion, present: Mapping[str, int]) -> tuple[float, ...]:
    decided = opinion.override is not None
    said = opinion.said if opinion.said is not None else State.PRESENT
    return (*(-value for value in opinion_worth(opinion, present)), not decided, -RANK[said])


def _is_silent(opinion: Opinion) -> bool:
    is_undecided = opinion.override is None and opinion.stale is None
    return opinion.said is State.NOT_MENTIONED and is_undecided


def _finding(opinion: Opinion, name: str) -> str:
    decided = opinion.override.state.name.lower() if opinion.override else ""
    buttons = "".join(
        f'<button type="button" tabindex="-1" data-state="{state.name.lower()}" aria-pressed="false"'
        f"{_labelled(state) if state is opinion.said else ''}>{sign} {_word(state)}</button>"
        for state, sign in SIGNS.items()
    )
    return (
        f'<div class="finding" role="group" tabindex="0" data-key="{escape(opinion.key)}" data-decided="{decided}" '
        f'aria-label="{escape(name)}"><span class="name">{escape(name)}</span>'
        f'<span class="states">{buttons}</span>{_said(opinion)}</div>'
    )


def _labelled(state: State) -> str:
    return f' class="{state.name.lower()}" title="what the labeler says"'


def _said(opinion: Opinion) -> str:
    parts = [f"{escape(name)} {_chip(state)}" for name, state in opinion.votes.items()]
    if opinion.row.get("rule"):
        parts.append(f"<code>{escape(str(opinion.row['rule']))}</code>")
    if opinion.override is not None:
        parts.append(f"decided {_chip(opinion.override.state)} by {_who(opinion.override)}")
    if opinion.stale is not None:
        who = _who(opinion.stale)
        parts.append(f"was decided {_chip(opinion.stale.state)} by {who}, on another wording of the report")
    return f'<span class="said">{" &nbsp; ".join(parts)}</span>' if parts else ""


def _who(override: Override) -> str:
    return f"{escape(override.reviewer)} on {escape(override.date[:10])}"


def _chip(state: State) -> str:
    return f'<span class="chip {state.name.lower()}">{SIGNS[state]} {_word(state)}</span>'


def _word(state: State) -> str:
    return state.name.lower().replace("_", " ")


def _is_current(item: Item) -> bool:
    """Tell whether every sentence of the evidence still stands where it was found."""
    rows = [each.row for each in item.opinions if each.row]
    return all(item.report[row["start"] : row["end"]] == row.get("sentence") for row in rows)


def _marked(report: str, opinions: Sequence[Opinion], names: Mapping[str, str]) -> str:
    """Return the report with every piece of evidence marked; where pieces overlap, the mark is split."""
    spans = [(each.row["start"], each.row["end"], each) for each in opinions if each.row and each.said is not None]
    cuts = sorted({0, len(report), *(place for start, end, _ in spans for place in (start, end))})
    text = []
    for begin, end in pairwise(cuts):
        here = [each for first, last, each in spans if first <= begin and end <= last]
        piece = escape(report[begin:end])
        if not here:
            text.append(piece)
            continue
        states = sorted({each.said for each in here if each.said is not None}, key=lambda each: -RANK[each])
        told = "; ".join(f"{names[each.key]}: {_word(each.said)}" for each in here if each.said is not None)
        keys = " ".join(each.key for each in here)
        signs = "".join(SIGNS[state] for state in states)
        text.append(
            f'<mark class="{states[0].name.lower()}" data-signs="{signs}" data-findings="{escape(keys)}" '
            f'title="{escape(told)}">{piece}</mark>'
        )
    return "".join(text)


def _plural(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
