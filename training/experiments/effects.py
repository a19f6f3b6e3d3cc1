"""Effects with intervals: stratified differences of means, with or without CUPED.

CUPED (Deng et al., WSDM 2013) takes out of an outcome what a covariate known *before* the experiment explains. The
covariate must be made in the same way for all units: a forecast by one model for both arms, never each arm's own.

Letters: N units (advertisers), C covariates, H strata.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from m2m_model.contracts.errors import UserError

LEAST_UNITS = 2


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Treated minus control, in the outcome's unit."""

    difference: float
    low: float
    high: float
    standard_error: float
    control_mean: float
    units: int
    variance_reduction: float = 0.0
    """Share of the outcome's variance that the covariates took out."""

    @property
    def relative(self) -> float:
        return self.difference / self.control_mean if self.control_mean else math.nan

    @property
    def is_significant(self) -> bool:
        return not self.low <= 0 <= self.high


def effect(
    outcome: Float[np.ndarray, "N"],
    treated: Bool[np.ndarray, "N"],
    strata: Sequence[str] | np.ndarray,
    *,
    covariates: Float[np.ndarray, "N C"] | None = None,
    level: float = 0.95,
) -> Effect:
    """The average effect over the units: the stratum-size weighted mean of the strata's differences.

    Its variance is the sum of the arms' own (Neyman: no common variance is assumed), degrees of freedom after
    Welch and Satterthwaite. Strata with fewer than two units in an arm are pooled into one.

    Raises:
        UserError: an arm has fewer than two units.
    """
    if min(treated.sum(), (~treated).sum()) < LEAST_UNITS:
        raise UserError(f"each arm needs {LEAST_UNITS} units or more, however: {treated.sum()} and {(~treated).sum()}")
    adjusted, reduction = outcome, 0.0
    groups = _pooled(np.asarray(strata), treated)
    if covariates is not None:
        adjusted = outcome - _explained(outcome, covariates, treated, groups)
        before, after = (_within(values, treated, groups).var() for values in (outcome, adjusted))
        reduction = float(1 - after / before) if before > 0 else 0.0
    difference, variance, freedom = 0.0, 0.0, 0.0
    for group in np.unique(groups):
        inside = groups == group
        share = inside.sum() / len(outcome)
        arms = adjusted[inside & treated], adjusted[inside & ~treated]
        difference += share * (arms[0].mean() - arms[1].mean())
        for arm in arms:
            part = share**2 * arm.var(ddof=1) / len(arm)
            variance += part
            freedom += part**2 / (len(arm) - 1)
    error = math.sqrt(variance)
    width = float(stats.t.ppf((1 + level) / 2, variance**2 / freedom)) * error if freedom > 0 else 0.0
    return Effect(
        difference=difference,
        low=difference - width,
        high=difference + width,
        standard_error=error,
        control_mean=float(outcome[~treated].mean()),
        units=len(outcome),
        variance_reduction=reduction,
    )


def _pooled(strata: np.ndarray, treated: Bool[np.ndarray, "N"]) -> np.ndarray:
    """Stratum numbers, those too small for a variance as one; if that one is too small too, it joins the largest."""
    names, numbers, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    least = np.array([min((numbers == g)[treated].sum(), (numbers == g)[~treated].sum()) for g in range(len(names))])
    small = least < LEAST_UNITS
    if not small.any():
        return numbers
    pool = small[numbers]
    pooled = np.where(pool, -1, numbers)
    if min(pool[treated].sum(), pool[~treated].sum()) < LEAST_UNITS:
        kept = np.flatnonzero(~small)
        pooled[pool] = kept[sizes[kept].argmax()] if len(kept) else 0
    return pooled


def _within(values: np.ndarray, treated: Bool[np.ndarray, "N"], groups: np.ndarray) -> np.ndarray:
    """Deviations from the mean of the unit's stratum and arm."""
    _, cells = np.unique(groups * 2 + treated, return_inverse=True)
    counts = np.bincount(cells)
    if values.ndim == 1:
        centred: np.ndarray = values - (np.bincount(cells, values) / counts)[cells]
        return centred
    return np.stack([_within(column, treated, groups) for column in values.T], axis=1)


def _explained(
    outcome: Float[np.ndarray, "N"],
    covariates: Float[np.ndarray, "N C"],
    treated: Bool[np.ndarray, "N"],
    groups: np.ndarray,
) -> Float[np.ndarray, "N"]:
    """theta (x - mean x), theta by least squares within strata and arms."""
    x, y = _within(covariates, treated, groups), _within(outcome, treated, groups)
    theta, *_ = np.linalg.lstsq(x, y, rcond=None)
    explained: Float[np.ndarray, N] = (covariates - covariates.mean(axis=0)) @ theta
    return explained
