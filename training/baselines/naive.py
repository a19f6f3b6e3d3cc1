"""Naive forecasts from the rows' own weekly sums.

Letters: N rows, M tasks, H history values of a task (weekly sums, most recent first, then the T-day sum).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec

DAYS_OF_A_WEEK = 7
NaiveRule = Callable[[Float[np.ndarray, "N M H"], DatasetSpec], Float[np.ndarray, "N M"]]


def last_7_days(history: Float[np.ndarray, "N M H"], spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """The most recent week's sum, scaled to the horizon."""
    forecast: Float[np.ndarray, "N M"] = history[..., 0] * (spec.horizon / DAYS_OF_A_WEEK)
    return forecast


def mean_28_days(history: Float[np.ndarray, "N M H"], spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """The mean day of the most recent four weeks times the horizon."""
    _need_weeks(spec, 4, "mean_28_days")
    forecast: Float[np.ndarray, "N M"] = history[..., :4].sum(axis=-1) * (spec.horizon / 28)
    return forecast


def median_5_weeks(history: Float[np.ndarray, "N M H"], spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """The median of the most recent five weekly sums, scaled to the horizon."""
    _need_weeks(spec, 5, "median_5_weeks")
    forecast: Float[np.ndarray, "N M"] = np.median(history[..., :5], axis=-1) * (spec.horizon / DAYS_OF_A_WEEK)
    return forecast


@dataclass(frozen=True, kw_only=True)
class NaiveForecaster:
    """A rule on the history, bounded by what the horizon can hold (``daily_max`` times horizon)."""

    rule: NaiveRule
    spec: DatasetSpec

    def __call__(self, batch: Batch) -> Float[np.ndarray, "N M"]:
        forecast = self.rule(batch.history.double().numpy(), self.spec)
        bounded: Float[np.ndarray, "N M"] = np.minimum(forecast, upper_bounds(self.spec))
        return bounded


def upper_bounds(spec: DatasetSpec) -> Float[np.ndarray, "M"]:
    """The largest possible label of each task, infinite where a day has no bound."""
    return np.array([np.inf if t.daily_max is None else float(t.daily_max * spec.horizon) for t in spec.tasks])


def _need_weeks(spec: DatasetSpec, weeks: int, name: str) -> None:
    if spec.history_weeks < weeks:
        raise UserError(
            f"baseline {name} needs sequence.history_weeks >= {weeks}, however: {spec.history_weeks}; "
            "raise it and rebuild the dataset"
        )
