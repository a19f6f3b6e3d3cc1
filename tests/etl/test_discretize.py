import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.discretize import bucket_ids, quantile_edges

values = st.lists(st.integers(-50, 50).map(float), max_size=60)


@given(values, st.integers(1, 20))
def test_edges_are_the_order_statistics(sample: list[float], buckets: int) -> None:
    nonzero = sorted(x for x in sample if x != 0)
    distinct, counts = np.unique(nonzero, return_counts=True)
    n = len(nonzero)
    expected = sorted({nonzero[math.ceil(k * n / buckets) - 1] for k in range(1, buckets)}) if n else []
    assert list(quantile_edges(distinct, counts, buckets)) == expected


@given(values, st.lists(st.integers(-50, 50).map(float), max_size=10))
def test_bucket_ids_count_the_edges_below(sample: list[float], edges: list[float]) -> None:
    edges = sorted(set(edges))
    expected = [1 if x == 0 else 2 + sum(edge < x for edge in edges) for x in sample]
    assert bucket_ids(np.array(sample, dtype=float), edges).tolist() == expected
