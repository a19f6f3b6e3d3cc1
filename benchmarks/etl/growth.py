"""How cost grows with rows, beyond what every run pays."""

from collections.abc import Sequence

import numpy as np

EXPONENTS = np.arange(0.5, 2.001, 0.005)


def scaling_exponent(rows: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Exponent e and fixed cost f >= 0 of the best fit ``seconds = f + c rows^e``, by least squares of relative errors.

    Example:
        >>> exponent, fixed = scaling_exponent([100, 200, 400, 1000], [5.1, 5.2, 5.4, 6.0])
        >>> (round(exponent, 2), round(fixed, 1))
        (1.0, 5.0)
    """
    x, y = np.asarray(rows, float), np.asarray(seconds, float)
    fits = [(*_fit((x / x.max()) ** exponent, y), exponent) for exponent in EXPONENTS]
    _, fixed, exponent = min(fits)
    return float(exponent), float(fixed)


def _fit(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Squared relative error and fixed cost of ``y = fixed + slope x``, both at least 0."""
    design = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    (fixed, slope), *_ = np.linalg.lstsq(design, np.ones_like(y), rcond=None)
    if fixed < 0.0:
        fixed, slope = 0.0, float((x / y).sum() / ((x / y) ** 2).sum())
    return float((((fixed + slope * x) / y - 1.0) ** 2).sum()), float(fixed)
