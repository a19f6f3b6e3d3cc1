"""The pictures of a study, as SVG text in the style of reports: errors with intervals, sensitivity, reliability."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from training.compare.intervals import METRICS
from training.compare.results import Resampled
from training.metrics import Metric
from training.report.plots import PALETTE, STYLE, to_svg

RELIABILITY_COLUMNS = 4
WIDEST = 36
"""Characters of a label's line; longer ones would take the room of what they label."""
WIDEST_TITLE = 26
"""Of a small picture's."""


def overall_errors(
    resampled: Resampled, *, forecasts: Mapping[Metric, str], best: str, titles: Mapping[str, str]
) -> str:
    """Figure 5: the macro average of each metric per model, best first, as bars with 95 % intervals of the resamples.

    ``forecasts``: which kind of forecast each metric is shown for. The intervals are of each model alone: overlapping
    ones say nothing about a pair, which is what the paired table is for.
    """
    with matplotlib.rc_context(STYLE):
        models = resampled.results.models
        figure = Figure(figsize=(11, 0.36 * len(models) + 1.4), layout="constrained")
        for axis, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
            kind = forecasts[metric]
            draws = {m: resampled.values[m, kind, metric][:, -1, -1] for m in models if kind in resampled.forecasts(m)}
            order = sorted(draws, key=lambda model: -draws[model][0])
            for position, model in enumerate(order):
                low, high = resampled.interval(draws[model], model)
                colour = PALETTE[0] if model == best else "#8a94a3"
                axis.barh(position, draws[model][0], height=0.62, color=colour, alpha=0.45)
                axis.plot([low, high], [position, position], color=colour, linewidth=1.6, solid_capstyle="butt")
                axis.text(high, position, f"  {draws[model][0]:.3f}", va="center", fontsize=8.5)
            axis.set_yticks(range(len(order)), [fill(titles.get(model, model), WIDEST) for model in order])
            ends = np.concatenate([resampled.interval(d, model) for model, d in draws.items()])
            axis.set_xlim(0, 1.12 * ends.max())
            axis.set_xlabel(f"{metric.upper()}, {kind} forecast")
            axis.grid(visible=False, axis="y")
        figure.supxlabel(resampled.results.completeness, fontsize=8, color="#8a94a3")
        return to_svg(figure)


def sensitivity(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    label: str,
    current: Mapping[str, float],
    completeness: str,
) -> str:
    """Figure 6: per hyperparameter, (value, difference from the preset, low, high) points; ``current`` marks the
    preset's value. What all settings have in common, such as an easy week, is not in a paired difference."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.7 * len(curves), 3.2), layout="constrained")
        axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for axis, (name, points) in zip(axes, curves.items(), strict=True):
            values, middles, lows, highs = (np.array(column) for column in zip(*points, strict=True))
            axis.vlines(values, lows, highs, color=PALETTE[0], alpha=0.45, linewidth=2.5)
            axis.plot(values, middles, color=PALETTE[0], linewidth=1.2, marker="o", markeredgecolor="white")
            axis.axvline(current[name], color="#8a94a3", linewidth=0.9, linestyle=(0, (4, 3)))
            axis.set_xticks(values, [f"{value:g}" for value in values])
            axis.set_xlabel(name)
            axis.axhline(0, color="#8a94a3", linewidth=0.9)
        axes[0].set_ylabel(label)
        figure.supxlabel(completeness, fontsize=8, color="#8a94a3")
        return to_svg(figure)


def reliability(lines: Sequence[Mapping[str, Any]], *, titles: Mapping[str, str], completeness: str) -> str:
    """Per model, over the levels of its quantiles: bars from the share of labels below the quantile to that at most it,
    the means over scenarios and tasks. A calibrated distribution's bars cross the diagonal; zeros make them long.

    ``lines``: of :func:`training.compare.records.calibration`.
    """
    models = list(dict.fromkeys(line["model"] for line in lines))
    columns = min(len(models), RELIABILITY_COLUMNS)
    with matplotlib.rc_context(STYLE):
        rows = -(-len(models) // columns)
        figure = Figure(figsize=(2.6 * columns, 2.5 * rows + 0.6), layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
        for model, axis in zip(models, axes, strict=False):
            own = [line for line in lines if line["model"] == model]
            axis.plot([0, 1], [0, 1], color="#8a94a3", linewidth=0.9, linestyle=(0, (4, 3)))
            for level in sorted({line["level"] for line in own}):
                at_level = [line for line in own if line["level"] == level]
                below, at_most = (np.mean([line[name] for line in at_level]) for name in ("below", "at_most"))
                axis.plot([level, level], [below, at_most], color=PALETTE[0], linewidth=3, solid_capstyle="butt")
            axis.set_title(fill(titles.get(model, model), WIDEST_TITLE), fontsize=9)
        for axis in axes:
            axis.set_visible(False)
        figure.supylabel("share of labels below .. at most the quantile", fontsize=9)
        figure.supxlabel(f"level of the quantile\n{completeness}", fontsize=8, color="#8a94a3")
        return to_svg(figure)
