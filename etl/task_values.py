"""What each kind of task makes of the sums over a window of days.

Letters: P pairs (advertiser, scenario), C calendar days, N rows, M tasks, W windows.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec

LARGEST_EXACT = 2.0**53

Window = tuple[int, int]
"""First calendar day, and the one after the last."""
Daily = tuple[tuple[np.ndarray, np.ndarray], np.ndarray]
"""Pairs and calendar days, and the values there."""


def history_windows(spec: DatasetSpec, begin: int, end: int) -> list[Window]:
    """The weeks before calendar day ``end``, most recent first, then the T days from ``begin`` on."""
    weeks = [(end - 7 * (week + 1), end - 7 * week) for week in range(spec.history_weeks)]
    return [*weeks, (begin, end)]


def running_totals(columns: Sequence[Daily], pairs: int, days: int, dtype: type) -> np.ndarray:
    """[P, C + 1, M]: entry c is the sum of the days before c, days without a value being 0. Exact on integers."""
    totals: np.ndarray = np.zeros((pairs, days + 1, len(columns)), dtype)
    for position, ((pair, day), values) in enumerate(columns):
        totals[pair, day + 1, position] = values
    np.cumsum(totals, axis=1, out=totals)
    return totals


def window_sums(totals: np.ndarray, p: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
    """Running totals [P, C + 1, M] to sums [N, M, W] of the pairs ``p``. Exact on integers."""
    starts, stops = zip(*windows, strict=True)
    before, after = np.split(totals[p[:, None], np.array([*starts, *stops])[None, :]], 2, axis=1)
    sums: np.ndarray = (after - before).transpose(0, 2, 1)
    return sums


def task_values(sums: np.ndarray, exposures: Mapping[int, np.ndarray], spec: DatasetSpec) -> np.ndarray:
    """Sums [N, M, W] in units of each task's scale to values: the sum, the rate, or whether it happened.

    ``exposures`` are those of rates [N, W], likewise, by the task's position; a rate without exposure is 0.
    """
    values = sums / 10.0 ** np.array([task.scale for task in spec.tasks])[None, :, None]
    for position, task in enumerate(spec.tasks):
        if task.exposure is not None:
            exposed = exposures[position] / 10.0**task.exposure.scale
            values[:, position] = np.divide(values[:, position], exposed, out=np.zeros_like(exposed), where=exposed > 0)
        elif task.outcome is not None:
            values[:, position] = (values[:, position] > 0) == (task.outcome == "any")
    return values


def refuse_inexact(totals: np.ndarray, spec: DatasetSpec) -> None:
    """Check the sums over the calendar of each pair and task, ``totals`` [P, M].

    Raises:
        UserError: one is beyond what a double holds exactly, so that window sums would be wrong in their last digits.
    """
    largest = totals.max(axis=0, initial=0.0)
    for task, total in zip(spec.tasks, largest, strict=True):
        if total > LARGEST_EXACT:
            raise UserError(
                f"tasks.{task.name}: the sum over all days of one advertiser is {total:.3g} units of 10^-{task.scale}, "
                "more than the 2^53 that a double holds exactly: use coarser units"
            )
