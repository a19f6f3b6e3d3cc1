"""AUC and log loss of binary tasks, and how often labels lie below forecast quantiles, as sums that merge.

Letters: N rows, M binary tasks (or tasks with quantiles), Q quantiles, H bins of the log-odds.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float

BINS = 4096
"""Bins of the log-odds over :data:`RANGE`: AUC counts pairs within one as ties."""
RANGE = (-16.0, 16.0)
Rows = Iterable[tuple[tuple[str, str], Bool[np.ndarray, "N"]]]
"""The rows of every (segment, scenario), see :func:`training.metrics.segment_rows`."""


@dataclass(frozen=True, kw_only=True)
class OutcomeSums:
    """Histograms of the forecast log-odds of negatives and positives, and summed log losses."""

    tasks: tuple[str, ...]
    histograms: dict[tuple[str, str], Float[np.ndarray, "M 2 H"]] = field(default_factory=dict)
    losses: dict[tuple[str, str], Float[np.ndarray, "M"]] = field(default_factory=dict)

    def add(self, rows: Rows, probabilities: Float[np.ndarray, "N M"], labels: Float[np.ndarray, "N M"]) -> None:
        """Add rows; labels are 0 or 1."""
        clipped = probabilities.clip(1e-12, 1 - 1e-12)
        losses = -np.log(np.where(labels > 0, clipped, 1 - clipped))
        low, high = RANGE
        position = ((np.log(clipped / (1 - clipped)) - low) / (high - low) * BINS).clip(0, BINS - 1).astype(int)
        flat = (np.arange(len(self.tasks)) * 2 + (labels > 0)) * BINS + position
        for key, chosen in rows:
            counts = np.bincount(flat[chosen].ravel(), minlength=len(self.tasks) * 2 * BINS).astype(float)
            _accumulate(self.histograms, key, counts.reshape(len(self.tasks), 2, BINS))
            _accumulate(self.losses, key, losses[chosen].sum(axis=0))

    def merge(self, other: Self) -> Self:
        """The sums of both, as if one worker had seen all rows."""
        return type(self)(
            tasks=self.tasks,
            histograms=_merged(self.histograms, other.histograms),
            losses=_merged(self.losses, other.losses),
        )

    def rows(self, *, model: str) -> list[dict[str, Any]]:
        """A line per segment, scenario and task; AUC is NaN where one outcome never occurs."""
        return [
            {
                "model": model,
                "segment": segment,
                "scenario": scenario,
                "task": task,
                "auc": area_under_curve(*histogram),
                "log_loss": float(losses[index] / histogram.sum()),
                "positives": int(histogram[1].sum()),
                "n": int(histogram.sum()),
            }
            for (segment, scenario), losses in sorted(self.losses.items())
            for index, (task, histogram) in enumerate(zip(self.tasks, self.histograms[segment, scenario], strict=True))
        ]


@dataclass(frozen=True, kw_only=True)
class CoverageSums:
    """How many labels lie at or below each forecast quantile."""

    tasks: tuple[str, ...]
    quantiles: Mapping[str, float]
    cells: dict[tuple[str, str], Float[np.ndarray, "M Q1"]] = field(default_factory=dict)
    """Counts by quantile, then the rows."""

    def add(self, rows: Rows, forecasts: Float[np.ndarray, "N M Q"], labels: Float[np.ndarray, "N M"]) -> None:
        at_most = labels[..., None] <= forecasts
        counted = np.concatenate([at_most, np.ones_like(at_most[..., :1])], axis=2).astype(float)
        for key, chosen in rows:
            _accumulate(self.cells, key, counted[chosen].sum(axis=0))

    def merge(self, other: Self) -> Self:
        """The sums of both, as if one worker had seen all rows."""
        return type(self)(tasks=self.tasks, quantiles=self.quantiles, cells=_merged(self.cells, other.cells))

    def rows(self, *, model: str) -> list[dict[str, Any]]:
        """A line per segment, scenario, task and quantile: its level and the share of labels at or below it.

        Where many labels are 0, more of them than the level may lie at or below a quantile of 0.
        """
        return [
            {
                "model": model,
                "segment": segment,
                "scenario": scenario,
                "task": task,
                "level": level,
                "share": float(counts[position] / counts[-1]),
                "n": int(counts[-1]),
            }
            for (segment, scenario), per_task in sorted(self.cells.items())
            for task, counts in zip(self.tasks, per_task, strict=True)
            for position, level in enumerate(self.quantiles.values())
        ]


def area_under_curve(negatives: Float[np.ndarray, "H"], positives: Float[np.ndarray, "H"]) -> float:
    """The share of (positive, negative) pairs in the right order, ties half, from counts by ascending score."""
    pairs = negatives.sum() * positives.sum()
    below = np.cumsum(negatives) - negatives / 2
    return float((positives * below).sum() / pairs) if pairs else math.nan


def lines_csv(lines: list[dict[str, Any]]) -> str:
    """Lines with the same keys as CSV, one header line; no lines, no header."""
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()


def _accumulate(cells: dict[tuple[str, str], np.ndarray], key: tuple[str, str], sums: np.ndarray) -> None:
    cells[key] = cells[key] + sums if key in cells else sums


def _merged(
    one: Mapping[tuple[str, str], np.ndarray], other: Mapping[tuple[str, str], np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    merged = dict(one)
    for key, sums in other.items():
        _accumulate(merged, key, sums)
    return merged
