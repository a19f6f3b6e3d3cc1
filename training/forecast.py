"""The point forecast: one rule for every model and baseline, made from the mean forecast alone.

A mean is not a median: NMAE rewards medians, and a tiny positive forecast of a true zero costs a SMAPE of 2. Per task
the rule sets means below a threshold to 0 and multiplies the others by a scale, both fitted on validation rows.

Letters: N rows, M tasks.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError

SCALES = tuple(round(0.50 + 0.01 * step, 2) for step in range(81))
"""Candidate scales, 0.50 to 1.30."""


class TaskRule(StrictConfig):
    """point = 0 if mean < threshold else scale * mean."""

    threshold: float = Field(ge=0)
    scale: float = Field(gt=0)


class PointRule(StrictConfig):
    """The rule of every task, in order.

    Example:
        >>> rule = PointRule(tasks={"units": TaskRule(threshold=0.5, scale=0.8)})
        >>> rule.apply(np.array([[0.4], [0.5], [10.0]])).ravel().tolist()
        [0.0, 0.4, 8.0]
    """

    tasks: dict[str, TaskRule]

    def apply(self, means: Float[np.ndarray, "N M"]) -> Float[np.ndarray, "N M"]:
        thresholds = np.array([rule.threshold for rule in self.tasks.values()])
        scales = np.array([rule.scale for rule in self.tasks.values()])
        return np.where(means < thresholds, 0.0, means * scales)


def fit_point_rule(
    means: Float[np.ndarray, "N M"],
    labels: Float[np.ndarray, "N M"],
    scenarios: np.ndarray,
    eligible: Bool[np.ndarray, "N"],
    tasks: Sequence[str],
) -> PointRule:
    """The rule with the least macro NMAE over scenarios on the eligible rows: exact in the threshold, per scale.

    ``scenarios`` are N scenario ids. Scenarios without label mass in a task have no NMAE and no say.

    Raises:
        UserError: there is no eligible row to fit on.
    """
    if not eligible.any():
        raise UserError("the point-forecast rule needs eligible validation rows, however: there are none")
    means, labels = means[eligible], labels[eligible]
    _, cells = np.unique(scenarios[eligible], return_inverse=True)
    rules = {}
    for index, task in enumerate(tasks):
        mass = np.bincount(cells, weights=labels[:, index])
        weights = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)[cells]
        rules[task] = _fit_task(means[:, index], labels[:, index], weights)
    return PointRule(tasks=rules)


def _fit_task(
    means: Float[np.ndarray, "N"], labels: Float[np.ndarray, "N"], weights: Float[np.ndarray, "N"]
) -> TaskRule:
    """Minimise the weighted absolute error over (threshold, scale); ties go to the scale nearest to 1."""
    order = np.argsort(-means, kind="stable")
    means, labels, weights = means[order], labels[order], weights[order]
    # Keeping the k largest means is a threshold only where the next mean is smaller.
    cuts = np.concatenate([[True], means[1:] < means[:-1], [True]])
    best = (np.inf, TaskRule(threshold=0.0, scale=1.0))
    for scale in sorted(SCALES, key=lambda scale: abs(scale - 1.0)):
        gains = weights * (np.abs(scale * means - labels) - labels)
        losses = np.where(cuts, np.concatenate([[0.0], np.cumsum(gains)]), np.inf)
        kept = int(losses.argmin())
        # Rounding must not let a scale further from 1 win a tie.
        if losses[kept] < best[0] - 1e-12:
            best = (losses[kept], TaskRule(threshold=_threshold(means, kept), scale=scale))
    return best[1]


def _threshold(means: Float[np.ndarray, "N"], kept: int) -> float:
    """Halfway between the last kept and the first dropped mean, so that rounding of a forecast cannot flip it."""
    if kept == len(means):
        return 0.0
    return float((means[kept - 1] + means[kept]) / 2) if kept else float(2 * means[0])
