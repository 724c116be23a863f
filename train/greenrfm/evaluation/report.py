"""The results of this room in words and as plain-text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def as_text(result: Mapping[str, Any], measures: Sequence[str], counts: Sequence[str] = ()) -> str:
    """Return one line per finding and a macro line, each measure with its interval; '-' where it is not defined.

    `counts` names numbers of each finding to print beside the measures. `result` is what
    `evaluate_classification` or `compare_labels` returns.
    """
    rows = [(key, values) for key, values in result["findings"].items()] + [("macro", result["macro"])]
    table = [["finding", *counts, *measures]]
    for key, values in rows:
        table.append([key, *(str(values.get(name, "")) for name in counts), *(cell(values, name) for name in measures)])
    lines = aligned(table)
    cohort = f"{result['n']} studies of {result['patients']} patients"
    lines.append(f"{cohort}; 95 % intervals resample {result['resampled']}")
    lines += [f"left out of macro: {key}, {reason}" for key, reason in result["macro"].get("left_out", {}).items()]
    if "policy" in result:
        lines += [f"{state.replace('_', ' ')} counts as: {policy}" for state, policy in result["policy"].items()]
        share = result["macro"]["coverage"]
        scored = "nothing" if share is None else f"{100 * share:.1f} %"
        lines.append(f"scored: {scored} of the entries that gold decides")
    if result.get("unlabelled"):
        lines.append(f"without labels, not scored: {result['unlabelled']} studies")
    return "\n".join(lines)


def notes_of_scores(result: Mapping[str, Any]) -> list[str]:
    """Return what `evaluate_scores` counted and how, a sentence each."""
    reports = "not known" if result["reports"] is None else str(result["reports"])
    counted = "every volume counts" if result["unit"] == "volume" else "the first volume of each report counts"
    stated, pooled = result["stated"], result["pooled"]
    notes = [
        f"{result['volumes']} volumes, reports: {reports}; {counted}: {result['n']} of {result['patients']} "
        f"{'patients' if result['resampled'] == 'patients' else 'patients at most (no patient ids were given)'}; "
        f"95 % intervals resample {result['resampled']}.",
        f"F1, sensitivity and specificity by {result['thresholds_from']}, never chosen on these labels.",
        f"Sensitivity at specificity {stated['specificity']:g} and specificity at sensitivity "
        f"{stated['sensitivity']:g} are points of the ROC curve of these labels: they describe the ranking, no "
        "threshold is taken from them.",
    ]
    if result["macro"].get("coverage") is not None:
        notes.append("Indeterminate calls count as not present, except in the columns 'decided', which leave them out.")
    if pooled["ece"] is not None:
        low, high = pooled["perfect"]["interval"]
        notes.append(
            f"ECE over all findings together: {cell(pooled, 'ece')}, {pooled['pairs']} pairs; a perfectly calibrated "
            f"model that says these probabilities would show {pooled['perfect']['ece']:.3f} ({low:.3f}…{high:.3f})."
        )
    notes += [f"Not measured, left out of the mean: {key}, {why}." for key, why in result["macro"]["left_out"].items()]
    if result["not_scored"]:
        notes.append(f"Labelled but without scores: {', '.join(result['not_scored'])}.")
    if result["labels_without_scores"]:
        notes.append(f"Labelled studies without scores: {result['labels_without_scores']}.")
    return notes


def notes_of_retrieval(result: Mapping[str, Any]) -> list[str]:
    """Return what `evaluate_retrieval` counted, a sentence each."""
    return [
        f"{result['n']} volumes, {result['reports']} reports, {result['patients']} patients; "
        "95 % intervals resample patients, the candidates stay as they are."
    ]


def retrieval_as_text(result: Mapping[str, Any]) -> str:
    """Return each direction of `evaluate_retrieval`, honest first, as a table with chance beside each measure."""
    lines = notes_of_retrieval(result)
    for kind, title in (("honest", "honest"), ("as_public_scripts", "as public scripts compute it")):
        for direction, measured in result[kind].items():
            lines += ["", f"{direction.replace('_to_', ' -> ')}, {title}"]
            if measured is None:
                lines.append("  could not be measured")
                continue
            lines += [f"  {measured['definition']}", *(f"  {line}" for line in aligned(retrieval_table(measured)))]
            left = measured.get("without_match")
            rank = f", median rank {measured['median_rank']:g}" if "median_rank" in measured else ""
            lines.append(
                f"  {measured['queries']} queries, {measured['candidates']} candidates{rank}"
                + (f"; {left} queries have nothing to find and are left out" if left else "")
            )
    return "\n".join(lines)


def retrieval_table(measured: Mapping[str, Any]) -> list[list[str]]:
    """Return a header and a line per k: every measure that has a value at k, with its interval, and its chance."""
    names = [key for key in measured if "_at_" in key]
    first = names[0].rsplit("_", 1)[1]
    own = dict.fromkeys(name.rsplit("_at_", 1)[0] for name in names if not name.startswith("chance_"))
    kinds = [kind for base in own for kind in (base, f"chance_{base}") if f"{kind}_at_{first}" in measured]
    depths = list(dict.fromkeys(int(name.rsplit("_at_", 1)[1]) for name in names))
    return [
        ["k", *(kind.replace("_", " ") for kind in kinds)],
        *([str(k), *(cell(measured, f"{kind}_at_{k}") for kind in kinds)] for k in depths),
    ]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with columns of one width."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]


def cell(values: Mapping[str, Any], name: str) -> str:
    """Return a measure with its interval, a count as it is, '-' where there is none."""
    value, interval = values.get(name), values["intervals"].get(name)
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f}…{interval[1]:.3f})"
