"""The page's plots of the model beside its controls: areas under the curve with intervals, ROC curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from greenrfm.evaluation import roc_points
from greenrfm.evaluation.plots import plain
from greenrfm.findings import State

# Colour and marker of each source, in the order in which they are drawn; told apart without colour too.
STYLES = {
    "model": ("#0b6e4f", "o", "-"),
    "HU histogram": ("#c77700", "s", "--"),
    "shuffled labels": ("#8a8f98", "^", ":"),
}
Floats = NDArray[np.float64]
States = NDArray[np.int8]


def area_plot(names: Sequence[str], keys: Sequence[str], results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return AUC and interval per finding and source; `results` by source as of `evaluate_classification`."""
    figure, axes = _figure(7.6, 0.42 * len(keys) + 1.3)
    rows = [*keys, ""]
    for offset, (source, result) in zip((-0.22, 0.0, 0.22), results.items(), strict=True):
        colour, marker, _ = STYLES[source]
        for place, key in enumerate(rows):
            values = result["findings"][key] if key else result["macro"]
            if values["auroc"] is None:
                continue
            at, interval = place + offset, values["intervals"]["auroc"]
            if interval is not None:
                axes.plot(interval, (at, at), color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(values["auroc"], at, marker, color=colour, markersize=5, label=source if not key else None)
    axes.axvline(0.5, color="#8a8f98", linewidth=0.8)
    axes.axhline(len(keys) - 0.5, color="#d5d9de", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [*names, "Macro mean"])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=max(0.0, min(0.4, axes.get_xlim()[0])), right=1.01)
    axes.set_xlabel("AUC against the true state (95 % interval, resampling patients); 0.5 is chance")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.0 + 0.55 / figure.get_figheight()), ncols=3, frameon=False)
    return figure


def roc_plot(names: Sequence[str], truth: States, sources: Mapping[str, Floats]) -> Figure:
    """Return a small ROC curve per finding; `sources` holds scores (studies, findings) by source."""
    columns = 5
    lines = -(-len(names) // columns)
    figure = Figure((11, 2.3 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for column, axes in enumerate(grid):
        if column >= len(names):
            axes.set_axis_off()
            continue
        axes.plot((0, 1), (0, 1), color="#d5d9de", linewidth=0.8)
        positive = truth[:, column] == State.PRESENT
        axes.set_title(names[column], fontsize=9)
        if positive.all() or not positive.any():
            axes.text(0.5, 0.5, "one class only", ha="center", fontsize=8)
        else:
            for source, scores in sources.items():
                colour, _, line = STYLES[source]
                axes.plot(*roc_points(positive, scores[:, column]), line, color=colour, linewidth=1.4, label=source)
        plain(axes)
        axes.set_xticks((0, 0.5, 1))
        axes.set_yticks((0, 0.5, 1))
    figure.supxlabel("1 − specificity", fontsize=9)
    figure.supylabel("sensitivity", fontsize=9)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure((width, height), layout="constrained")
    axes = figure.subplots()
    plain(axes)
    return figure, axes
