"""The forecasts that are aimed at a metric: one rule for every model and baseline.

A mean is not a median: NMAE rewards medians, and a tiny positive forecast of a true zero costs a SMAPE of 2. Per task
and metric a rule sets forecasts below a threshold to 0 and multiplies the others by a scale, both fitted on validation
rows: ``point`` for NMAE, ``smape`` for SMAPE. What a label cannot exceed, a scaled forecast does not either. A binary
task is decided: 1 from a probability of one half on.

What is best on validation rows is partly their chance, and another season's. So the scale is the one nearest to 1 that,
with its best threshold, is within one standard error of the best rule (after the one-standard-error rule of Breiman et
al., Classification and Regression Trees, 1984, 3.4.3; here of the difference between both). Errors of an advertiser's
rows are not independent, so the standard error is over groups of advertisers.

Letters: N rows, K of them, M tasks, Q quantiles, G advertiser groups.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from training.groups import GROUPS
from training.metrics import check_finite, smape_terms

FORECAST_RULE = "threshold; scale within a standard error, over advertiser groups; members mixed"
"""How forecasts become aimed ones: results of other ways are not to be compared with these."""
SCALES = tuple(round(0.50 + 0.01 * step, 2) for step in range(81))
"""Candidate scales, 0.50 to 1.30."""
Cost = Callable[[Float[np.ndarray, "N"], Float[np.ndarray, "N"]], Float[np.ndarray, "N"]]


class Forecasts(NamedTuple):
    """What a model or baseline says of rows, see :class:`m2m_model.output.Forecasts`."""

    mean: Float[np.ndarray, "N M"]
    centre: Float[np.ndarray, "N M"]
    smape: Float[np.ndarray, "N M"]
    quantiles: Float[np.ndarray, "N M Q"]

    @classmethod
    def single(cls, values: Float[np.ndarray, "N M"]) -> Self:
        """Of a forecaster with one number for all purposes."""
        return cls(values, values, values, np.zeros((*values.shape, 0)))

    def take(self, rows: Int[np.ndarray, "K"]) -> "Forecasts":
        return Forecasts(*(field[rows] for field in self))

    @classmethod
    def concatenate(cls, parts: list["Forecasts"]) -> Self:
        return cls(*(np.concatenate(field) for field in zip(*parts, strict=True)))


class TaskRule(StrictConfig):
    """0 if the value is below the threshold, else scale * value, at most the cap; without a scale 1."""

    threshold: float = Field(ge=0)
    scale: float | None = Field(gt=0)
    cap: float | None = Field(default=None, gt=0)
    """The largest possible label; None where there is none."""

    def apply(self, values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        kept = np.ones_like(values) if self.scale is None else self.scale * values
        return np.where(values < self.threshold, 0.0, np.minimum(kept, np.inf if self.cap is None else self.cap))


DECISION = TaskRule(threshold=0.5, scale=None)


class PointRule(StrictConfig):
    """The rule of every task, in order.

    Example:
        >>> rule = PointRule(tasks={"active_days": TaskRule(threshold=0.5, scale=1.2, cap=7.0)})
        >>> rule.apply(np.array([[0.4], [0.5], [6.5]])).ravel().tolist()
        [0.0, 0.6, 7.0]
    """

    tasks: dict[str, TaskRule]

    def apply(self, values: Float[np.ndarray, "N M"]) -> Float[np.ndarray, "N M"]:
        columns = [rule.apply(column) for rule, column in zip(self.tasks.values(), values.T, strict=True)]
        return np.stack(columns, axis=1)


class ForecastRules(StrictConfig):
    """The fitted rule of each aimed forecast."""

    point: PointRule
    smape: PointRule

    def apply(self, forecasts: Forecasts) -> dict[str, Float[np.ndarray, "N M"]]:
        """By kind of forecast, in the order of :data:`m2m_model.contracts.schema.FORECASTS`."""
        aimed = {"point": self.point.apply(forecasts.centre), "smape": self.smape.apply(forecasts.smape)}
        return {"mean": forecasts.mean, **aimed}


def fit_rules(
    forecasts: Forecasts,
    labels: Float[np.ndarray, "N M"],
    exposures: Float[np.ndarray, "N M"],
    *,
    scenarios: np.ndarray,
    groups: Int[np.ndarray, "N"],
    eligible: Bool[np.ndarray, "N"],
    spec: DatasetSpec,
) -> ForecastRules:
    """The rules with the scale nearest to 1 whose macro NMAE and macro SMAPE over scenarios, on the eligible rows, are
    within a standard error of the least; thresholds are the best of each scale, exactly.

    ``scenarios`` are N scenario ids, ``groups`` those of the rows' advertisers (see :mod:`training.groups`). Scenarios
    without label mass in a task have no NMAE and no say.

    Raises:
        UserError: there is no eligible row to fit on, or a forecast is no finite number.
    """
    if not eligible.any():
        raise UserError("the point-forecast rule needs eligible validation rows, however: there are none")
    for values in (forecasts.centre, forecasts.smape):
        check_finite(values[eligible], spec.task_names)
    labels, exposures, groups = labels[eligible], exposures[eligible], groups[eligible]
    _, cells = np.unique(scenarios[eligible], return_inverse=True)
    point, smape = {}, {}
    for index, task in enumerate(spec.tasks):
        if task.kind == "binary":
            point[task.name] = smape[task.name] = DECISION
            continue
        label, exposure = labels[:, index], exposures[:, index]
        largest = task.largest_label(spec.horizon)
        cap = largest if np.isfinite(largest) else None
        shares = exposure * _per_cell(exposure * label, cells)
        point[task.name] = _fit(forecasts.centre[eligible, index], label, shares, groups, absolute_errors, cap=cap)
        exposed = (exposure > 0).astype(float)
        shares = exposed * _per_cell(exposed, cells)
        smape[task.name] = _fit(forecasts.smape[eligible, index], label, shares, groups, smape_terms, cap=cap)
    return ForecastRules(point=PointRule(tasks=point), smape=PointRule(tasks=smape))


def absolute_errors(forecasts: Float[np.ndarray, "N"], labels: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    errors: Float[np.ndarray, N] = np.abs(forecasts - labels)
    return errors


def _per_cell(amounts: Float[np.ndarray, "N"], cells: np.ndarray) -> Float[np.ndarray, "N"]:
    """One over the cell's total amount, 0 where that is 0."""
    totals = np.bincount(cells, weights=amounts)
    inverse: Float[np.ndarray, N] = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)[cells]
    return inverse


def _fit(
    values: Float[np.ndarray, "N"],
    labels: Float[np.ndarray, "N"],
    weights: Float[np.ndarray, "N"],
    groups: Int[np.ndarray, "N"],
    cost: Cost,
    *,
    cap: float | None,
) -> TaskRule:
    """The scale nearest to 1, with its best threshold, whose weighted cost is within a standard error of the least.

    The cap has no say in the fit: that would be another rule (docs/best_preset.md).
    """
    order = np.argsort(-values, kind="stable")
    values, labels, weights, groups = values[order], labels[order], weights[order], groups[order]
    # Keeping the k largest values is a threshold only where the next value is smaller.
    cuts = np.concatenate([[True], values[1:] < values[:-1], [True]])
    of_zero = cost(np.zeros_like(labels), labels)

    def gains(scale: float) -> Float[np.ndarray, "N"]:
        """What keeping each value, scaled, costs more than zero."""
        more: Float[np.ndarray, N] = weights * (cost(scale * values, labels) - of_zero)
        return more

    def by_group(scale: float, kept: int) -> Float[np.ndarray, "G"]:
        return np.bincount(groups[:kept], gains(scale)[:kept], minlength=GROUPS)

    candidates = []
    for scale in sorted(SCALES, key=lambda scale: abs(scale - 1.0)):
        losses = np.where(cuts, np.concatenate([[0.0], np.cumsum(gains(scale))]), np.inf)
        candidates.append((scale, len(values) - int(losses[::-1].argmin())))  # of equal ones, that which keeps most
    totals = [by_group(*candidate) for candidate in candidates]
    best = min(totals, key=lambda total: total.sum())
    for (scale, kept), total in zip(candidates, totals, strict=True):
        excess = total - best
        # Of rules that differ by rounding alone the scale nearest to 1 is taken.
        if excess.sum() <= standard_error(excess) * (1 + 1e-9) + 1e-12:
            return TaskRule(threshold=_threshold(values, kept), scale=scale, cap=cap)
    raise AssertionError("the best rule is within a standard error of itself")


def standard_error(parts: Float[np.ndarray, "G"]) -> float:
    """Of the sum of G independent parts."""
    return float(np.sqrt(len(parts) * parts.var(ddof=1)))


def _threshold(values: Float[np.ndarray, "N"], kept: int) -> float:
    """Halfway between the last kept and the first dropped value, so that rounding of a forecast cannot flip it."""
    if kept == len(values):
        return 0.0
    return float((values[kept - 1] + values[kept]) / 2) if kept else float(2 * values[0])
