"""How alike scenarios are: correlations of labels between them (Table 1 of the paper).

Letters: N rows, M tasks, S scenarios.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float


def scenario_correlations(
    rows: pa.Table, tasks: Sequence[str], scenarios: Sequence[str]
) -> tuple[Float[np.ndarray, "M S S"], Float[np.ndarray, "M S S"]]:
    """Pearson of labels between scenarios over the same advertiser and as-of day, raw and of log1p.

    NaN where a pair has fewer than three common rows or a constant label.
    """
    keys = zip(rows["advertiser_id"].to_pylist(), rows["as_of"].to_pylist(), strict=True)
    numbers: dict[Any, int] = {}
    samples = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    index = {scenario: position for position, scenario in enumerate(scenarios)}
    columns = np.array([index[scenario] for scenario in rows["scenario_id"].to_pylist()], dtype=np.int64)
    raw = np.full((len(tasks), len(scenarios), len(scenarios)), np.nan)
    log = raw.copy()
    for position, task in enumerate(tasks):
        wide = np.full((len(numbers), len(scenarios)), np.nan)
        wide[samples, columns] = rows[f"label_{task}"].to_numpy()
        for i in range(len(scenarios)):
            for j in range(len(scenarios)):
                raw[position, i, j] = _pearson(wide[:, i], wide[:, j])
                log[position, i, j] = _pearson(np.log1p(wide[:, i]), np.log1p(wide[:, j]))
    return raw, log


def _pearson(x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"]) -> float:
    both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[both], y[both]
    if len(x) < 3 or x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
