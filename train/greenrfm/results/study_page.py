"""The page of one study: every score with its thresholds, warnings, the prior study, pictures of heat maps."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape

from greenrfm.results.page import change_summary, changed, page
from greenrfm.results.priors import Prior
from greenrfm.results.result import Result, Score

_WIDTH = 300


def study_page(
    result: Result, prior: Prior | None, pictures: Mapping[str, bytes], *, bundle: str, patients: bool, back: str = ""
) -> str:
    """Return the page; `pictures` are JPEGs by finding key, `back` links to the worklist."""
    facts = [
        f"patient {result.patient_id}" if patients and result.patient_id else "",
        f"of {result.study_date}" if result.study_date else "",
        f"read {result.read_at} with bundle {bundle} ({result.bundle_hash[:12]}), greenrfm {result.software}",
    ]
    parts = [
        f'<p class="small"><a href="{escape(back)}">← worklist</a></p>' if back else "",
        f'<p class="facts">{escape(", ".join(fact for fact in facts if fact))}</p>',
        *(f'<p class="warning">Warning: {escape(text)}.</p>' for text in result.warnings),
    ]
    if result.withheld:
        parts.append(f"<h2>Scores withheld</h2><p>{escape(result.withheld)}</p>")
    else:
        parts.append(_scores(result.scores, prior))
    parts += [_prior(prior), _zero_shot(result), _pictures(result, pictures)]
    return page(f"Study {result.study_id}", result.notice, "\n".join(part for part in parts if part))


def _scores(scores: tuple[Score, ...], prior: Prior | None) -> str:
    changes = {change.key: change for change in prior.changes} if prior else {}
    rows = []
    for score in scores:
        change = changes.get(score.key)
        rows.append(
            f'<tr><td>{escape(score.name)}</td><td>{_bar(score)}</td><td class="number">{score.probability:.3f}</td>'
            f'<td><span class="call {score.call}">{score.call}</span></td>'
            f'<td class="number small">absent below {score.absent_below:.3f}, '
            f"present from {score.present_from:.3f}</td>"
            + (f"<td>{changed(change).removeprefix(escape(score.name))}</td>" if change else "<td></td>")
            + "</tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in ("finding", "", "probability", "call", "thresholds", "change"))
    return (
        f"<h2>Scores</h2>\n<table><thead><tr>{head}</tr></thead>\n" + "\n".join(rows) + "</table>\n"
        '<p class="rule">Probabilities as the bundle calibrates them. In a yellow band between two thresholds the '
        "call is indeterminate.</p>"
    )


def _bar(score: Score) -> str:
    """Return the probability as a bar over the band between the thresholds."""
    low, high = (round(_WIDTH * min(max(edge, 0.0), 1.0), 1) for edge in (score.absent_below, score.present_from))
    filled = round(_WIDTH * score.probability, 1)
    return (
        f'<svg class="bar" viewBox="0 0 {_WIDTH} 12" preserveAspectRatio="none" role="img" '
        f'aria-label="{score.probability:.3f}"><rect class="track" width="{_WIDTH}" height="12"/>'
        f'<rect class="between" x="{low}" width="{max(high - low, 0):.1f}" height="12"/>'
        f'<rect class="{score.call}" y="3" width="{filled}" height="6"/>'
        f'<line class="tick" x1="{low}" x2="{low}" y2="12"/><line class="tick" x1="{high}" x2="{high}" y2="12"/></svg>'
    )


def _prior(prior: Prior | None) -> str:
    return f"<h2>Prior study</h2>\n<p>{change_summary(prior, most=5)}</p>" if prior else ""


def _zero_shot(result: Result) -> str:
    scores = result.reading.get("zero_shot")
    if not scores or result.withheld:
        return ""
    rows = "".join(
        f'<tr><td>{escape(str(item["name"]))}</td><td class="number">{float(item["probability"]):.3f}</td></tr>'
        for item in scores["findings"]
    )
    return (
        "<h2>Zero-shot, from the prompts alone</h2>\n"
        f'<p class="rule">{escape(str(scores["notice"]))}</p>\n'
        f"<table>{rows}</table>"
    )


def _pictures(result: Result, pictures: Mapping[str, bytes]) -> str:
    if not pictures or result.withheld:
        return ""
    scores = {score.key: score for score in result.scores}
    cell = " × ".join(f"{length:.0f}" for length in result.cell_mm)
    figures = []
    for key, picture in pictures.items():
        score = scores.get(key)
        title = (
            f"{score.name}: {score.probability:.2f}, {score.call}" if score else "text query, not a calibrated score"
        )
        source = base64.b64encode(picture).decode("ascii")
        figures.append(
            f'<figure><img alt="{escape(title)}" src="data:image/jpeg;base64,{source}">'
            f"<figcaption>{escape(title)}</figcaption></figure>"
        )
    return (
        "<h2>Where it comes from</h2>\n"
        f'<p class="rule">Axial and coronal slice through the cell of the highest logit (white box), plain and under '
        f"the heat map. A cell is {cell} mm: the map shows a region, not an outline. Colour begins half way from the "
        "map's median to its maximum, so every map has a hottest place, also that of an absent finding.</p>\n"
        + "\n".join(figures)
    )
