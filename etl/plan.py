"""What the kernel of a build is told: the as-of days, and everything beside the facts that rows are made of."""

import datetime
from dataclasses import dataclass

import numpy as np

from etl.facts import Source
from m2m_model.contracts.spec import DatasetSpec


@dataclass(frozen=True)
class AsOf:
    """One as-of day of the build."""

    date: datetime.date
    day: int
    """Days since ``raw.first_day``."""
    split: str
    population: str
    """``own`` or ``live``, see ``PopulationConfig``."""


@dataclass(frozen=True)
class WindowPlan:
    """Everything the kernel needs beside the facts; small, sent to every task."""

    spec: DatasetSpec
    sources: tuple[Source, ...]
    scenarios: tuple[str, ...]
    as_of: tuple[AsOf, ...]
    last_day: int
    """Last day of the raw calendar, counted from its first."""
    attribute_ids: np.ndarray
    """[K, S, attributes]"""
    live: np.ndarray
    """[K, S]"""
    labels: bool
    replay: bool = False
    """Whether features are of what was known on each as-of day, see :mod:`etl.replay`."""

    @property
    def start(self) -> int:
        """First calendar day that any window needs."""
        return min(a.day for a in self.as_of) - self.spec.availability_lag_days - self.spec.history_days + 1

    @property
    def days(self) -> int:
        """C: calendar days from ``start`` to the end of the last label window."""
        return max(a.day for a in self.as_of) + self.spec.horizon - self.start + 1

    def window(self, index: int) -> tuple[int, int]:
        """First calendar day of an as-of day's T days, and the first after them."""
        end = self.as_of[index].day - self.spec.availability_lag_days - self.start + 1
        return end - self.spec.sequence_length, end
