"""How well the labelers of a consensus agree, per finding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from greenrfm.errors import UserError
from greenrfm.findings import State

_ORDER = tuple(State)


def agreement(keys: Sequence[str], studies: int, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the agreement of each pair of labelers on the four states.

    Parameters
    ----------
    keys
        The findings.
    studies
        How many studies have labels: what has no row, all labelers passed over in silence. Studies that
        a person labelled because a labeler failed are left out, and for a pair those on which one of the
        two has no vote: it does not read their language.
    rows
        Those of labels.evidence.jsonl. A person's override changes nothing here: its `was` counts.

    Returns
    -------
    `{"n": studies, "states": "the four states, not mentioned included", "pairs": [{"labelers": [a, b],
    "n": studies that both read, "macro": {"agreement", "kappa", "findings": how many have a kappa},
    "findings": {key: {"n", "agreement": share, "kappa": Cohen's (1960) or None, "contradictions",
    "table": 4 × 4 counts, rows a, columns b, in the order of "order"}}}], "order": names of the states}`.
    Kappa is None where both say one and the same of every study: then chance alone agrees as well.
    Agreement is None too where they read no study both. A contradiction is any difference but a denial
    beside silence.

    Raises UserError if the labels are not a consensus.

    """
    tables: dict[tuple[str, str], dict[str, NDArray[np.int64]]] = {}
    mentioned = dict.fromkeys(keys, 0)
    alike: dict[str, NDArray[np.int64]] = {key: np.zeros(len(_ORDER), np.int64) for key in keys}
    names: tuple[str, ...] = ()
    by_hand: set[str] = set()
    for row in rows:
        if not row["labeler"]:
            # A person's word alone: the labelers passed the finding over, or failed on the whole report.
            if row["override"]["was"] is None:
                by_hand.add(row["study_id"])
            continue
        if row["labeler"] != "consensus":
            raise UserError(f"these labels are of one labeler, {row['labeler']}; agreement needs a consensus")
        names = names or tuple(part.split(" ")[0] for part in row["version"].split("; "))
        key, votes = row["finding"], row.get("votes")
        mentioned[key] += 1
        if not votes:
            alike[key][_index(row.get("override", {}).get("was", row["state"]))] += 1
            continue
        for pair in combinations((name for name in names if name in votes), 2):
            of_pair = tables.setdefault(pair, {each: np.zeros((len(_ORDER), len(_ORDER)), np.int64) for each in keys})
            of_pair[key][_index(votes[pair[0]]), _index(votes[pair[1]])] += 1
    if not names:
        raise UserError("the evidence beside these labels has no consensus; distill with --labeler consensus first")
    studies -= len(by_hand)
    pairs = []
    for pair in combinations(names, 2):
        findings = {}
        for key in keys:
            table = tables[pair][key] if pair in tables else np.zeros((len(_ORDER), len(_ORDER)), np.int64)
            silent = np.array([studies - mentioned[key] if state is State.NOT_MENTIONED else 0 for state in _ORDER])
            findings[key] = _describe(table + np.diag(alike[key] + silent))
        kappas = [each["kappa"] for each in findings.values() if each["kappa"] is not None]
        both = max(each["n"] for each in findings.values())
        macro = {
            "agreement": float(np.mean([each["agreement"] for each in findings.values()])) if both else None,
            "kappa": float(np.mean(kappas)) if kappas else None,
            "findings": len(kappas),
        }
        pairs.append({"labelers": list(pair), "n": both, "macro": macro, "findings": findings})
    return {
        "n": studies,
        "states": "the four states, not mentioned included",
        "order": [state.name.lower() for state in _ORDER],
        "pairs": pairs,
    }


def _index(state: str) -> int:
    return _ORDER.index(State[state.upper()])


def _describe(table: NDArray[np.int64]) -> dict[str, Any]:
    total = int(table.sum())
    if not total:
        return {"n": 0, "agreement": None, "kappa": None, "contradictions": 0, "table": table.tolist()}
    observed = float(np.trace(table) / total)
    expected = float((table.sum(axis=1) * table.sum(axis=0)).sum() / total**2)
    absent, silent = _ORDER.index(State.ABSENT), _ORDER.index(State.NOT_MENTIONED)
    tolerated = table[absent, silent] + table[silent, absent]
    return {
        "n": total,
        "agreement": observed,
        "kappa": (observed - expected) / (1 - expected) if expected < 1 else None,
        "contradictions": int(total - np.trace(table) - tolerated),
        "table": table.tolist(),
    }


def as_text(result: Mapping[str, Any]) -> str:
    """Return `agreement` as a plain-text table per pair; '-' where kappa is not defined."""
    lines = []
    for pair in result["pairs"]:
        first, second = pair["labelers"]
        if not pair["n"]:
            lines.append(f"{first} and {second} read no study both")
            continue
        header = ["finding", "agreement", "kappa", "contradictions", "both present", f"only {first}", f"only {second}"]
        table = [header]
        for key, values in pair["findings"].items():
            counts = np.array(values["table"])
            present = result["order"].index("present")
            both = int(counts[present, present])
            alone = [int(counts[present].sum()) - both, int(counts[:, present].sum()) - both]
            kappa = "-" if values["kappa"] is None else f"{values['kappa']:.3f}"
            cells = (f"{values['agreement']:.3f}", kappa, values["contradictions"], both, *alone)
            table.append([key, *map(str, cells)])
        macro = pair["macro"]
        kappa = "-" if macro["kappa"] is None else f"{macro['kappa']:.3f}"
        table.append(["macro", f"{macro['agreement']:.3f}", kappa, "", "", "", ""])
        widths = [max(len(row[column]) for row in table) for column in range(len(header))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        lines.append(f"{first} and {second} on {pair['n']} studies, {result['states']}; only: present for that one")
    return "\n".join(lines)
