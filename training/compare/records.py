"""What a study's cells say without resampling: every period's metrics, pooled ones too, and what a model costs."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

import numpy as np

from training.compare.intervals import METRICS, TERMS, Resamples, macro
from training.compare.results import Results
from training.compare.tables import markdown
from training.metrics import OVERALL

PERIOD_COLUMNS = ("model", "forecast", "period", "scenario", "task", "nmae", "smape", "seeds")
POOLED = "pooled"
"""The rows of all scenarios together, where macro averages count every scenario alike."""


def by_period(results: Results) -> Iterator[dict[str, Any]]:
    """Both metrics of every model, forecast, period, scenario and task: cells, macro averages, and per task pooled."""
    shape = results.shape()
    names = [(*shape.scenarios, OVERALL), (*shape.tasks, OVERALL)]
    for model, period in ((model, period) for model in results.models for period in results.periods):
        cells, everybody = results.seeds(model, period), _everybody(results, period)
        for forecast in sorted(set.intersection(*(set(cell.forecasts) for cell in cells))):
            values, pooled = {}, {}
            for metric in METRICS:
                above, below = TERMS[metric]
                sums = np.mean([cell.forecasts[forecast] for cell in cells], axis=0)
                parts = [everybody.total(sums[part])[0] for part in (above, below)]
                values[metric] = macro(_ratio(*parts)[None])[0]
                pooled[metric] = _ratio(*(part.sum(axis=0) for part in parts))
            about = {"model": model, "forecast": forecast, "period": period, "seeds": len(cells)}
            for i, scenario in enumerate(names[0]):
                for j, task in enumerate(names[1]):
                    found = {metric: float(values[metric][i, j]) for metric in METRICS}
                    yield about | {"scenario": scenario, "task": task} | found
            for j, task in enumerate(shape.tasks):
                found = {metric: float(pooled[metric][j]) for metric in METRICS}
                yield about | {"scenario": POOLED, "task": task} | found
            found = {metric: float(np.nanmean(pooled[metric])) for metric in METRICS}
            yield about | {"scenario": POOLED, "task": OVERALL} | found


def costs_markdown(results: Results, titles: Mapping[str, str]) -> str:
    """A line per model: its parameters, and seconds of fitting a cell on one core; empty if no cell tells."""
    lines = []
    for model in results.models:
        of_model = [about for key, about in results.about.items() if key.model == model and "fit_seconds" in about]
        if of_model:
            seconds = [float(about["fit_seconds"]) for about in of_model]
            parameters = of_model[0].get("parameters", "")
            counted = f"{int(parameters):,}" if parameters else ""
            lines.append([titles.get(model, model), counted, f"{median(seconds):.0f}", f"{max(seconds):.0f}"])
    return markdown(["model", "parameters", "seconds, median", "seconds, longest"], lines) if lines else ""


def _everybody(results: Results, period: str) -> Resamples:
    """The rows as they are, those of ``evaluation.leave_out`` included."""
    random, left_out = np.random.default_rng(0), results.shape().has_left_out
    return Resamples.draw(random, resamples=1, weeks=results.weeks(period), with_left_out=left_out)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.full_like(above, np.nan)
    np.divide(above, below, out=ratio, where=below > 0)
    return ratio
