"""Paired intervals for differences between models, resampling advertisers, weeks and seeds together.

A model's sums are averaged over its seeds, which for NMAE and SMAPE is the mean of the seeds' metrics, since all seeds
share a denominator. In a resample, advertiser groups and weeks get weights, the product of which weighs a (group, week)
block (the pigeonhole bootstrap, Owen 2007); both models of a pair see the same ones, and a group has one weight in all
periods, since its advertisers are the same. Label windows reach into the next week, so that neighbouring weeks share
label days: their weights deviate by more. Few weeks and seeds tell little of their own spread: Student's
distribution stands for the normal one, in intervals and, at Holm's small levels all the more, in p-values. Seeds of
different models have nothing in common, so each model draws its own. Of an ensemble that was made once the members are
drawn, by the jackknife (:mod:`training.compare.jackknife`); a single model with one seed has no seed noise in its
intervals.

Letters: R resamples, J of them joint, K seeds, G advertiser groups, W weeks, S scenarios, M tasks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student_t

from training.compare.sums import NUMERATORS, SUMS, CellSums
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
LABEL_DAYS = 7
"""Days of a label, which intervals are made for: a longer horizon's weeks would share days with more than the next."""
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
    JASA 1988): weights have a variance of 1. A single unit has weight 1.

    ``correlation``: of each unit with the next one, by which units differ less than their mean varies. Weights then
    have a larger variance: n times a Dirichlet draw's, since drawn units with stretched deviations could weigh less
    than nothing. Two units cannot: their weights stay at 0 and 2, and their mean varies by more than these say.
    """
    if units == 1:
        return np.ones((resamples, 1))
    # n var(mean) = s^2 (1 + 2 c), and n units differ by s^2 (1 - 2 c / (n - 1)), with c below.
    shared = correlation * (units - 1) / units
    variance = (1 + 2 * shared) / (1 - 2 * shared / (units - 1))
    weights: Float[np.ndarray, "R N"]
    if correlation and variance < units - 1:
        concentration = ((units - 1) / variance - 1) / units
        weights = random.dirichlet(np.full(units, concentration), size=resamples) * units
    else:
        weights = random.multinomial(units - 1, np.full(units, 1 / units), size=resamples) * (units / (units - 1))
    weights[0] = 1.0
    return weights


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

    def effective(self, draws: Float[np.ndarray, "R *S"], layout: Draws) -> Float[np.ndarray, "*S"]:
        """How much few units differ is itself estimated: Satterthwaite's degrees of freedom, of the variances that each
        kind's own resamples have; infinite where there are no such resamples or nothing varies."""
        parts = draws[layout.joint :]
        if not layout.part:
            return np.full(draws.shape[1:], np.inf)
        known = np.ma.masked_invalid(parts.reshape(len(KINDS), layout.part, *parts.shape[1:]))
        variances = np.ma.filled(known.var(axis=1), np.nan)
        freedom = np.array([self.groups, self.weeks, self.seeds]).reshape(-1, *[1] * (draws.ndim - 1))
        squared = (variances**2 / freedom).sum(axis=0)
        total = variances.sum(axis=0) ** 2
        effective: Float[np.ndarray, "*S"] = np.full_like(total, np.inf)
        np.divide(total, squared, out=effective, where=squared > 0)
        return effective


def interval(
    draws: Float[np.ndarray, "R *S"], freedom: Freedom, layout: Draws, *, level: float = LEVEL
) -> Float[np.ndarray, "2 *S"]:
    """Lower and upper bound of what the draws are of: the estimate, and as many standard errors, the deviation of the
    joint draws, as Student's quantile says.

    Percentiles of few weeks' draws would be too near: a mean of four that are weighed at random has short tails.
    """
    half = student_t.ppf((1 + level) / 2, freedom.effective(draws, layout)) * standard_error(draws, layout)
    return np.stack([draws[0] - half, draws[0] + half])


def standard_error(draws: Float[np.ndarray, "R *S"], layout: Draws) -> Float[np.ndarray, "*S"]:
    """Of the joint resamples, without the estimate."""
    error: Float[np.ndarray, "*S"] = np.ma.filled(np.ma.masked_invalid(draws[1 : layout.joint]).std(axis=0), np.nan)
    return error


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
    if count == 1:
        numerator += _member_noise(seeds[0], forecast, metric, resamples, random)
    return ratio(numerator, denominator)


def ratio(above: Float[np.ndarray, "*S"], below: Float[np.ndarray, "*S"]) -> Float[np.ndarray, "*S"]:
    """NaN where there is nothing below."""
    divided: Float[np.ndarray, "*S"] = np.full_like(above, np.nan)
    np.divide(above, below, out=divided, where=below > 0)
    return divided


def _member_noise(
    ensemble: CellSums, forecast: str, metric: Metric, resamples: Resamples, random: np.random.Generator
) -> Float[np.ndarray, "R S M"]:
    """What other members would make of an ensemble's sums, in every resample: its members drawn anew, each standing
    for the jackknife's pseudo-value, less the whole; 0 of what has no members."""
    layout = resamples.layout
    noise: Float[np.ndarray, "R S M"] = np.zeros((layout.total, len(ensemble.scenarios), len(ensemble.tasks)))
    advertisers = 1 + bool(resamples.groups[0, LEFT_OUT])
    for part in ensemble.without.get(forecast, ()):
        count = len(part)
        totals = part[:, NUMERATORS.index(SUMS[TERMS[metric][0]]), :advertisers].sum(axis=1)
        deviations = (count - 1) * (totals.mean(axis=0) - totals)
        noise += np.einsum("rk,ksm->rsm", layout.weights(random, "seeds", count) / count, deviations, optimize=True)
    return noise


def macro(cells: Float[np.ndarray, "R S M"]) -> Float[np.ndarray, "R S1 M1"]:
    """Cells with macro averages as a last row and column: over scenarios, over tasks, and over both at the corner."""
    by_task = np.concatenate([cells, np.nanmean(cells, axis=2, keepdims=True)], axis=2)
    overall = np.concatenate(
        [np.nanmean(cells, axis=1), np.nanmean(cells, axis=(1, 2), keepdims=True)[:, 0]],
        axis=1,
    )
    whole: Float[np.ndarray, "R S1 M1"] = np.concatenate([by_task, overall[:, None]], axis=1)
    return whole


@dataclass(frozen=True)
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
    """Two-sided; before any correction."""


def compare(
    differences: Float[np.ndarray, "R *S"], freedom: Freedom, layout: Draws, *, level: float = LEVEL
) -> tuple[Float[np.ndarray, "*S"], ...]:
    """Difference, lower and upper bound and p-value of every cell; NaN where it is not defined.

    p is of Student's t test, and is below 1 - ``level`` where the interval leaves 0 out. Counted resamples would end at
    one in their number, and be right at one level alone.
    """
    low, high = interval(differences, freedom, layout, level=level)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(differences[0]) / standard_error(differences, layout)
    p = np.where(differences[0] == 0, 1.0, 2 * student_t.sf(statistic, freedom.effective(differences, layout)))
    return differences[0], low, high, p


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction: the family-wise adjusted p-value of each comparison. What has none (NaN) keeps none
    and is no part of the family.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    family = {name: value for name, value in p.items() if not math.isnan(value)}
    adjusted, floor = dict.fromkeys(p.keys() - family, math.nan), 0.0
    for rank, (name, value) in enumerate(sorted(family.items(), key=lambda item: item[1])):
        floor = max(floor, min(1.0, (len(family) - rank) * value))
        adjusted[name] = floor
    return adjusted
