"""What each kind of task makes of the sums over a window of days.

Letters: A advertisers, S scenarios, C calendar days, N rows, M tasks, W windows.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from m2m_model.contracts.spec import DatasetSpec

Window = tuple[int, int]
"""First calendar day, and the one after the last."""


def history_windows(spec: DatasetSpec, begin: int, end: int) -> list[Window]:
    """The weeks before calendar day ``end``, most recent first, then the T days from ``begin`` on."""
    weeks = [(end - 7 * (week + 1), end - 7 * week) for week in range(spec.history_weeks)]
    return [*weeks, (begin, end)]


def running_totals(calendar: np.ndarray) -> np.ndarray:
    """[A, S, C, ...] -> [A, S, C + 1, ...]: entry c is the sum of the days before c. Exact on integers."""
    padding = [(0, 0), (0, 0), (1, 0)] + [(0, 0)] * (calendar.ndim - 3)
    return np.pad(np.cumsum(calendar, axis=2), padding)


def window_sums(totals: np.ndarray, a: np.ndarray, s: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
    """Running totals [A, S, C + 1, ...] to sums [N, ..., W] of rows (a, s). Exact on integers."""
    return np.stack([totals[a, s, stop] - totals[a, s, start] for start, stop in windows], axis=-1)


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
