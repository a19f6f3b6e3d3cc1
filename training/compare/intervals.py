"""Paired intervals for differences between models, resampling advertisers, weeks and seeds together.

A model's sums are averaged over its seeds, which for NMAE and SMAPE is the mean of the seeds' metrics, since all seeds
share a denominator. In a resample, advertiser groups and weeks get weights, the product of which weighs a (group, week)
block (the pigeonhole bootstrap, Owen 2007); both models of a pair see the same ones, and a group has one weight in all
periods, since its advertisers are the same. Label windows reach into the next week, so that neighbouring weeks share
label days: their weights deviate by more. Few weeks and seeds tell little of their own spread: Student's quantiles
stand for the normal ones. Seeds of different models have nothing in common, so each model draws its
own; a model with one seed has no seed noise in its intervals.

Letters: R resamples, J of them joint, K seeds, G advertiser groups, W weeks, S scenarios, M tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student_t

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
KINDS = ("groups", "weeks", "seeds")
PARTS_SHARE = 10
"""As many times more joint resamples than of one kind alone."""
NEIGHBOURS = 56 / 231
"""Correlation of two neighbouring weeks whose rows' errors are what happens on the seven days after each as-of day: of
day d the weeks hold 1, 2, .. 7, .. 2, 1 rows, shifted by seven days."""


class Draws(NamedTuple):
    """How the first axis of everything resampled is divided."""

    joint: int
    """The data as they are, then resamples of advertisers, weeks and seeds together."""
    part: int
    """Then so many of the advertisers alone, of the weeks alone and of the seeds alone."""

    @classmethod
    def of(cls, resamples: int) -> "Draws":
        return cls(joint=resamples, part=resamples // PARTS_SHARE)

    @property
    def total(self) -> int:
        return self.joint + len(KINDS) * self.part

    def weights(
        self, random: np.random.Generator, kind: str, units: int, *, correlation: float = 0.0
    ) -> Float[np.ndarray, "R N"]:
        """Of one kind's units, 1 where the others alone are resampled; see :func:`bootstrap_weights`."""
        joint = bootstrap_weights(random, units, resamples=self.joint, correlation=correlation)
        parts = [np.ones((self.part, units)) for _ in KINDS]
        # Without the data as they are, which come first.
        own = bootstrap_weights(random, units, resamples=self.part + 1, correlation=correlation)[1:]
        parts[KINDS.index(kind)] = own
        return np.concatenate([joint, *parts])


def bootstrap_weights(
    random: np.random.Generator, units: int, *, resamples: int, correlation: float = 0.0
) -> Float[np.ndarray, "R N"]:
    """Weights of ``units`` in each resample; resample 0 is the data as they are.

    n - 1 units are drawn, each with weight n / (n - 1), which keeps variances unbiased where n is small (Rao and Wu,
    JASA 1988); a single unit has weight 1.

    ``correlation``: of each unit with the next one, by which units differ less than their mean varies; deviations from
    1 are then larger, and weights may be negative.
    """
    if units == 1:
        return np.ones((resamples, 1))
    weights = random.multinomial(units - 1, np.full(units, 1 / units), size=resamples) * (units / (units - 1))
    # n var(mean) = s^2 (1 + 2 c), and n units differ by s^2 (1 - 2 c / (n - 1)), with c below.
    shared = correlation * (units - 1) / units
    spread = float(np.sqrt((1 + 2 * shared) / (1 - 2 * shared / (units - 1))))
    stretched: Float[np.ndarray, "R N"] = 1 + spread * (weights - 1)
    stretched[0] = 1.0
    return stretched


@dataclass(frozen=True, kw_only=True)
class Freedom:
    """How many units of each kind there are to tell their spread from, in degrees of freedom."""

    groups: float
    weeks: float
    seeds: float

    @classmethod
    def of(cls, *, weeks: Sequence[int], seeds: Sequence[int]) -> "Freedom":
        """``weeks`` of each period, ``seeds`` of a model in each, of a pair those of the one with fewer; none: no noise
        of theirs is known."""
        of_weeks, of_seeds = (sum(count - 1 for count in counts) for counts in (weeks, seeds))
        return cls(groups=GROUPS - 1, weeks=max(1, of_weeks), seeds=of_seeds or np.inf)

    def widened(
        self, draws: Float[np.ndarray, "R *S"], layout: Draws, *, level: float = LEVEL
    ) -> Float[np.ndarray, "J *S"]:
        """The joint draws, their deviations from the first one as much larger as Student's quantile at the interval's
        end is than the normal one: how much few units differ is itself estimated.

        The degrees of freedom are Satterthwaite's, of the variances that each kind's own resamples have.
        """
        joint, parts = draws[: layout.joint], draws[layout.joint :]
        if not layout.part:
            return joint
        variances = np.nanvar(parts.reshape(len(KINDS), layout.part, *parts.shape[1:]), axis=1)
        freedom = np.array([self.groups, self.weeks, self.seeds]).reshape(-1, *[1] * (draws.ndim - 1))
        squared = (variances**2 / freedom).sum(axis=0)
        total = variances.sum(axis=0) ** 2
        effective = np.divide(total, squared, out=np.full_like(total, np.inf), where=squared > 0)
        ratio = student_t.ppf((1 + level) / 2, effective) / norm.ppf((1 + level) / 2)
        widened: Float[np.ndarray, J * S] = joint[:1] + ratio * (joint - joint[:1])
        return widened


def interval(draws: Float[np.ndarray, "J *S"], level: float = LEVEL) -> Float[np.ndarray, "2 *S"]:
    """Lower and upper percentile over joint resamples, without the estimate."""
    bounds: Float[np.ndarray, 2 * S] = np.nanquantile(draws[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
    return bounds


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Weights of R resamples of one period, the same for every model."""

    layout: Draws
    groups: Float[np.ndarray, "R G"]
    weeks: Float[np.ndarray, "R W"]

    @classmethod
    def draw(
        cls, random: np.random.Generator, *, resamples: int, weeks: int, with_left_out: bool = False
    ) -> "Resamples":
        """Resample 0 is the data as they are, the group LEFT_OUT only ``with_left_out``."""
        count, layout = GROUPS + with_left_out, Draws.of(resamples)
        groups = layout.weights(random, "groups", count)
        return cls(
            layout=layout,
            groups=np.pad(groups, ((0, 0), (0, LEFT_OUT + 1 - count))),
            weeks=layout.weights(random, "weeks", weeks, correlation=NEIGHBOURS),
        )

    def of_other_weeks(self, random: np.random.Generator, weeks: int) -> "Resamples":
        """Of another period: the same advertisers, weeks of its own."""
        weights = self.layout.weights(random, "weeks", weeks, correlation=NEIGHBOURS)
        return Resamples(layout=self.layout, groups=self.groups, weeks=weights)

    def first(self) -> "Resamples":
        """The data as they are."""
        return Resamples(layout=Draws.of(1), groups=self.groups[:1], weeks=self.weeks[:1])

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
    draws = resamples.layout.weights(random, "seeds", count) / count
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
    differences: Float[np.ndarray, "J S1 M1"], *, level: float = LEVEL
) -> tuple[Float[np.ndarray, "S1 M1"], ...]:
    """Difference, lower and upper bound (percentiles) and p-value of every cell, from widened joint resamples."""
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
