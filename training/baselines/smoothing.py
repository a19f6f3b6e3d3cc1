"""Seasonal exponential smoothing of each row's own history, by statsforecast.

A row has T days of each ``dense`` column, as log1p. A task whose own daily expression is such a column (in scope
``own``) is smoothed day by day with a season of a week, and the days of the horizon are summed. Of the others, and of
rates and binary tasks, a row has weekly values alone, in which a weekly season does not show: those are smoothed
without one. The smoothing weight is fitted to every series.

Letters: N rows, M tasks, T days, L length of a series.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from statsforecast.models import SeasonalExponentialSmoothingOptimized, SimpleExponentialSmoothingOptimized

from m2m_model.batch import Batch
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec, TaskSpec
from training.baselines.naive import DAYS_OF_A_WEEK, upper_bounds, weeks_ahead
from training.forecast import Forecasts


@dataclass(frozen=True, kw_only=True)
class SmoothingForecaster:
    """See the module docstring; forecasts are bounded by 0 and by what the horizon can hold."""

    spec: DatasetSpec
    quantiles: bool = False

    def __call__(self, batch: Batch) -> Forecasts:
        spec, weekly = self.spec, batch.history.double().numpy()[:, :, -2::-1]
        columns = []
        for index, task in enumerate(spec.tasks):
            position = dense_position(task, spec)
            if position is not None and spec.sequence_length >= 2 * DAYS_OF_A_WEEK:
                daily = np.expm1(batch.dense.double().numpy()[:, position : position + spec.sequence_length])
                columns.append(smooth_days(daily, ahead=spec.availability_lag_days, horizon=spec.horizon))
            else:
                columns.append(smooth_weeks(weekly[:, index]) * weeks_ahead(spec)[index])
        return Forecasts.single(np.clip(np.stack(columns, axis=1), 0.0, upper_bounds(spec)))


def dense_position(task: TaskSpec, spec: DatasetSpec) -> int | None:
    """Where the task's own T daily values begin in a row's dense values; None if they are not there."""
    for number, column in enumerate(spec.dense_columns):
        same = (column.table, column.expr, column.scope) == (task.table, task.expr, "own")
        if same and task.kind in AMOUNTS:
            return number * spec.sequence_length
    return None


def smooth_days(daily: Float[np.ndarray, "N L"], *, ahead: int, horizon: int) -> Float[np.ndarray, "N"]:
    """The sum of ``horizon`` forecast days after the first ``ahead``; a season of 7 days, oldest day first."""
    model = SeasonalExponentialSmoothingOptimized(season_length=DAYS_OF_A_WEEK)
    sums = [_forecast(model, series, ahead + horizon)[ahead:].sum() if series.any() else 0.0 for series in daily]
    return np.array(sums, float)


def smooth_weeks(weekly: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N"]:
    """The smoothed level, oldest week first."""
    model = SimpleExponentialSmoothingOptimized()
    levels = [_forecast(model, series, 1)[0] if series.any() else 0.0 for series in weekly]
    return np.array(levels, float)


def _forecast(
    model: SeasonalExponentialSmoothingOptimized | SimpleExponentialSmoothingOptimized,
    series: Float[np.ndarray, "L"],
    steps: int,
) -> Float[np.ndarray, "steps"]:
    if len(series) < 2:
        return np.repeat(series, steps)
    forecast: Float[np.ndarray, steps] = model.forecast(np.ascontiguousarray(series), steps)["mean"]
    return forecast
