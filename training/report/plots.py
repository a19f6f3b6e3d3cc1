"""The report's pictures, as SVG text: one style, colours from the colour-blind-safe Okabe-Ito palette.

Letters: N rows, S scenarios, M tasks.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from training.metrics import AIMED, HEADLINE, OVERALL
from training.report.tables import Metrics

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
MARKERS = "osD^vPX"
INK, FAINT = "#222b36", "#d8dee6"
DENSITY = LinearSegmentedColormap.from_list("density", ["#e8f1f8", "#56B4E9", "#0072B2", "#00243d"])
DIVERGING = LinearSegmentedColormap.from_list("diverging", ["#D55E00", "#ffffff", "#0072B2"])
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#8a94a3",
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "report",
}
BINS = 48


def forecast_against_truth(
    forecasts: Mapping[str, Float[np.ndarray, "N"]], labels: Mapping[str, Float[np.ndarray, "N"]]
) -> str:
    """A density per task on log1p axes, the mean truth of equally many rows by forecast as a line."""
    with matplotlib.rc_context(STYLE):
        columns = min(len(labels), 3)
        figure = Figure(figsize=(3.7 * columns, 3.7 * math.ceil(len(labels) / columns)), layout="constrained")
        axes = list(figure.subplots(math.ceil(len(labels) / columns), columns, squeeze=False).flat)
        for unused in axes[len(labels) :]:
            unused.set_visible(False)
        for axis, (task, truth) in zip(axes, labels.items(), strict=False):
            _density(axis, np.log1p(forecasts[task]), np.log1p(truth))
            axis.set_title(task.replace("_", " "))
            axis.set_xlabel("mean forecast")
            axis.set_ylabel("truth")
        return to_svg(figure)


def _density(axis: Any, x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> None:
    top = max(float(x.max(initial=0)), float(y.max(initial=0)), 0.1) * 1.02
    counts, edges, _ = np.histogram2d(x, y, bins=BINS, range=[[0, top], [0, top]])
    shown = np.ma.masked_equal(counts.T, 0)
    axis.pcolormesh(edges, edges, shown, cmap=DENSITY, norm=LogNorm(1, max(2, counts.max())), rasterized=True)
    axis.plot([0, top], [0, top], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    groups = [g for g in np.array_split(np.argsort(x, kind="stable"), 20) if len(g)]
    middles = [np.log1p(np.expm1(x[g]).mean()) for g in groups]
    means = [np.log1p(np.expm1(y[g]).mean()) for g in groups]
    axis.plot(middles, means, color="#E69F00", linewidth=2, marker="o", markersize=3.5, markeredgecolor="white")
    ticks = [t for t in (0, 1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5, 1e6, 1e7) if math.log1p(t) <= top]
    ticks = ticks if len(ticks) <= 6 else ticks[::2]
    for which in (axis.xaxis, axis.yaxis):
        which.set_ticks([math.log1p(t) for t in ticks], [_short(t) for t in ticks])
    axis.set_aspect("equal")


def error_by_scenario(metrics: Metrics) -> str:
    """NMAE and SMAPE of the forecasts aimed at them, averaged over tasks, per scenario from head to minor; one mark per
    model."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(2, width=5.2, height=0.55 * len(metrics.scenarios) + 1.6)
        positions = np.arange(len(metrics.scenarios))[::-1]
        for axis, (metric, forecast) in zip(axes, AIMED.items(), strict=True):
            for index, model in enumerate(metrics.models):
                values = [
                    metrics.value(metric, model=model, forecast=forecast, scenario=s, task=OVERALL, segment=HEADLINE)
                    for s in metrics.scenarios
                ]
                style = {"color": PALETTE[index % 7], "marker": MARKERS[index % 7], "markeredgecolor": "white"}
                axis.plot(values, positions, linestyle="none", markersize=9, label=model, **style)
            axis.set_yticks(positions, metrics.scenarios)
            axis.set_xlabel(f"{metric.upper()}, {forecast} forecast")
            axis.set_ylim(-0.6, len(positions) - 0.4)
        axes[1].set_yticklabels([])
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 6))
        return to_svg(figure)


def training_curves(epochs: Sequence[Mapping[str, float]]) -> str:
    """Training and validation loss by epoch, the best validation loss marked.

    Each has an axis of its own: training rows are eligible pairs, validation rows are all that would be predicted.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(2, width=5, height=3.2)
        numbers = [int(e["epoch"]) + 1 for e in epochs]
        for index, (axis, name) in enumerate(zip(axes, ("train", "validation"), strict=True)):
            axis.plot(numbers, [e[name] for e in epochs], color=PALETTE[index], marker="os"[index])
            axis.set_title(name)
            axis.set_xticks(numbers, [f"{n}\nstep {int(e['step']):,}" for n, e in zip(numbers, epochs, strict=True)])
            axis.set_xlabel("epoch")
            axis.set_ylabel("joint loss (eq. 19)")
        if epochs:
            best = min(range(len(epochs)), key=lambda i: epochs[i]["validation"])
            axes[1].axvline(numbers[best], color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
            axes[1].annotate("best ", (numbers[best], 1), xycoords=("data", "axes fraction"), ha="right", va="top")
        return to_svg(figure)


def correlations(
    raw: Float[np.ndarray, "M S S"], log: Float[np.ndarray, "M S S"], tasks: Sequence[str], scenarios: Sequence[str]
) -> str:
    """Pearson correlations between scenarios: raw above, of log1p below, one column per task."""
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        size = max(1.7, 0.39 * len(scenarios))
        figure = Figure(figsize=(size * len(tasks) + 1.2, 2 * size + 1.2), layout="constrained")
        axes = figure.subplots(2, len(tasks), squeeze=False)
        for row, (name, matrices) in enumerate((("raw", raw), ("log", log))):
            for column, task in enumerate(tasks):
                axis, matrix = axes[row][column], matrices[column]
                axis.imshow(np.ma.masked_invalid(matrix), cmap=DIVERGING, vmin=-1, vmax=1)
                for (i, j), value in np.ndenumerate(matrix):
                    colour = "white" if abs(value) > 0.6 else INK
                    text = "–" if np.isnan(value) else f"{value:.2f}".replace("0.", ".").replace("1.00", "1")
                    axis.text(j, i, text, ha="center", va="center", fontsize=7.5, color=colour)
                rotated = {"rotation": 40, "ha": "right"}
                axis.set_xticks(range(len(scenarios)), scenarios if row else [], fontsize=8, **rotated)
                axis.set_yticks(range(len(scenarios)), [] if column else scenarios, fontsize=8)
                axis.set_title(f"{task.replace('_', ' ')}, {name}", fontsize=10)
        return to_svg(figure)


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def to_svg(figure: Figure) -> str:
    """SVG text without a date, so that equal inputs give equal reports."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, dpi=150)
    return text.getvalue()


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"
