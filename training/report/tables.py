"""The metrics of an evaluation as tables for the report, and as CSV for machines."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.metrics import HEADLINE, OVERALL, SEGMENTS, MetricRow

COLUMNS = ("model", "scenario", "task", "forecast", "nmae", "smape", "n")
HISTORY_COLUMNS = ("model", "segment", *COLUMNS[1:])
WORST_SHADE = 0.4
"""A value this much above the best of its row gets the deepest shade."""
BEST_COLOUR, WORST_COLOUR = (255, 255, 255), (230, 159, 0)


@dataclass(frozen=True, kw_only=True)
class Cell:
    text: str
    colour: str = ""
    best: bool = False


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
    """Overall NMAE and SMAPE of both forecasts, per model; the best of a column is marked."""
    kinds = [(metric, forecast) for metric in ("nmae", "smape") for forecast in ("mean", "point")]
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


def history_table(metrics: Metrics, forecast: str = "point") -> Table:
    """Macro averages over scenario x task cells per model, for every segment that has rows."""
    rows = []
    segments = {segment for segment, *_ in metrics.rows}
    for segment in (s for s in SEGMENTS if s in segments):
        for metric in ("nmae", "smape"):
            values = [metrics.overall(metric, model=m, forecast=forecast, segment=segment) for m in metrics.models]
            rows.append(((segment.replace("_", " "), metric.upper()), shade(values)))
    title = f"With and without own history, {forecast} forecast"
    return Table(title=title, heads=("pairs", "metric"), columns=metrics.models, rows=tuple(rows))


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
    return Cell(text=f"{value:.3f}", colour="rgb({},{},{})".format(*mixed), best=value == best)


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
