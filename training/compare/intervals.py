"""Paired intervals for differences between models, resampling advertisers, weeks and seeds together.

A model's sums are averaged over its seeds, which for NMAE and SMAPE is the mean of the seeds' metrics, since all seeds
share a denominator. In a resample, advertiser groups and weeks get weights, the product of which weighs a (group, week)
block (the pigeonhole bootstrap, Owen 2007); both models of a pair see the same ones, and a group has one weight in all
periods, since its advertisers are the same. Seeds of different models have nothing in common, so each model draws its
own; a model with one seed has no seed noise in its intervals.

Letters: R resamples, K seeds, G advertiser groups, W weeks, S scenarios, M tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from training.compare.sums import SUMS, CellSums
from training.groups import GROUPS, LEFT_OUT
from training.metrics import Metric

METRICS: tuple[Metric, ...] = ("nmae", "smape")
TERMS: dict[Metric, tuple[int, int]] = {
    "nmae": (SUMS.index("absolute_error"), SUMS.index("label")),
    "smape": (SUMS.index("smape"), SUMS.index("rows")),
}
"""Numerator and denominator of each metric."""
LEVEL = 0.95
"""Of intervals, unless another is asked for."""


def bootstrap_weights(random: np.random.Generator, units: int, *, resamples: int) -> Float[np.ndarray, "R N"]:
    """Weights of ``units`` in each resample; resample 0 is the data as they are.

    n - 1 units are drawn, each with weight n / (n - 1), which keeps variances unbiased where n is small (Rao and Wu,
    JASA 1988); a single unit has weight 1.
    """
    if units == 1:
        return np.ones((resamples, 1))
    weights = random.multinomial(units - 1, np.full(units, 1 / units), size=resamples) * (units / (units - 1))
    weights[0] = 1.0
    return weights


def interval(draws: Float[np.ndarray, "R *S"], level: float = LEVEL) -> Float[np.ndarray, "2 *S"]:
    """Lower and upper percentile over the resamples, without the estimate."""
    bounds: Float[np.ndarray, 2 * S] = np.nanquantile(draws[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return bounds


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Weights of R resamples of one period, the same for every model."""

    groups: Float[np.ndarray, "R G"]
    weeks: Float[np.ndarray, "R W"]

    @classmethod
    def draw(
        cls, random: np.random.Generator, *, resamples: int, weeks: int, with_left_out: bool = False
    ) -> "Resamples":
        """Resample 0 is the data as they are, the group LEFT_OUT only ``with_left_out``."""
        count = GROUPS + with_left_out
        groups = bootstrap_weights(random, count, resamples=resamples)
        return cls(
            groups=np.pad(groups, ((0, 0), (0, LEFT_OUT + 1 - count))),
            weeks=bootstrap_weights(random, weeks, resamples=resamples),
        )

    def of_other_weeks(self, random: np.random.Generator, weeks: int) -> "Resamples":
        """Of another period: the same advertisers, weeks of its own."""
        return Resamples(groups=self.groups, weeks=bootstrap_weights(random, weeks, resamples=len(self.groups)))

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
    draws = bootstrap_weights(random, count, resamples=len(resamples.groups)) / count
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
    values_a: Float[np.ndarray, "R S1 M1"], values_b: Float[np.ndarray, "R S1 M1"], *, level: float = LEVEL
) -> tuple[Float[np.ndarray, "S1 M1"], ...]:
    """Difference, lower and upper bound (percentiles) and p-value of every cell; resample 0 is the estimate."""
    differences = values_a - values_b
    rest = differences[1:]
    low, high = interval(differences, level)
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
