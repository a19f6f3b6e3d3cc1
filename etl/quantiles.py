"""Exact quantiles of values that lie in many shards, of which only a small part is sent.

First every shard sends some of its sorted values with the number of values up to each. Together they bracket every
wanted order statistic. Then every shard sends what it holds inside the brackets, which settles them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SENT_VALUES = 2048
"""Of a shard's column, in the first round. A bracket then holds about a thousandth of all values."""


@dataclass(frozen=True)
class Distribution:
    """Distinct ``values``, ascending, and how many values are at most each; not ``complete``: of some of them."""

    values: np.ndarray
    up_to: np.ndarray
    complete: bool = True

    @classmethod
    def of(cls, values: np.ndarray) -> "Distribution":
        counted = pc.value_counts(pa.array(values))
        distinct, counts = counted.field("values").to_numpy(), counted.field("counts").to_numpy()
        order = np.argsort(distinct)
        return cls(distinct[order], np.cumsum(counts[order]))

    @property
    def total(self) -> int:
        return int(self.up_to[-1]) if len(self.up_to) else 0

    def thinned(self, size: int = SENT_VALUES) -> "Distribution":
        """At most ``size`` values, evenly spread by rank; the largest is one of them."""
        if len(self.values) <= size:
            return self
        ranks = np.arange(1, size + 1) * self.total // size
        kept = np.unique(np.searchsorted(self.up_to, ranks, side="left"))
        return Distribution(self.values[kept], self.up_to[kept], complete=False)

    def bounds(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest possible number of values that are at most ``at``; equal where it is known."""
        following = np.searchsorted(self.values, at, side="right")
        least = np.append(0, self.up_to)[following]
        if self.complete:
            return least, least
        known = (following > 0) & (self.values[np.maximum(following - 1, 0)] == at)
        return least, np.where(known | (following == len(self.values)), least, np.append(self.up_to, 1)[following] - 1)

    def within(self, bracket: np.ndarray) -> "Within":
        """What lies in (low, high]."""
        first, last = np.searchsorted(self.values, bracket, side="right")
        below = int(self.up_to[first - 1]) if first else 0
        return Within(below, self.values[first:last], np.diff(self.up_to[first:last], prepend=below))


@dataclass(frozen=True)
class Within:
    """A shard's values inside a bracket, how often each occurs, and how many lie below."""

    below: int
    values: np.ndarray
    counts: np.ndarray


def quantile_ranks(total: int, buckets: int) -> np.ndarray:
    """Ranks, from 1, of the edges between ``buckets`` equal-frequency buckets of ``total`` values."""
    return np.array([math.ceil(k * total / buckets) for k in range(1, buckets)] if total else [], np.int64)


def brackets(parts: Sequence[Distribution], ranks: np.ndarray) -> np.ndarray:
    """(low, high] for each rank, [R, 2], so that its value lies inside; it is ``high`` itself if all is known."""
    candidates = np.unique(np.concatenate([part.values for part in parts]))
    least, most = (sum(counts) for counts in zip(*(part.bounds(candidates) for part in parts), strict=True))
    high = candidates[np.searchsorted(least, ranks, side="left")]
    low = np.append(-np.inf, candidates)[np.searchsorted(most, ranks, side="left")]
    return np.stack([low, high], axis=1)


def settle(parts: Sequence[Within], rank: int) -> float:
    """The value of ``rank``, from all shards' parts of its bracket."""
    values, counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "counts"))
    order = np.argsort(values)
    up_to = sum(part.below for part in parts) + np.cumsum(counts[order])
    return float(values[order][np.searchsorted(up_to, rank, side="left")])
