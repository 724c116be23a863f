"""The results of this room as a plain-text table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def as_text(result: Mapping[str, Any], measures: Sequence[str], counts: Sequence[str] = ()) -> str:
    """Return one line per finding and a macro line, each measure with its interval; '-' where it is not defined.

    `counts` names numbers of each finding to print beside the measures. `result` is what
    `evaluate_classification` or `compare_labels` returns.
    """
    rows = [(key, values) for key, values in result["findings"].items()] + [("macro", result["macro"])]
    table = [["finding", *measures, *counts]]
    for key, values in rows:
        table.append(
            [key, *(_cell(values, name) for name in measures), *(str(values.get(name, "")) for name in counts)]
        )
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    cohort = f"{result['n']} studies of {result['patients']} patients"
    lines.append(f"{cohort}; 95 % intervals resample {result['resampled']}")
    lines += [f"left out of macro: {key}, {reason}" for key, reason in result["macro"].get("left_out", {}).items()]
    if "policy" in result:
        lines += [f"{state.replace('_', ' ')} counts as: {policy}" for state, policy in result["policy"].items()]
    if "coverage" in result["macro"]:
        share = result["macro"]["coverage"]
        scored = "nothing" if share is None else f"{100 * share:.1f} %"
        lines.append(f"scored: {scored} of the entries that gold decides")
    if result.get("unlabelled"):
        lines.append(f"without labels, not scored: {result['unlabelled']} studies")
    return "\n".join(lines)


def _cell(values: Mapping[str, Any], name: str) -> str:
    value, interval = values[name], values["intervals"][name]
    if value is None:
        return "-"
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f}…{interval[1]:.3f})"
