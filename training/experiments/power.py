"""How large an experiment must be, before it starts."""

import math

from scipy import stats

from m2m_model.contracts.errors import UserError


def detectable_effect(
    *, deviation: float, units: int, treated_share: float = 0.5, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest true difference of means that a two-sided test at ``alpha`` finds with chance ``power``.

    ``deviation``: standard deviation of the outcome between units; with CUPED times sqrt(1 - variance reduction).

    Example:
        >>> round(detectable_effect(deviation=1.0, units=1570), 3)
        0.141
    """
    _check(treated_share, alpha, power)
    factor = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return float(factor * deviation / math.sqrt(units * treated_share * (1 - treated_share)))


def units_needed(
    *, deviation: float, difference: float, treated_share: float = 0.5, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Units over both arms with which ``difference`` is the detectable effect.

    Example:
        >>> units_needed(deviation=1.0, difference=0.2)
        785
    """
    _check(treated_share, alpha, power)
    if difference <= 0:
        raise UserError(f"the difference to detect must be above 0, however: {difference}")
    factor = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return math.ceil(float(factor * deviation / difference) ** 2 / (treated_share * (1 - treated_share)))


def _check(treated_share: float, alpha: float, power: float) -> None:
    for name, value in (("treated_share", treated_share), ("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise UserError(f"{name} must lie between 0 and 1, however: {value}")
