"""The page of a run: its curves from metrics.jsonl, in one file that opens anywhere."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from greenrfm.files import write_text
from greenrfm.training.metrics import NAME, Line, read_metrics

GREEN, ORANGE = "#0b6e4f", "#c77700"
# Drawing takes a second; an epoch of a small cohort takes less.
SECONDS = 60.0


def write_page(out: Path, recipe: str) -> None:
    """Write `out`/index.html from what the run folder holds: curves, the last numbers, environment and recipe."""
    lines = read_metrics(out / NAME)
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    page = _template().render(
        recipe=recipe,
        stages=[_stage(stage, [line for line in lines if line["stage"] == stage]) for stage in stages],
        environment=environment,
        resolved=(out / "recipe.yaml").read_text(encoding="utf-8"),
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )
    write_text(out / "index.html", page)


def page_now_and_then(out: Path, recipe: str) -> Callable[[], None]:
    """Return what writes the page when it is called, at most once a minute."""
    last = time.monotonic()

    def write() -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS:
            write_page(out, recipe)
            last = time.monotonic()

    return write


def _stage(name: str, lines: Sequence[Line]) -> dict[str, Any]:
    steps = [line for line in lines if line["kind"] == "step"]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    return {
        "name": name,
        "steps": lines[-1]["step"],
        "epochs": epochs,
        "last": steps[-1] if steps else {},
        "curves": _svg(_curves(steps, epochs)),
    }


def _curves(steps: Sequence[Line], epochs: Sequence[Line]) -> Figure:
    """Return loss, learning rate and, where it was measured, validation AUC over the steps."""
    watched = [line for line in epochs if "val_auc" in line]
    figure = Figure((3.7 * (3 if watched else 2), 2.5), layout="constrained")
    loss, rate, *rest = figure.subplots(1, 3 if watched else 2)
    loss.plot([line["step"] for line in steps], [line["loss"] for line in steps], color=GREEN, linewidth=0.8)
    loss.plot([line["step"] for line in epochs], [line["loss"] for line in epochs], "o", color=GREEN, markersize=4)
    loss.set_title("Loss (dots: mean of an epoch)", fontsize=9)
    rate.plot([line["step"] for line in steps], [line["lr"] for line in steps], color="#4a5058", linewidth=1.2)
    rate.set_title("Learning rate of the head", fontsize=9)
    for axes in rest:
        axes.plot([line["step"] for line in watched], [line["val_auc"] for line in watched], "s-", color=ORANGE)
        axes.axhline(0.5, color="#8a8f98", linewidth=0.8)
        axes.set_title("Validation, macro AUC (0.5 is chance)", fontsize=9)
    for axes in (loss, rate, *rest):
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _svg(figure: Figure) -> Markup:
    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    content = text.getvalue()
    # Drawn by us from numbers alone: nothing of it needs escaping.
    return Markup(content[content.index("<svg") :])


def _template() -> jinja2.Template:
    text = (resources.files("greenrfm.training") / "page.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
