"""Paired intervals for differences between models, resampling advertisers, weeks and seeds together.

A model's sums are averaged over its seeds, which for NMAE and SMAPE is the mean of the seeds' metrics, since all seeds
share a denominator. In a resample, advertiser groups and weeks get multinomial counts, the product of which weighs a
(group, week) block (the pigeonhole bootstrap, Owen 2007: conservative where both matter); both models of a pair see the
same counts. Seeds of different models have nothing in common, so each model draws its own.

Letters: R resamples, K seeds, G advertiser groups, W weeks, S scenarios, M tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from training.compare.sums import GROUPS, LEFT_OUT, SUMS, CellSums
from training.metrics import Metric

METRICS: tuple[Metric, ...] = ("nmae", "smape")
TERMS: dict[Metric, tuple[int, int]] = {
    "nmae": (SUMS.index("absolute_error"), SUMS.index("label")),
    "smape": (SUMS.index("smape"), SUMS.index("rows")),
}
"""Numerator and denominator of each metric."""


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Counts of R resamples of one period, the same for every model: [R, G] and [R, W]."""

    groups: Float[np.ndarray, "R G"]
    weeks: Float[np.ndarray, "R W"]

    @classmethod
    def draw(
        cls, random: np.random.Generator, *, resamples: int, weeks: int, with_left_out: bool = False
    ) -> "Resamples":
        """Resample 0 is the data as they are, the group LEFT_OUT only ``with_left_out``."""
        drawn = (GROUPS + with_left_out, weeks)
        counts = [random.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float) for n in drawn]
        for count in counts:
            count[0] = 1.0
        return cls(groups=np.pad(counts[0], ((0, 0), (0, LEFT_OUT + 1 - drawn[0]))), weeks=counts[1])

    def total(self, sums: Float[np.ndarray, "*K G W S M"]) -> Float[np.ndarray, "R *K S M"]:
        """Weighted sums over groups and weeks."""
        by_week = np.einsum("rg,...gwsm->r...wsm", self.groups, sums, optimize=True)
        weighted: Float[np.ndarray, "R *K S M"] = np.einsum("rw,r...wsm->r...sm", self.weeks, by_week, optimize=True)
        return weighted


def resampled_metric(
    seeds: Sequence[CellSums], forecast: str, metric: Metric, resamples: Resamples, random: np.random.Generator
) -> Float[np.ndarray, "R S M"]:
    """A model's metric per cell in every resample of one period; NaN where a cell has no label mass."""
    above, below = TERMS[metric]
    sums = np.stack([cell.forecasts[forecast][above] for cell in seeds])
    count = len(seeds)
    draws = random.multinomial(count, np.full(count, 1 / count), size=len(resamples.groups)) / count
    draws[0] = 1 / count
    numerator = np.einsum("rk,rksm->rsm", draws, resamples.total(sums), optimize=True)
    denominator = resamples.total(seeds[0].forecasts[forecast][below])
    ratio: Float[np.ndarray, "R S M"] = np.full_like(numerator, np.nan)
    np.divide(numerator, denominator, out=ratio, where=denominator > 0)
    return ratio


def macro(cells: Float[np.ndarray, "R S M"]) -> Float[np.ndarray, "R S1 M1"]:
    """Cells with macro averages as a last row and column: over scenarios, over tasks, and over both at the corner."""
    by_task = np.concatenate([cells, np.nanmean(cells, axis=2, keepdims=True)], axis=2)
    overall = np.concatenate(
        [np.nanmean(cells, axis=1), np.nanmean(cells, axis=(1, 2), keepdims=True)[:, 0]],
        axis=1,
    )
    whole: Float[np.ndarray, "R S1 M1"] = np.concatenate([by_task, overall[:, None]], axis=1)
    return whole


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``model_a`` minus ``model_b`` in one cell: negative means that a is better."""

    model_a: str
    model_b: str
    forecast: str
    metric: Metric
    scenario: str
    task: str
    difference: float
    low: float
    high: float
    p: float
    """Two-sided, from the resamples; before any correction."""


def compare(
    values_a: Float[np.ndarray, "R S1 M1"], values_b: Float[np.ndarray, "R S1 M1"], *, level: float = 0.95
) -> tuple[Float[np.ndarray, "S1 M1"], ...]:
    """Difference, lower and upper bound (percentiles) and p-value of every cell; resample 0 is the estimate."""
    differences = values_a - values_b
    rest = differences[1:]
    low, high = np.nanquantile(rest, [(1 - level) / 2, (1 + level) / 2], axis=0)
    at_most = 1 + np.minimum((rest <= 0).sum(axis=0), (rest >= 0).sum(axis=0))
    p = np.minimum(1.0, 2 * at_most / (len(rest) + 1))
    return differences[0], low, high, p


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: the family-wise adjusted p-value of each comparison.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    adjusted, floor = {}, 0.0
    for rank, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(p) - rank) * value))
        adjusted[name] = floor
    return adjusted
