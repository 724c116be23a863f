"""What the pages share: one file each that loads nothing, sends nothing and runs nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from html import escape
from importlib import resources

from greenrfm.results.priors import Change, Prior
from greenrfm.results.result import Score


@cache
def _style() -> tuple[str, str]:
    """Return the style sheet and its hash."""
    text = (resources.files("greenrfm.results") / "data" / "page.css").read_text(encoding="utf-8")
    return text, base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(title: str, notice: str, body: str) -> str:
    """Return a whole page; `title` and `notice` are texts, `body` is HTML whose texts are escaped already."""
    style, digest = _style()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    sentences = "<br>".join(escape(line) for line in notice.splitlines())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<p class="notice">{sentences}</p>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n'
    )


def call(score: Score) -> str:
    """Return a finding with probability and call."""
    return f'<span class="call {score.call}">{escape(score.name)} {score.probability:.2f} {score.call}</span>'


def changed(change: Change) -> str:
    """Return a finding's change in words."""
    calls = f"{change.call_before} → {change.call_after}" if change.is_new_call else f"still {change.call_after}"
    return f"{escape(change.name)} {change.difference:+.2f} ({calls})"


def change_summary(prior: Prior | None, most: int = 2) -> str:
    """Return what changed most since the prior study: new calls first, then the largest differences."""
    if prior is None:
        return '<span class="none">no prior study</span>'
    since = f'<span class="small none">since {escape(prior.study_id)}, {escape(prior.study_date)}</span>'
    if prior.reason:
        return f'<span class="small">not compared: {escape(prior.reason)}</span><br>{since}'
    ordered = sorted(prior.changes, key=lambda change: (not change.is_new_call, -abs(change.difference)))
    return "<br>".join([*(changed(change) for change in ordered[:most]), since])
