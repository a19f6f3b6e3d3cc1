"""The numbers of the overview page, as plain data for its script."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from m2m_model.contracts.drift import LARGE, MODERATE
from training.dashboard.read import Findings, Night
from training.metrics import AIMED, HEADLINE, OVERALL
from training.monitor.alerts import OF_A_DAY
from training.monitor.report import Drift
from training.monitor.scores import MODEL

SHOWN_FEATURES = 25


def overview(findings: Findings) -> dict[str, Any]:
    """By section; an empty one is left out of the page."""
    scored = [night for night in findings.nights if night.tables.get("scores")]
    return {
        "errors": [line for night in scored for line in _errors(night)],
        "worse": _worse(scored[-1]) if scored else None,
        "reliability": _reliability(scored[-1]) if scored else None,
        "drift": _drift(findings.nights),
        "inputs": _inputs(findings.nights),
        "training": _training(findings),
        "evaluation": [
            {
                "model": row.model,
                "forecast": row.forecast,
                "nmae": _number(row.nmae),
                "smape": _number(row.smape),
            }
            for row in findings.metrics
            if (row.segment, row.scenario, row.task) == (HEADLINE, OVERALL, OVERALL)
        ],
    }


def _errors(night: Night) -> Iterable[dict[str, Any]]:
    """Of one day, per scenario and task: the aimed forecasts' errors and the best naive ones'."""
    best: dict[tuple[str, str], dict[str, float]] = {}
    for line in night.tables["scores"]:
        cell = best.setdefault((line["scenario"], line["task"]), {})
        for metric, forecast in AIMED.items():
            value = line[metric]
            if value is None or math.isnan(value):
                continue
            if line["model"] != MODEL:
                name = f"naive_{metric}"
                cell[name] = min(value, cell.get(name, math.inf))
            elif line["forecast"] == forecast:
                cell[metric] = value
        if line["model"] == MODEL and line["bias"] is not None:
            cell["bias"] = line["bias"]
    for (scenario, task), cell in best.items():
        rounded = {name: _number(value) for name, value in cell.items()}
        yield {"day": str(night.report.scored.as_of), "scenario": scenario, "task": task, **rounded}


def _worse(night: Night) -> dict[str, Any]:
    """The newest scored day's ratio to the best naive forecast, per cell; above 1 the model is worse."""
    cells = [line for line in _errors(night) if OVERALL not in (line["scenario"], line["task"])]
    found: dict[str, Any] = {"day": str(night.report.scored.as_of)}
    found["scenarios"] = list(dict.fromkeys(cell["scenario"] for cell in cells))
    found["tasks"] = list(dict.fromkeys(cell["task"] for cell in cells))
    for metric in AIMED:
        found[metric] = {
            f"{cell['scenario']}|{cell['task']}": _number(cell[metric] / cell[f"naive_{metric}"])
            for cell in cells
            if cell.get(metric) is not None and cell.get(f"naive_{metric}")
        }
    return found


def _reliability(night: Night) -> dict[str, Any]:
    """Forecast against what came, by task, and the shares below quantiles where there are any."""
    sums: dict[str, dict[int, list[float]]] = {}
    position: dict[tuple[str, str], int] = {}
    for line in night.tables.get("reliability", []):
        number = position[line["task"], line["scenario"]] = position.get((line["task"], line["scenario"]), -1) + 1
        cell = sums.setdefault(line["task"], {}).setdefault(number, [0.0, 0.0, 0.0])
        for index, value in enumerate((1.0, line["forecast"], line["label"])):
            cell[index] += line["weight"] * value
    points = {
        task: [[_number(forecast / weight), _number(label / weight)] for weight, forecast, label in cells.values()]
        for task, cells in sums.items()
    }
    return {
        "day": str(night.report.scored.as_of),
        "points": points,
        "quantiles": night.report.scored.calibration,
    }


def _drift(nights: list[Night]) -> dict[str, Any] | None:
    measured = [(night.report.date, _comparable(night.report.drift)) for night in nights if night.report.drift.psi]
    if not measured:
        return None
    day, newest = measured[-1]
    return {
        "day": str(day),
        "features": [[name, psi] for name, psi in list(newest.items())[:SHOWN_FEATURES]],
        "others": max(0, len(newest) - SHOWN_FEATURES),
        "bounds": [MODERATE, LARGE],
        "over_time": [
            {
                "day": str(date),
                "largest": max((value for value in psi.values() if value is not None), default=None),
                "beyond": sum(value is not None and value > LARGE for value in psi.values()),
            }
            for date, psi in measured
        ],
    }


def _comparable(drift: Drift) -> dict[str, float | None]:
    """A day has one value of a scenario attribute per scenario: its PSI says nothing."""
    return {name: psi for name, psi in drift.psi.items() if not name.startswith(OF_A_DAY)}


def _inputs(nights: list[Night]) -> dict[str, Any] | None:
    known = [night.report for night in nights if not night.report.inputs.missing]
    if not known:
        return None
    newest = known[-1]
    return {
        "day": str(newest.date),
        "built_at": newest.inputs.built_at,
        "tables": {table: None if day is None else str(day) for table, day in newest.inputs.newest_day.items()},
        "dropped": newest.inputs.dropped,
        "volume": [
            {"day": str(report.date), "scenario": scenario, "rows": volume.rows}
            for report in known
            for scenario, volume in report.inputs.scenarios.items()
        ],
        "activity": {scenario: dict(volume.activity) for scenario, volume in newest.inputs.scenarios.items()},
    }


def _training(findings: Findings) -> dict[str, Any] | None:
    if findings.training is None:
        return None
    epochs: list[Mapping[str, Any]] = findings.training["epochs"]
    return {
        "version": findings.model_version,
        "parameters": findings.training["parameters"],
        "epochs": [[e["epoch"] + 1, e["step"], _number(e["train"]), _number(e["validation"])] for e in epochs],
    }


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)
