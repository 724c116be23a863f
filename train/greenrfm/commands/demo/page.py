"""The demo's page: one HTML file that needs nothing beside it and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from greenrfm.commands.demo.clock import StageCost
from greenrfm.commands.demo.examples import Example
from greenrfm.commands.demo.heldout import Floats, HeldOut
from greenrfm.commands.demo.past_cases import Query
from greenrfm.commands.demo.pictures import overview, svg
from greenrfm.commands.demo.plots import area_plot, roc_plot
from greenrfm.commands.demo.results import Results
from greenrfm.commands.demo.verdicts import between
from greenrfm.evaluation.plots import reliability_plot
from greenrfm.files import write_text
from greenrfm.findings import FindingSet, State, load_finding_set
from greenrfm.phantoms.cohort import FINDING_SET
from greenrfm.reading.reading import DEMONSTRATION
from greenrfm.training.recipe import Recipe
from greenrfm.volumes import read_volume


@dataclass(frozen=True)
class Material:
    """What the page is made of; `controls` are the probabilities (studies, findings) of the two controls."""

    results: Results
    held_out: HeldOut
    controls: Mapping[str, Floats]
    query: Query | None
    examples: Sequence[Example]
    costs: Sequence[StageCost]
    recipe: Recipe
    facts: Mapping[str, Any]
    paths: Mapping[str, Path]
    command: str
    library_size: int


def write_page(path: Path, material: Material) -> None:
    """Write the page to `path` in one step."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(number=_number, interval=between, duration=_duration)
    text = resources.files("greenrfm.commands.demo").joinpath("page.html").read_text(encoding="utf-8")
    write_text(path, environment.from_string(text).render(_content(material)))


def _content(material: Material) -> dict[str, Any]:
    held_out, results = material.held_out, material.results
    findings = load_finding_set(FINDING_SET)
    names = [findings[key].name for key in held_out.keys]
    sources = {"model": held_out.probabilities, **material.controls}
    measured = {
        "model": results.model,
        **dict(zip(material.controls, (results.histogram, results.shuffled), strict=True)),
    }
    return {
        "demonstration": DEMONSTRATION,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "name_of": {key: findings[key].name for key in findings.keys},
        "keys": held_out.keys,
        "ks": results.retrieval["ks"],
        "results": results,
        "recipe": material.recipe,
        "facts": material.facts,
        "paths": material.paths,
        "command": material.command,
        "costs": material.costs,
        "examples": material.examples,
        "cell_mm": held_out.readings[0].heatmaps.cell_size_mm if held_out.readings[0].heatmaps else (),
        "thresholds": held_out.bundle.manifest.thresholds.rule,
        "library_size": material.library_size,
        "area_plot": svg(area_plot(names, held_out.keys, measured)),
        "roc_plot": svg(roc_plot(names, held_out.truth, sources)),
        "calibration_plot": svg(reliability_plot(results.calibration)),
        "query": _query(material, findings),
    }


def _query(material: Material, findings: FindingSet) -> dict[str, Any] | None:
    """Return the query and its nearest cases, with pictures."""
    query, held_out = material.query, material.held_out
    if query is None:
        return None
    study, reading = held_out.studies[query.row], held_out.readings[query.row]
    images = material.paths["cohort"].parent / "volumes"
    return {
        "study": study,
        "picture": overview(read_volume(study.images["image"])),
        "present": query.present,
        "scores": [
            (score.name, score.probability, score.call, held_out.truth[query.row, column] == State.PRESENT)
            for column, score in enumerate(reading.scores)
        ],
        "cases": [
            (compared, overview(read_volume(images / f"{compared.hit.case.study_id}.nii.gz")))
            for compared in query.cases
        ],
    }


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
