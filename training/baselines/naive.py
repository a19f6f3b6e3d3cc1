"""Naive forecasts from the rows' own weekly values.

Letters: N rows, M tasks, H history values of a task (weekly values, most recent first, then that of T days).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec
from training.forecast import Forecasts

DAYS_OF_A_WEEK = 7
NaiveRule = Callable[[Float[np.ndarray, "N M H"], DatasetSpec], Float[np.ndarray, "N M"]]


def last_7_days(history: Float[np.ndarray, "N M H"], spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """The most recent week's value, scaled to the horizon."""
    forecast: Float[np.ndarray, "N M"] = history[..., 0] * weeks_ahead(spec)
    return forecast


def mean_28_days(history: Float[np.ndarray, "N M H"], spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """The mean of the most recent four weekly values, scaled to the horizon."""
    _need_weeks(spec, 4, "mean_28_days")
    forecast: Float[np.ndarray, "N M"] = history[..., :4].mean(axis=-1) * weeks_ahead(spec)
    return forecast


def median_5_weeks(history: Float[np.ndarray, "N M H"], spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """The median of the most recent five weekly values, scaled to the horizon."""
    _need_weeks(spec, 5, "median_5_weeks")
    forecast: Float[np.ndarray, "N M"] = np.median(history[..., :5], axis=-1) * weeks_ahead(spec)
    return forecast


@dataclass(frozen=True, kw_only=True)
class NaiveForecaster:
    """A rule on the history, bounded by what the horizon can hold (``daily_max`` times horizon)."""

    rule: NaiveRule
    spec: DatasetSpec
    quantiles: bool = False

    def __call__(self, batch: Batch) -> Forecasts:
        return Forecasts.single(self.of_history(batch.history.double().numpy()))

    def of_history(self, history: Float[np.ndarray, "N M H"]) -> Float[np.ndarray, "N M"]:
        forecast: Float[np.ndarray, "N M"] = np.minimum(self.rule(history, self.spec), upper_bounds(self.spec))
        return forecast


def weeks_ahead(spec: DatasetSpec) -> Float[np.ndarray, "M"]:
    """What makes a weekly value one of the horizon: its weeks of an amount; rates and outcomes stay."""
    return np.array([spec.horizon / DAYS_OF_A_WEEK if task.kind in AMOUNTS else 1.0 for task in spec.tasks])


def upper_bounds(spec: DatasetSpec) -> Float[np.ndarray, "M"]:
    """The largest possible label of each task, infinite where a day has no bound."""
    return np.array([task.largest_label(spec.horizon) for task in spec.tasks])


def _need_weeks(spec: DatasetSpec, weeks: int, name: str) -> None:
    if spec.history_weeks < weeks:
        raise UserError(
            f"baseline {name} needs sequence.history_weeks >= {weeks}, however: {spec.history_weeks}; "
            "raise it and rebuild the dataset"
        )
