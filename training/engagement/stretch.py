"""Personal targets from forecast quantiles.

Letters: N rows, Q quantiles (ascending levels).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from m2m_model.contracts.errors import UserError

HALF_UNIT = 0.5


def reach_probability(
    quantiles: Float[np.ndarray, "N Q"], levels: Sequence[float], targets: Float[np.ndarray, "N"], *, whole: bool
) -> Float[np.ndarray, "N"]:
    """P(label >= target) unaided, from the distribution function drawn straight between the quantiles.

    Outside the quantiles it is held at the outermost level: never said to be surer than what was forecast. For whole
    labels the function is read half a unit below the target, between what just misses it and what just reaches it.
    """
    at = targets - (HALF_UNIT if whole else 0.0)
    levels_ = np.asarray(levels)
    above = (quantiles <= at[:, None]).sum(axis=1)
    low, high = np.clip(above - 1, 0, None), np.clip(above, None, len(levels_) - 1)
    rows = np.arange(len(at))
    start, stop = quantiles[rows, low], quantiles[rows, high]
    width = stop - start
    share = np.divide(at - start, width, out=np.zeros_like(at), where=width > 0)
    below: Float[np.ndarray, N] = levels_[low] + np.clip(share, 0.0, 1.0) * (levels_[high] - levels_[low])
    return 1.0 - below


def stretch_targets(
    quantiles: Float[np.ndarray, "N Q"],
    levels: Sequence[float],
    *,
    probability: float,
    step: float,
    highest: float,
    whole: bool,
) -> tuple[Float[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """The least multiple of ``step`` that is reached unaided with at most ``probability``, and with which it is.

    ``highest`` is what the label can be at most; where even that is reached more often, it is the target.

    Raises:
        UserError: the quantiles do not tell ``probability``.
    """
    if not levels[0] <= 1 - probability <= levels[-1]:
        raise UserError(
            f"reward.probability must lie within {1 - levels[-1]:.2f} .. {1 - levels[0]:.2f}, which the forecast "
            f"quantiles tell, however: {probability}"
        )
    wanted = np.array([np.interp(1 - probability, levels, row) for row in quantiles])
    most = np.floor(highest / step) * step if np.isfinite(highest) else np.inf
    # Beyond the interpolated quantile the chance is at most the wanted one; look from two steps below it upwards.
    targets = np.clip(np.floor(wanted / step) - 1, 1, None) * step
    chances = reach_probability(quantiles, levels, targets, whole=whole)
    for _ in range(4):
        short = (chances > probability) & (targets < most)
        if not short.any():
            break
        targets = np.where(short, targets + step, targets)
        chances = reach_probability(quantiles, levels, targets, whole=whole)
    return np.minimum(targets, most), chances
