"""The metrics of an evaluation as tables for the report, and as CSV for machines."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from m2m_model.contracts.schema import FORECASTS
from training.metrics import AIMED, HEADLINE, OVERALL, SEGMENTS, MetricRow

COLUMNS = ("model", "scenario", "task", "forecast", "nmae", "smape", "n")
HISTORY_COLUMNS = ("model", "segment", *COLUMNS[1:])
WORST_SHADE = 0.4
"""A value this much above the best of its row gets the deepest shade."""
BEST_COLOUR, WORST_COLOUR = (255, 255, 255), (230, 159, 0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    text: str
    colour: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of (heads, cells); consecutive equal first heads are shown once."""

    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell, ...]], ...]


def parse_metrics(text: str) -> list[MetricRow]:
    """Inverse of :func:`training.metrics.to_csv`."""
    return [
        MetricRow(
            model=line["model"],
            segment=line["segment"],
            scenario=line["scenario"],
            task=line["task"],
            forecast=line["forecast"],
            nmae=float(line["nmae"]),
            smape=float(line["smape"]),
            n=int(line["n"]),
            left_out=int(line["left_out"]),
        )
        for line in csv.DictReader(io.StringIO(text))
    ]


def metrics_csv(rows: Iterable[MetricRow]) -> str:
    """The headline population, columns exactly :data:`COLUMNS`."""
    return _csv(COLUMNS, (row for row in rows if row.segment == HEADLINE))


def history_csv(rows: Iterable[MetricRow]) -> str:
    """All segments, columns exactly :data:`HISTORY_COLUMNS`."""
    return _csv(HISTORY_COLUMNS, rows)


def _csv(columns: Sequence[str], rows: Iterable[MetricRow]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    return text.getvalue()


class Metrics:
    """Look-up by (segment, model, forecast, scenario, task), names in the order of the file."""

    def __init__(self, rows: Sequence[MetricRow]) -> None:
        self.rows = {(r.segment, r.model, r.forecast, r.scenario, r.task): r for r in rows}
        self.models = tuple(dict.fromkeys(r.model for r in rows))
        self.tasks = tuple(dict.fromkeys(r.task for r in rows if r.task != OVERALL))
        cells = [r for r in rows if r.segment == HEADLINE and r.scenario != OVERALL]
        counts = {r.scenario: r.n for r in cells if r.task != OVERALL}
        self.scenarios = tuple(sorted(counts, key=lambda scenario: -counts[scenario]))
        """From head to minor, by eligible test rows."""

    def value(self, metric: str, *, model: str, forecast: str, scenario: str, task: str, segment: str) -> float:
        row = self.rows.get((segment, model, forecast, scenario, task))
        return math.nan if row is None else float(getattr(row, metric))

    def overall(self, metric: str, *, model: str, forecast: str, segment: str = HEADLINE) -> float:
        return self.value(metric, model=model, forecast=forecast, scenario=OVERALL, task=OVERALL, segment=segment)


def headline_table(metrics: Metrics) -> Table:
    """Overall NMAE and SMAPE of every forecast, per model; shaded by column."""
    kinds = [(metric, forecast) for metric in AIMED for forecast in FORECASTS]
    columns = [[metrics.overall(m, model=name, forecast=f) for name in metrics.models] for m, f in kinds]
    shaded = [shade(column) for column in columns]
    rows = tuple(((name,), tuple(column[i] for column in shaded)) for i, name in enumerate(metrics.models))
    heads = tuple(f"{metric.upper()}, {forecast}" for metric, forecast in kinds)
    return Table(title="Overall", heads=("model",), columns=heads, rows=rows)


def cell_table(metrics: Metrics, metric: str, forecast: str) -> Table:
    """One metric of one forecast per task x scenario, models side by side; shades compare within a row."""
    rows = []
    for task in (*metrics.tasks, OVERALL):
        for scenario in (*metrics.scenarios, OVERALL):
            values = [
                metrics.value(metric, model=m, forecast=forecast, scenario=scenario, task=task, segment=HEADLINE)
                for m in metrics.models
            ]
            rows.append(((task, scenario), shade(values)))
    title = f"{metric.upper()} of the {forecast} forecast"
    return Table(title=title, heads=("task", "scenario"), columns=metrics.models, rows=tuple(rows))


def history_table(metrics: Metrics) -> Table:
    """Macro averages over scenario x task cells of the aimed forecasts per model, for every segment that has rows."""
    rows = []
    segments = {segment for segment, *_ in metrics.rows}
    for segment in (s for s in SEGMENTS if s in segments):
        for metric, forecast in AIMED.items():
            values = [metrics.overall(metric, model=m, forecast=forecast, segment=segment) for m in metrics.models]
            rows.append(((segment.replace("_", " "), metric.upper()), shade(values)))
    return Table(
        title="With and without own history", heads=("pairs", "metric"), columns=metrics.models, rows=tuple(rows)
    )


def outcome_table(lines: Sequence[Mapping[str, str]]) -> Table | None:
    """AUC and log loss of binary tasks per scenario, models side by side; None without any.

    ``lines`` are those of ``outcomes.csv``. Shades compare within a row: a large AUC is good, so they are of 1 - AUC.
    """
    lines = [line for line in lines if line["segment"] == HEADLINE]
    if not lines:
        return None
    models = tuple(dict.fromkeys(line["model"] for line in lines))
    keys = dict.fromkeys((line["task"], line["scenario"]) for line in lines)
    found = {(line["model"], line["task"], line["scenario"]): line for line in lines}
    rows = []
    for task, scenario in keys:
        areas = [float(found[model, task, scenario]["auc"]) for model in models]
        shaded = shade([1 - area for area in areas])
        cells = (
            cell if math.isnan(a) else replace(cell, text=f"{a:.3f}") for cell, a in zip(shaded, areas, strict=True)
        )
        rows.append(((task, scenario, "AUC"), tuple(cells)))
        losses = [float(found[model, task, scenario]["log_loss"]) for model in models]
        rows.append(((task, scenario, "log loss"), shade(losses)))
    return Table(title="Binary tasks", heads=("task", "scenario", "metric"), columns=models, rows=tuple(rows))


def coverage_table(lines: Sequence[Mapping[str, str]]) -> Table | None:
    """Shares of labels at or below each forecast quantile, over scenarios, per task; None without any.

    ``lines`` are those of ``coverage.csv``.
    """
    lines = [line for line in lines if line["segment"] == HEADLINE]
    if not lines:
        return None
    levels = tuple(dict.fromkeys(line["level"] for line in lines))
    rows = []
    for model, task in dict.fromkeys((line["model"], line["task"]) for line in lines):
        cells = []
        for level in levels:
            own = [one for one in lines if (one["model"], one["task"], one["level"]) == (model, task, level)]
            share = sum(float(one["share"]) * int(one["n"]) for one in own) / sum(int(one["n"]) for one in own)
            cells.append(Cell(text=f"{share:.3f}"))
        rows.append(((model, task), tuple(cells)))
    columns = tuple(f"at or below the {level} quantile" for level in levels)
    return Table(title="Quantiles", heads=("model", "task"), columns=columns, rows=tuple(rows))


def shade(values: Sequence[float]) -> tuple[Cell, ...]:
    """Cells shaded by how far they lie above the smallest value; NaN stays blank."""
    known = [value for value in values if not math.isnan(value)]
    best = min(known, default=math.nan)
    return tuple(_cell(value, best) for value in values)


def _cell(value: float, best: float) -> Cell:
    if math.isnan(value):
        return Cell(text="–")
    excess = value / best - 1 if best > 0 else float(value > 0)
    share = min(excess / WORST_SHADE, 1.0) * 0.75
    mixed = (round(low + (high - low) * share) for low, high in zip(BEST_COLOUR, WORST_COLOUR, strict=True))
    return Cell(text=f"{value:.3f}", colour="rgb({},{},{})".format(*mixed))


def replay_table(differences: Sequence[Mapping[str, Any]]) -> Table:
    """How features as known on their as-of day differ from matured history (a manifest's ``replay_difference``)."""

    def percent(share: float | None) -> Cell:
        return Cell(text="" if share is None else f"{100 * share:.2f} %")

    return Table(
        title="Known on the day against matured history",
        heads=("feature",),
        columns=("rows that differ", "bucket ids that differ"),
        rows=tuple(
            ((entry["feature"],), (percent(entry["rows_differing"]), percent(entry["ids_differing"])))
            for entry in differences
        ),
    )
