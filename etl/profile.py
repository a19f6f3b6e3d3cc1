"""Profile ids of a chunk's advertisers, point-in-time."""

from collections.abc import Sequence

import numpy as np

from etl.chunk import SourceFacts
from etl.discretize import bucket_ids, word_ids
from m2m_model.contracts.spec import AttributeFeature


class ProfileIds:
    """Every snapshot's ids, encoded once."""

    def __init__(
        self,
        snapshots: SourceFacts,
        advertisers: int,
        features: Sequence[AttributeFeature],
        *,
        snapshot_days: int | None,
    ) -> None:
        """``snapshot_days``: for how long a snapshot holds, see ``RawConfig``."""
        self._held = snapshot_days
        snapshots = snapshots.take(np.lexsort((snapshots.day, snapshots.advertiser)))
        self._advertisers = advertisers
        self._owner, self._day = snapshots.advertiser, snapshots.day
        # The last row is for those without a snapshot; an index of -1 finds it.
        self._ids = np.zeros((len(self._day) + 1, len(features)), np.int32)
        values, words = iter(snapshots.values), iter(snapshots.words)
        for position, feature in enumerate(features):
            if feature.kind == "bucket":
                encoded = bucket_ids(next(values), feature.edges)
            else:
                encoded = word_ids(next(words), feature.values)
            self._ids[:-1, position] = encoded

    def at(self, day: int) -> np.ndarray:
        """[A, features]: ids of the latest snapshot of each advertiser that holds on ``day``, missing if none does."""
        holds = self._day <= day
        if self._held is not None:
            holds &= self._day > day - self._held
        rows = np.flatnonzero(holds)
        latest = np.full(self._advertisers, -1)
        latest[self._owner[rows]] = rows  # ascending by day, so that an advertiser's last one stays
        ids: np.ndarray = self._ids[latest]
        return ids
