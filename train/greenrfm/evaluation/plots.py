"""The plots of an evaluation: calibration, ROC and precision-recall per finding, recall@k. Only `page` imports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from greenrfm.evaluation.curves import precision_recall_points, roc_points
from greenrfm.evaluation.intervals import Floats
from greenrfm.findings import State

GREEN, ORANGE, GREY, PALE = "#0b6e4f", "#c77700", "#8a8f98", "#d5d9de"
_COLUMNS = 5


def reliability_plot(pooled: Mapping[str, Any]) -> Figure:
    """Return the reliability diagram of `pooled_calibration`, with intervals and the number of scores in each bin."""
    figure = Figure((4.8, 5.6), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1)})
    points = pooled["points"]
    said, found = [point["probability"] for point in points], [point["share"] for point in points]
    axes.plot((0, 1), (0, 1), color=PALE, linewidth=1, label="perfect calibration")
    for point in points:
        if point["interval"] is not None:
            axes.plot([point["probability"]] * 2, point["interval"], color=GREEN, linewidth=1.2, alpha=0.6)
    axes.plot(said, found, "o-", color=GREEN, linewidth=1.4, markersize=5, label="measured (95 % interval)")
    axes.set_ylabel("share present")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5)
    counts.bar(said, [point["n"] for point in points], width=0.06, color="#9cc5b4")
    counts.set_ylabel("scores")
    counts.set_xlabel("probability said")
    counts.set_xlim(-0.02, 1.02)
    for part in (axes, counts):
        plain(part)
    return figure


def roc_plots(names: Sequence[str], states: NDArray[np.int8], probabilities: Floats) -> Figure:
    """Return a small ROC curve per finding, of the entries that are known."""

    def draw(axes: Axes, positive: NDArray[np.bool_], scores: Floats) -> None:
        axes.plot((0, 1), (0, 1), color=PALE, linewidth=0.8)
        axes.plot(*roc_points(positive, scores), color=GREEN, linewidth=1.4)

    return _small(names, states, probabilities, draw, "1 − specificity", "sensitivity")


def precision_recall_plots(names: Sequence[str], states: NDArray[np.int8], probabilities: Floats) -> Figure:
    """Return a small precision-recall curve per finding, of the entries that are known; the line is the prevalence."""

    def draw(axes: Axes, positive: NDArray[np.bool_], scores: Floats) -> None:
        axes.axhline(float(positive.mean()), color=PALE, linewidth=0.8)
        recall, precision = precision_recall_points(positive, scores)
        # Steps: between two thresholds precision is that of the lower one, as average precision counts it.
        axes.step(recall, precision, where="pre", color=GREEN, linewidth=1.4)

    return _small(names, states, probabilities, draw, "recall (sensitivity)", "precision")


def recall_plot(directions: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Return recall@k with intervals and chance for each named result of `retrieval_measures`."""
    figure = Figure((3.5 * len(directions) + 0.6, 3.4), layout="constrained")
    grid = figure.subplots(1, len(directions), squeeze=False, sharey=True)[0]
    for axes, (name, result) in zip(grid, directions.items(), strict=True):
        ks = [int(key.removeprefix("recall_at_")) for key in result if key.startswith("recall_at_")]
        places = range(len(ks))
        axes.plot(
            places, [result[f"chance_recall_at_{k}"] for k in ks], "s--", color=GREY, markersize=4, label="chance"
        )
        for place, k in zip(places, ks, strict=True):
            interval = result["intervals"][f"recall_at_{k}"]
            if interval is not None:
                axes.plot((place, place), interval, color=GREEN, linewidth=1.2)
        axes.plot(places, [result[f"recall_at_{k}"] for k in ks], "o-", color=GREEN, markersize=5, label="measured")
        axes.set_xticks(places, [str(k) for k in ks])
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(-0.4, len(ks) - 0.6)
        axes.set_title(f"{name}\n{result['queries']} queries, {result['candidates']} candidates", fontsize=9)
        axes.set_xlabel("k")
        plain(axes)
    grid[0].set_ylabel("recall@k (95 % interval)")
    grid[0].legend(loc="upper left", frameon=False, fontsize=8.5)
    return figure


def plain(axes: Axes) -> None:
    """Leave of the axes' frame only what is read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=8.5, color=GREY)


def _small(
    names: Sequence[str],
    states: NDArray[np.int8],
    probabilities: Floats,
    draw: Callable[[Axes, NDArray[np.bool_], Floats], None],
    across: str,
    up: str,
) -> Figure:
    """Return a panel per finding; one with a single class says so instead of a curve."""
    columns = min(_COLUMNS, len(names))
    lines = -(-len(names) // columns)
    figure = Figure((2.2 * columns + 0.4, 2.25 * lines + 0.4), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for column, axes in enumerate(grid):
        if column >= len(names):
            axes.set_axis_off()
            continue
        # Shared axes say their numbers in the last line only, which need not be full.
        axes.tick_params(labelbottom=column + columns >= len(names))
        known = states[:, column] >= 0
        positive = states[known, column] == State.PRESENT
        present, absent = int(positive.sum()), int((~positive).sum())
        axes.set_title(f"{names[column]}\n{present} present, {absent} absent", fontsize=8)
        if present and absent:
            draw(axes, positive, probabilities[known, column])
        else:
            axes.text(0.5, 0.5, "one class only", ha="center", fontsize=8)
        plain(axes)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xticks((0, 0.5, 1))
        axes.set_yticks((0, 0.5, 1))
    figure.supxlabel(across, fontsize=9)
    figure.supylabel(up, fontsize=9)
    return figure
