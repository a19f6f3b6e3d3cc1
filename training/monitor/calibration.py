"""Bias, reliability and the probability integral transform, as sums over rows.

Letters: N rows, M tasks, A amounts (tasks with quantiles), Q quantiles, B bins.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec

Key = tuple[str, str]
"""(segment, scenario)"""
Members = list[tuple[Key, Bool[np.ndarray, "N"]]]
"""The rows of every (segment, scenario), see :func:`training.metrics.segment_rows`."""
LEVELS = np.array(list(QUANTILES.values()))
RELATIVE_EDGES = np.geomspace(0.02, 50.0, 12)
"""Bins of mean forecasts, in mean training labels."""


def probability_bins(
    quantiles: Float[np.ndarray, "N A Q"], labels: Float[np.ndarray, "N A"]
) -> Float[np.ndarray, "N A Q1"]:
    """What every label adds to the histogram of its probability integral transform, 1 in all.

    The bins are those between neighbouring levels, 0 and 1 at the ends. A label that several quantiles equal, as the
    many zeros do, has a step of the distribution function for its transform, and is spread over the bins that the step
    may touch, by their width (the nonrandomised PIT of Czado, Gneiting and Held 2009, as far as quantiles tell). So a
    calibrated forecast of counts gives bins as wide as they are high, up to that spread at the step's ends.

    Example:
        >>> quantiles = np.array([[[0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]]])
        >>> probability_bins(quantiles, np.array([[1.5]]))[0, 0].tolist()
        [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        >>> probability_bins(quantiles, np.array([[0.0]]))[0, 0].round(2).tolist()
        [0.1, 0.1, 0.3, 0.5, 0.0, 0.0, 0.0, 0.0]
    """
    below = (quantiles < labels[..., None]).sum(axis=2)[..., None]
    at_most = (quantiles <= labels[..., None]).sum(axis=2)[..., None]
    position, widths = np.arange(len(LEVELS) + 1), np.diff(LEVELS, prepend=0.0, append=1.0)
    touched = np.where((position >= below) & (position <= at_most), widths, 0.0)
    spread: Float[np.ndarray, "N A Q1"] = touched / touched.sum(axis=2, keepdims=True)
    return spread


def forecast_edges(spec: DatasetSpec) -> Float[np.ndarray, "M B"]:
    """Inner edges of the bins of each task's mean forecasts."""
    probabilities = np.linspace(0, 1, len(RELATIVE_EDGES) + 2)[1:-1]
    rows = [probabilities if t.kind == "binary" else RELATIVE_EDGES * max(t.mean_label, 1e-6) for t in spec.tasks]
    return np.stack(rows)


@dataclass(frozen=True, kw_only=True)
class CalibrationSums:
    """Per (segment, scenario): rows by bin of the mean forecast, and by bin of the transform."""

    spec: DatasetSpec
    reliability: dict[Key, Float[np.ndarray, "M B1 3"]] = field(default_factory=dict)
    """Weights (rows; of a rate: exposures), weighted forecasts, weighted labels."""
    transforms: dict[Key, Float[np.ndarray, "A Q1"]] = field(default_factory=dict)

    @property
    def amounts(self) -> list[int]:
        return [index for index, task in enumerate(self.spec.tasks) if task.kind in AMOUNTS]

    def add(
        self,
        members: Members,
        means: Float[np.ndarray, "N M"],
        labels: Float[np.ndarray, "N M"],
        exposures: Float[np.ndarray, "N M"],
        quantiles: Float[np.ndarray, "N A Q"] | None,
    ) -> None:
        edges = forecast_edges(self.spec)
        bins = np.stack([np.searchsorted(e, column, side="right") for e, column in zip(edges, means.T, strict=True)])
        terms = np.stack([exposures, exposures * means, exposures * labels], axis=2)
        spread = None if quantiles is None else probability_bins(quantiles, labels[:, self.amounts])
        for key, chosen in members:
            sums = self.reliability.setdefault(key, np.zeros((len(edges), edges.shape[1] + 1, 3)))
            for task, of_task in enumerate(bins):
                np.add.at(sums[task], of_task[chosen], terms[chosen, task])
            if spread is not None:
                self.transforms[key] = self.transforms.get(key, 0.0) + spread[chosen].sum(axis=0)

    def bias(self, key: Key, task: int) -> float:
        """Sum of mean forecasts over sum of labels, less 1; NaN without any label mass."""
        _, forecast, label = self.reliability[key][task].sum(axis=0)
        return float(forecast / label - 1) if label > 0 else float("nan")

    def overall_bias(self, segment: str, task: int) -> float:
        """The same over all scenarios."""
        parts = [sums[task].sum(axis=0) for (of, _), sums in self.reliability.items() if of == segment]
        _, forecast, label = np.sum(parts, axis=0) if parts else (0.0, 0.0, 0.0)
        return float(forecast / label - 1) if label > 0 else float("nan")

    def reliability_rows(self) -> list[dict[str, Any]]:
        """A line per cell and bin that has rows: mean forecast and mean label there."""
        return [
            {
                "segment": segment,
                "scenario": scenario,
                "task": self.spec.task_names[task],
                "weight": float(weight),
                "forecast": float(forecast / weight),
                "label": float(label / weight),
            }
            for (segment, scenario), sums in sorted(self.reliability.items())
            for task, bins in enumerate(sums)
            for weight, forecast, label in bins
            if weight > 0
        ]

    def overall_transform(self, segment: str) -> Float[np.ndarray, "A Q"] | None:
        """Share of labels below each quantile of each amount, over all scenarios; None without quantiles."""
        parts = [sums for (of, _), sums in self.transforms.items() if of == segment]
        return _shares_below(np.sum(parts, axis=0)) if parts else None

    def calibration_rows(self) -> list[dict[str, Any]]:
        """A line per cell and level: the share of labels below the quantile, ties spread."""
        names = [self.spec.task_names[index] for index in self.amounts]
        return [
            {"segment": segment, "scenario": scenario, "task": task, "level": float(level), "share": float(share)}
            for (segment, scenario), sums in sorted(self.transforms.items())
            for task, shares in zip(names, _shares_below(sums), strict=True)
            for level, share in zip(LEVELS, shares, strict=True)
        ]


def _shares_below(sums: Float[np.ndarray, "A Q1"]) -> Float[np.ndarray, "A Q"]:
    shares: Float[np.ndarray, "A Q"] = sums[:, :-1].cumsum(axis=1) / sums.sum(axis=1, keepdims=True)
    return shares
