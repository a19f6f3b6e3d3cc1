"""Quantiles of sharded values against the plain definition over all of them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.discretize import quantile_edges
from etl.quantiles import Distribution, brackets, quantile_ranks, settle


@settings(max_examples=200, deadline=None)
@given(
    shards=st.lists(st.lists(st.integers(-30, 60).map(float), max_size=80), min_size=1, max_size=5),
    buckets=st.integers(1, 9),
    sent=st.integers(1, 20),
)
def test_two_rounds_give_the_exact_edges(shards: list[list[float]], buckets: int, sent: int) -> None:
    everything = np.array([value for shard in shards for value in shard])
    parts = [Distribution.of(np.array(shard)) for shard in shards]
    ranks = quantile_ranks(sum(part.total for part in parts), buckets)
    found = set()
    if len(ranks):
        for rank, bracket in zip(ranks, brackets([part.thinned(sent) for part in parts], ranks), strict=True):
            found.add(settle([part.within(bracket) for part in parts], int(rank)))
    assert tuple(sorted(found)) == quantile_edges(everything, np.ones(len(everything), int), buckets)


def test_one_round_is_enough_where_all_is_sent() -> None:
    parts = [Distribution.of(np.array([3.0, 1.0, 1.0])), Distribution.of(np.array([2.0]))]
    assert brackets(parts, np.array([1, 2, 3, 4]))[:, 1].tolist() == [1.0, 1.0, 2.0, 3.0]


def test_little_is_sent() -> None:
    random = np.random.default_rng(0)
    parts = [Distribution.of(random.lognormal(size=100_000)) for _ in range(4)]
    thin = [part.thinned(1000) for part in parts]
    ranks = quantile_ranks(400_000, 16)
    second = sum(len(part.within(bracket).values) for part in parts for bracket in brackets(thin, ranks))
    assert all(len(part.values) <= 1000 for part in thin)
    assert second < 400_000 * 15 * 3 / 1000
