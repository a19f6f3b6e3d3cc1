"""What of a night's report is beyond the thresholds of ``[monitor]``."""

import datetime
from collections.abc import Iterator

from m2m_model.contracts.schema import QUANTILES
from training.monitor.config import MonitorConfig
from training.monitor.report import Drift, Inputs, Scored
from training.monitor.scores import MODEL
from training.nightly.summary import Alert

SNAPSHOTS = ("profile", "scenarios")
"""Raw tables that need not have a file for every day."""
AIMED = {"nmae": "point", "smape": "smape"}
"""The forecast that is aimed at a metric."""
NAMED = 5
OF_A_DAY = "scenario."
"""Features with one value per scenario and day."""


def find_alerts(
    scored: Scored, drift: Drift, inputs: Inputs, config: MonitorConfig, *, needed: datetime.date
) -> tuple[Alert, ...]:
    """``needed``: the newest day of facts that the night reads."""
    return (*_scores(scored, config), *_drift(drift, config), *_inputs(inputs, config, needed))


def _scores(scored: Scored, config: MonitorConfig) -> Iterator[Alert]:
    if scored.missing:
        if scored.due:
            yield Alert(check="scored", value="missing", threshold="scored", message=scored.missing)
        return
    unmatched = 1 - scored.scored / scored.predicted if scored.predicted else 0.0
    if unmatched > config.unmatched:
        message = f"{scored.predicted - scored.scored:,} of {scored.predicted:,} predictions have no label"
        yield Alert(check="unmatched", value=round(unmatched, 4), threshold=config.unmatched, message=message)
    ours = {row.forecast: row for row in scored.overall if row.forecaster == MODEL}
    if not ours or ours["mean"].rows < config.min_rows:
        return
    for metric, limit in (("nmae", config.nmae_over_naive), ("smape", config.smape_over_naive)):
        naive = {r.forecaster: v for r in scored.overall if r.forecaster != MODEL and (v := getattr(r, metric))}
        value = getattr(ours[AIMED[metric]], metric)
        if not naive or value is None:
            continue
        best = min(naive, key=lambda name: naive[name])
        if value / naive[best] > limit:
            message = f"{metric.upper()} {value:.3f} as of {scored.as_of}; {best} has {naive[best]:.3f}"
            check = f"{metric}_over_naive"
            yield Alert(check=check, value=round(value / naive[best], 4), threshold=limit, message=message)
    for task, bias in scored.bias.items():
        if bias is not None and abs(bias) > config.bias:
            message = f"mean forecasts of {task} as of {scored.as_of} sum to {bias:+.0%} of what came"
            yield Alert(check=f"bias.{task}", value=round(bias, 4), threshold=config.bias, message=message)
    for task, shares in scored.calibration.items():
        distances = {name: abs(share - QUANTILES[name]) for name, share in shares.items() if share is not None}
        worst = max(distances, key=lambda name: distances[name], default=None)
        if worst is not None and distances[worst] > config.calibration:
            message = f"{shares[worst]:.0%} of the labels of {task} lie below the {QUANTILES[worst]:.0%} quantile"
            yield Alert(
                check=f"calibration.{task}",
                value=round(distances[worst], 4),
                threshold=config.calibration,
                message=message,
            )


def _drift(drift: Drift, config: MonitorConfig) -> Iterator[Alert]:
    psi = {name: value for name, value in drift.psi.items() if value is not None and not name.startswith(OF_A_DAY)}
    drifted = {name: value for name, value in psi.items() if value > config.psi}
    if drift.missing:
        yield Alert(check="drift", value="missing", threshold="measured", message=drift.missing)
    if len(drifted) > config.drifted_features:
        worst = ", ".join(f"{name} {value:.2f}" for name, value in list(drifted.items())[:NAMED])
        message = f"{len(drifted)} features lie beyond PSI {config.psi} from training: {worst}"
        yield Alert(check="drift", value=len(drifted), threshold=config.drifted_features, message=message)
    for name, share in drift.unseen.items():
        if share is not None and share > config.unseen:
            message = f"{share:.1%} of the ids of {name} were never seen in training"
            yield Alert(check=f"unseen.{name}", value=round(share, 4), threshold=config.unseen, message=message)


def _inputs(inputs: Inputs, config: MonitorConfig, needed: datetime.date) -> Iterator[Alert]:
    for table, newest in inputs.newest_day.items():
        allowed = config.snapshot_days_behind if table in SNAPSHOTS else config.days_behind
        behind = (needed - newest).days if newest else 0
        if allowed is not None and behind > allowed:
            message = f"raw table {table} has no files after {newest}, the night reads up to {needed}"
            yield Alert(check=f"days_behind.{table}", value=behind, threshold=allowed, message=message)
    for table in inputs.without_files:
        limit = config.snapshot_days_behind if table in SNAPSHOTS else config.days_behind
        if limit is not None:
            message = f"raw table {table} has no files of any day that the night reads"
            yield Alert(check=f"days_behind.{table}", value="no files", threshold=limit, message=message)
    for table, of_day in inputs.tables.items():
        if of_day.usual_rows:
            message = f"raw table {table} has {of_day.rows:,} rows of {needed}, {of_day.usual_rows:,.0f} are usual"
            yield from _outside(f"table_rows.{table}", of_day.rows / of_day.usual_rows, config.table_rows, message)
    for scenario, volume in inputs.scenarios.items():
        if volume.usual_rows:
            ratio = volume.rows / volume.usual_rows
            message = f"{scenario} has {volume.rows:,} rows, {volume.usual_rows:,.0f} are usual"
            yield from _outside(f"scenario_rows.{scenario}", ratio, config.scenario_rows, message)
        if volume.active_rows < config.min_rows:
            continue
        for task, change in volume.activity.items():
            if change is not None:
                message = f"{task} in {scenario} was {change:.2f} times its usual sum in the newest week"
                yield from _outside(f"activity.{scenario}.{task}", change, config.activity, message)


def _outside(check: str, value: float, bounds: tuple[float, float], message: str) -> Iterator[Alert]:
    low, high = bounds
    if not low <= value <= high:
        yield Alert(check=check, value=round(value, 4), threshold=low if value < low else high, message=message)
