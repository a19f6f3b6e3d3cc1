"""The exhibits of a study as tables (Table 4, paired differences, wins and losses), CSV and Markdown."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.compare.intervals import METRICS, Comparison, holm
from training.compare.results import Resampled
from training.compare.study import AimSection, InView
from training.metrics import AIMED, OVERALL, Metric

TABLE4_COLUMNS = ("model", "forecast", "scenario", "task", "nmae", "smape", "seeds", "periods")
BIAS_COLUMNS = ("model", "forecast", "scenario", "task", "bias", "seeds", "periods")
VIEW_COLUMNS = ("model", "forecast", "view", "metric", "value", "low", "high", "seeds")
ALPHA = 0.05
"""Of a table's comparisons of one metric together."""
LEAST_SHOWN = 0.001
"""Of p-values in Markdown."""
PAIRED_COLUMNS = ("model_a", "model_b", "forecast", "metric", "scenario", "task", "difference", "low", "high")


def table4(resampled: Resampled) -> list[dict[str, Any]]:
    """Both metrics of every model, forecast, scenario and task, macro averages included; the mean over so many seeds
    and periods."""
    results, rows = resampled.results, []
    shape = results.shape()
    for model in results.models:
        for forecast in resampled.forecasts(model):
            values = {metric: resampled.values[model, forecast, metric][0] for metric in METRICS}
            for i, scenario in enumerate((*shape.scenarios, OVERALL)):
                for j, task in enumerate((*shape.tasks, OVERALL)):
                    cell = {metric: float(values[metric][i, j]) for metric in METRICS}
                    about = {"model": model, "forecast": forecast, "scenario": scenario, "task": task}
                    counts = {"seeds": len(results.whole_seeds(model)), "periods": len(resampled.draws)}
                    rows.append(about | cell | counts)
    return rows


def bias(resampled: Resampled) -> list[dict[str, Any]]:
    """How far the sum of forecasts is from that of labels, by scenario and task and over all scenarios."""
    shape, rows = resampled.results.shape(), []
    for model in resampled.results.models:
        seeds, periods = len(resampled.results.whole_seeds(model)), len(resampled.draws)
        about = {"model": model, "seeds": seeds, "periods": periods}
        for forecast in resampled.forecasts(model):
            found = resampled.bias(model, forecast)
            for i, scenario in enumerate((*shape.scenarios, OVERALL)):
                for j, task in enumerate(shape.tasks):
                    cell = {"forecast": forecast, "scenario": scenario, "task": task, "bias": float(found[i, j])}
                    rows.append(about | cell)
    return rows


def by_view(
    resampled: Resampled, views: Mapping[str, Sequence[str]], *, over: str | None = None
) -> list[dict[str, Any]]:
    """Macro averages over the scenarios of each view, with 95 % intervals, each metric of the forecast aimed at it.

    ``over``: of this model the multiple, in the same resamples.
    """
    rows = []
    for model in resampled.results.models:
        for metric, forecast in AIMED.items():
            for view, scenarios in views.items():
                draws = resampled.over(scenarios, model, forecast, metric)
                if over is not None:
                    draws = draws / resampled.over(scenarios, over, forecast, metric)
                models = (model,) if over is None else (model, over)
                low, high = (float(bound) for bound in resampled.interval(draws, *models))
                about = {"model": model, "forecast": forecast, "seeds": len(resampled.results.whole_seeds(model))}
                rows.append(
                    about | {"view": view, "metric": metric, "value": float(draws[0]), "low": low, "high": high}
                )
    return rows


def compared_in_views(
    resampled: Resampled, views: Mapping[str, Sequence[str]], compared: Mapping[str, InView]
) -> list[Comparison]:
    """The comparisons of each view, of contenders that have cells, each metric of the forecast aimed at it."""
    models = resampled.results.models
    return [
        resampled.compare_over(view, views[view], pairs.best, other, forecast, metric)
        for view, pairs in compared.items()
        for metric, forecast in AIMED.items()
        for other in pairs.others
        if {pairs.best, other} <= set(models)
    ]


def paired(resampled: Resampled, best: str, *, besides: Sequence[str] = ()) -> list[Comparison]:
    """The best model against each other one, in every forecast that both have, cell by cell and overall.

    ``besides``: what is no rival, a floor.
    """
    return [
        comparison
        for other in resampled.results.models
        if other not in (best, *besides)
        for forecast in resampled.forecasts(best)
        if forecast in resampled.forecasts(other)
        for metric in METRICS
        for comparison in resampled.compare(best, other, forecast, metric)
    ]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Win, tie or loss of the best model against another, after Holm's correction over all models of the table."""

    other: str
    forecast: str
    metric: Metric
    difference: float
    low: float
    high: float
    adjusted_p: float
    wins: int
    """Cells of task x scenario whose own interval lies below 0."""
    losses: int
    cells: int

    @property
    def outcome(self) -> str:
        return outcome(self.difference, self.adjusted_p)


def outcome(difference: float, adjusted_p: float) -> str:
    """Win, tie or loss, where ``difference`` is the own error minus that of what it is compared with."""
    if math.isnan(adjusted_p) or adjusted_p >= ALPHA:
        return "tie"
    return "win" if difference < 0 else "loss"


def verdicts(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """One per other model, forecast and metric; corrected within each forecast and metric."""
    found = []
    for forecast, metric in dict.fromkeys((c.forecast, c.metric) for c in comparisons):
        family = [c for c in comparisons if (c.forecast, c.metric) == (forecast, metric)]
        overall = {c.model_b: c for c in family if c.scenario == c.task == OVERALL}
        adjusted = holm({name: c.p for name, c in overall.items()})
        for name, c in overall.items():
            cells = [x for x in family if x.model_b == name and OVERALL not in (x.scenario, x.task)]
            found.append(
                Verdict(
                    other=name,
                    forecast=forecast,
                    metric=metric,
                    difference=c.difference,
                    low=c.low,
                    high=c.high,
                    adjusted_p=adjusted[name],
                    wins=sum(x.high < 0 for x in cells),
                    losses=sum(x.low > 0 for x in cells),
                    cells=len(cells),
                )
            )
    return found


def aim_markdown(resampled: Resampled, best: str, aim: AimSection, titles: Mapping[str, str]) -> str:
    """The study's aim beside what was reached, with 95 % intervals that no rule corrects."""
    lines = []
    for metric, forecast in AIMED.items():
        draws = resampled.values[best, forecast, metric][:, -1, -1]
        wanted, (low, high) = getattr(aim, metric), resampled.interval(draws, best)
        reached = "yes" if draws[0] <= wanted else "no"
        lines.append([f"{metric.upper()} at most {wanted:.3f}", f"{draws[0]:.4f}", f"{low:.4f} .. {high:.4f}", reached])
        for other, share in aim.ahead.items():
            if (other, forecast, metric) not in resampled.values:
                continue
            less = draws / resampled.values[other, forecast, metric][:, -1, -1] - 1
            low, high = resampled.interval(less, best, other)
            reached = "yes" if less[0] <= -share and high < 0 else "no"
            against = f"{metric.upper()} {share:.0%} below {titles.get(other, other)}" if share else ""
            what = against or f"{metric.upper()} below {titles.get(other, other)}"
            lines.append([what, f"{less[0]:+.1%}", f"{low:+.1%} .. {high:+.1%}", reached])
    return markdown(["aim", "reached", "95 % interval", "met"], lines)


def to_csv(columns: Sequence[str], rows: Iterable[Any]) -> str:
    """Rows (dicts or dataclasses) as CSV, numbers in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row if isinstance(row, dict) else vars(row) for row in rows)
    return text.getvalue()


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and the others to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def verdict_markdown(found: Sequence[Verdict], titles: Mapping[str, str]) -> str:
    heads = ("against", "forecast", "metric", "difference", "95 % interval", "p (Holm)", "outcome", "cells won : lost")
    rows = [
        (
            titles.get(v.other, v.other),
            v.forecast,
            v.metric.upper(),
            f"{v.difference:+.4f}",
            f"{v.low:+.4f} .. {v.high:+.4f}",
            _p(v.adjusted_p),
            v.outcome,
            f"{v.wins} : {v.losses} of {v.cells}",
        )
        for v in found
    ]
    return markdown(heads, rows)


def compared_markdown(comparisons: Sequence[Comparison], titles: Mapping[str, str]) -> str:
    """A line per comparison within a view, corrected within each view and metric."""
    rows = []
    for view, metric in dict.fromkeys((c.scenario, c.metric) for c in comparisons):
        family = [c for c in comparisons if (c.scenario, c.metric) == (view, metric)]
        adjusted = holm({c.model_b: c.p for c in family})
        rows += [
            (
                f"{view}, {metric.upper()}: {titles[c.model_a]}",
                titles[c.model_b],
                f"{c.difference:+.4f}",
                f"{c.low:+.4f} .. {c.high:+.4f}",
                _p(adjusted[c.model_b]),
                outcome(c.difference, adjusted[c.model_b]),
            )
            for c in family
        ]
    return markdown(["in", "against", "difference", "95 % interval", "p (Holm)", "outcome"], rows)


def _p(adjusted: float) -> str:
    return f"< {LEAST_SHOWN}" if adjusted < LEAST_SHOWN else f"{adjusted:.3f}"


def overall_markdown(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """The macro averages of Table 4: a line per model, both metrics of each forecast."""
    overall = [row for row in rows if row["scenario"] == row["task"] == OVERALL]
    forecasts = tuple(dict.fromkeys(row["forecast"] for row in overall))
    heads = ["model", *(f"{metric.upper()}, {f}" for f in forecasts for metric in METRICS), "seeds"]
    lines = []
    for model in dict.fromkeys(row["model"] for row in overall):
        own = {row["forecast"]: row for row in overall if row["model"] == model}
        cells = [f"{own[f][metric]:.4f}" if f in own else "" for f in forecasts for metric in METRICS]
        lines.append([titles.get(model, model), *cells, str(next(iter(own.values()))["seeds"])])
    return markdown(heads, lines)


def cells_markdown(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Table 4 cell by cell: per scenario and over all of them a line per model, both metrics of each task, each of the
    forecast aimed at it."""
    found = {(row["model"], row["forecast"], row["scenario"], row["task"]): row for row in rows}
    models, tasks = (tuple(dict.fromkeys(row[name] for row in rows)) for name in ("model", "task"))
    parts = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        lines = []
        for model in models:
            cells = [
                " / ".join(f"{found[model, f, scenario, task][metric]:.3f}" for metric, f in AIMED.items())
                for task in tasks
            ]
            lines.append([titles.get(model, model), *cells])
        title = "All scenarios" if scenario == OVERALL else f"Scenario {scenario}"
        parts += [f"## {title}", markdown(["NMAE / SMAPE", *tasks], lines)]
    return "\n\n".join(parts)


def view_markdown(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """A line per model, a column per view and metric."""
    columns = list(dict.fromkeys((row["view"], row["metric"]) for row in rows))
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = {(row["view"], row["metric"]): row for row in rows if row["model"] == model}
        cells = [f"{own[c]['value']:.4f} ({own[c]['low']:.3f} .. {own[c]['high']:.3f})" for c in columns]
        lines.append([titles.get(model, model), *cells])
    return markdown(["model", *(f"{view}, {metric.upper()}" for view, metric in columns)], lines)
