"""An evaluation as a folder: one page that needs nothing beside it, the plots as SVG and PNG, the numbers as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from greenrfm.evaluation.plots import precision_recall_plots, recall_plot, reliability_plot, roc_plots
from greenrfm.evaluation.report import cell, notes_of_retrieval, notes_of_scores, retrieval_table
from greenrfm.evaluation.score_table import ScoreTable
from greenrfm.files import replacing, write_text

PNG_DPI = 150
COLUMNS = {
    "n": "N",
    "positives": "present",
    "auroc": "AUC",
    "average_precision": "AP",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "sensitivity_at_specificity": "sensitivity at stated specificity",
    "specificity_at_sensitivity": "specificity at stated sensitivity",
    "coverage": "share decided",
    "sensitivity_decided": "sensitivity, decided only",
    "specificity_decided": "specificity, decided only",
    "brier": "Brier",
    "ece": "ECE",
}


@dataclass(frozen=True)
class Section:
    """A heading with notes, a table (its first line is the header) and the name of a figure, each if there is one."""

    title: str
    notes: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    figure: str = ""


def write_scores_page(out: Path, result: Mapping[str, Any], scores: ScoreTable, states: Any) -> Path:
    """Write the folder for `evaluate_scores`; `states` (N, F) belong to the rows of `scores`. Return the page."""
    names = [key.replace("_", " ") for key in scores.keys]
    columns = [name for name in COLUMNS if name in next(iter(result["findings"].values()))]
    rows = [
        [key, *(cell(values, name) for name in columns)]
        for key, values in (*result["findings"].items(), ("macro mean", result["macro"]))
    ]
    figures = {
        "reliability": reliability_plot(result["pooled"]),
        "roc": roc_plots(names, states, scores.probabilities),
        "precision_recall": precision_recall_plots(names, states, scores.probabilities),
    }
    sections = [
        Section("Findings", notes_of_scores(result), [["finding", *(COLUMNS[name] for name in columns)], *rows]),
        Section("Calibration, all findings together", (), (), "reliability"),
        Section("ROC curves", (), (), "roc"),
        Section(
            "Precision and recall", ("The grey line is the prevalence: what chance reaches.",), (), "precision_recall"
        ),
    ]
    return write_folder(out, "Scores against labels", sections, figures, result)


def write_retrieval_page(out: Path, result: Mapping[str, Any]) -> Path:
    """Write the folder for `evaluate_retrieval`. Return the page."""
    sections, figures = [Section("What was counted", notes_of_retrieval(result))], {}
    for kind, title in (("honest", "Honest definition"), ("as_public_scripts", "As public scripts compute it")):
        for direction, measured in result[kind].items():
            heading = f"{title}: {direction.replace('_', ' ')}".replace(" to ", " → ")
            if measured is None:
                sections.append(Section(heading, ("It could not be measured.",)))
                continue
            notes = [measured["definition"][:1].upper() + measured["definition"][1:] + "."]
            sections.append(Section(heading, notes, retrieval_table(measured)))
    drawn = {name.replace("_to_", " → "): value for name, value in result["honest"].items() if value is not None}
    if drawn:
        figures["recall_at_k"] = recall_plot(drawn)
        sections.insert(1, Section("Recall@k, honest definition", (), (), "recall_at_k"))
    return write_folder(out, "Retrieval", sections, figures, result)


def write_folder(
    out: Path, title: str, sections: Sequence[Section], figures: Mapping[str, Figure], result: Mapping[str, Any]
) -> Path:
    """Write `out`/index.html, results.json and each figure as NAME.svg and NAME.png; return the page."""
    pictures = {}
    for name, figure in figures.items():
        drawn = svg_bytes(figure)
        with replacing(out / f"{name}.svg") as temporary:
            temporary.write_bytes(drawn)
        with replacing(out / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=PNG_DPI)
        pictures[name] = "data:image/svg+xml;base64," + base64.b64encode(drawn).decode("ascii")
    write_text(out / "results.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    text = resources.files("greenrfm.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(text).render(title=title, sections=sections, pictures=pictures)
    write_text(out / "index.html", page)
    return out / "index.html"


def svg_bytes(figure: Figure) -> bytes:
    """Return the figure as SVG whose text is drawn, so that no font is needed, the same bytes every time."""
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "greenrfm"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
