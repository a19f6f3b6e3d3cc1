"""What a study's cells say without resampling: every period's metrics, pooled ones too, and what a model costs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import median, mode
from typing import Any

import numpy as np

from m2m_model.contracts.schema import QUANTILES
from training.compare.intervals import METRICS, TERMS, Resamples, macro, ratio
from training.compare.results import Results
from training.compare.tables import markdown
from training.metrics import OVERALL

PERIOD_COLUMNS = ("model", "forecast", "period", "scenario", "task", "nmae", "smape", "seeds")
CALIBRATION_COLUMNS = ("model", "scenario", "task", "level", "below", "at_most")
NEAR = 0.02
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
                values[metric] = macro(ratio(*parts)[None])[0]
                pooled[metric] = ratio(*(part.sum(axis=0) for part in parts))
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
        of_model = [about for about in _about(results, model) if "fit_seconds" in about]
        if of_model:
            seconds = [float(about["fit_seconds"]) for about in of_model]
            parameters = of_model[0].get("parameters", "")
            counted = f"{int(parameters):,}" if parameters else ""
            lines.append([titles.get(model, model), counted, f"{median(seconds):.0f}", f"{max(seconds):.0f}"])
    return markdown(["model", "parameters", "seconds, median", "seconds, longest"], lines) if lines else ""


def calibration(results: Results) -> Iterator[dict[str, Any]]:
    """By model, scenario, task and quantile: the shares of labels below the forecast quantile and at most it, over all
    periods and seeds. A calibrated one has its level between them; where 0 is common they are far apart."""
    for model in results.models:
        told = [json.loads(about["calibration"]) for about in _about(results, model) if "calibration" in about]
        for scenario, task in sorted({(name, task) for one in told for name in one for task in one[name]}):
            sums = np.sum([one[scenario][task] for one in told if scenario in one], axis=0)
            for level, (below, at_most, rows) in zip(QUANTILES.values(), sums, strict=True):
                about = {"model": model, "scenario": scenario, "task": task, "level": level}
                yield about | {"below": float(below / rows), "at_most": float(at_most / rows)}


def calibration_markdown(lines: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """A line per model: by level, the mean shares over scenarios and tasks; then the share of cells whose level lies
    between theirs or within .02 of them."""
    rows = []
    for model in dict.fromkeys(line["model"] for line in lines):
        own = [line for line in lines if line["model"] == model]
        means = []
        for level in QUANTILES.values():
            at_level = [line for line in own if line["level"] == level]
            below, at_most = (np.mean([line[name] for line in at_level]) for name in ("below", "at_most"))
            means.append(f"{below:.3f} .. {at_most:.3f}")
        good = [line["below"] - NEAR <= line["level"] <= line["at_most"] + NEAR for line in own]
        rows.append([titles.get(model, model), *means, f"{np.mean(good):.0%}"])
    return markdown(["model", *map(str, QUANTILES.values()), "calibrated cells"], rows)


def unseen_markdown(results: Results, titles: Mapping[str, str]) -> str:
    """A line per model: its errors on advertisers that training has not seen, the mean over seeds, then periods.

    Who is unseen depends on the rows that a model is trained on. Models whose training has seen others than
    that of the largest group of models are left out: their errors are of other rows.
    """
    told: dict[str, dict[str, list[Mapping[str, float]]]] = {}
    for key, about in results.about.items():
        if key.seed in results.whole_seeds(key.model) and "unseen" in about:
            told.setdefault(key.model, {}).setdefault(key.period, []).append(json.loads(about["unseen"]))
    whom = {
        model: tuple((period, seeds[0]["advertisers"], seeds[0]["rows"]) for period, seeds in sorted(periods.items()))
        for model, periods in told.items()
    }
    most = mode(whom.values()) if whom else ()
    rows = []
    for model in (model for model in results.models if whom.get(model) == most):
        nmae, smape, count = (
            np.nanmean([np.mean([one[name] for one in seeds]) for seeds in told[model].values()])
            for name in ("nmae", "smape", "rows")
        )
        rows.append([titles.get(model, model), f"{nmae:.4f}", f"{smape:.4f}", f"{count:,.0f}", str(len(told[model]))])
    return markdown(["model", "NMAE, point", "SMAPE, smape", "rows a period", "periods"], rows) if rows else ""


def _about(results: Results, model: str) -> Iterator[Mapping[str, str]]:
    seeds = results.whole_seeds(model)
    return (about for key, about in results.about.items() if key.model == model and key.seed in seeds)


def _everybody(results: Results, period: str) -> Resamples:
    """The rows as they are, those of ``evaluation.leave_out`` included."""
    random, left_out = np.random.default_rng(0), results.has_left_out
    return Resamples.draw(random, resamples=1, weeks=results.weeks(period), with_left_out=left_out)
