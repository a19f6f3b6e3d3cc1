"""Discretization: exact quantile edges and vocabularies, and their application with numpy."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.quantiles import quantile_ranks
from m2m_model.contracts.spec import FIRST_VALUE_ID, MISSING_ID, OUT_OF_VOCABULARY_ID, ZERO_ID


def quantile_edges(values: np.ndarray, counts: np.ndarray, buckets: int) -> tuple[float, ...]:
    """Edges of ``buckets`` equal-frequency buckets over distinct ``values`` that occur ``counts`` times each.

    With the n values sorted as v_1 .. v_n, the edges are the distinct v_ceil(k n / buckets), k = 1 .. buckets - 1.

    Example:
        >>> quantile_edges(np.array([1.0, 2.0, 9.0]), np.array([2, 1, 1]), 4)
        (1.0, 2.0)
    """
    if len(values) == 0:
        return ()
    order = np.argsort(values)
    values, cumulative = values[order], np.cumsum(counts[order])
    positions = np.searchsorted(cumulative, quantile_ranks(int(cumulative[-1]), buckets), side="left")
    return tuple(float(value) for value in np.unique(values[positions]))


def bucket_ids(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Bucket ids of ``values``: 0 for NaN, 1 for zero, else 2 + number of edges below.

    Example:
        >>> bucket_ids(np.array([np.nan, 0.0, 1.0, 1.5, 9.0]), (1.0, 2.0)).tolist()
        [0, 1, 2, 3, 4]
    """
    ids = FIRST_VALUE_ID + np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="left")
    ids = np.where(values == 0.0, ZERO_ID, ids)
    return np.where(np.isnan(values), MISSING_ID, ids).astype(np.int32)


def word_ids(words: pa.Array, vocabulary: Sequence[str]) -> np.ndarray:
    """Ids of ``words``: 0 for null, 1 out of vocabulary, else 2 + index.

    Example:
        >>> word_ids(pa.array(["b", None, "x"]), ("a", "b")).tolist()
        [3, 0, 1]
    """
    index = pc.index_in(words, value_set=pa.array(vocabulary, pa.string()))
    found = index.fill_null(OUT_OF_VOCABULARY_ID - FIRST_VALUE_ID).to_numpy(zero_copy_only=False) + FIRST_VALUE_ID
    return np.where(words.is_null().to_numpy(zero_copy_only=False), MISSING_ID, found).astype(np.int32)
