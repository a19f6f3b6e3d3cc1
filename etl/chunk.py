"""Facts of a chunk of advertisers as arrays, source by source; in a replaying build each fact in versions."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True)
class SourceFacts:
    """Facts of one source in a chunk, sorted by advertiser; ``advertiser`` numbers the chunk's advertisers."""

    advertiser: np.ndarray
    scenario: np.ndarray
    day: np.ndarray
    values: tuple[np.ndarray, ...]
    """Null as NaN."""
    words: tuple[pa.Array, ...] = ()
    seen: np.ndarray | None = None
    """As-of day from which a version is known, see :mod:`etl.replay`; None: every fact always was."""

    def take(self, rows: np.ndarray | slice) -> "SourceFacts":
        indices = pa.array(np.arange(len(self.day))[rows])
        return SourceFacts(
            advertiser=self.advertiser[rows],
            scenario=self.scenario[rows],
            day=self.day[rows],
            values=tuple(column[rows] for column in self.values),
            words=tuple(column.take(indices) for column in self.words),
            seen=None if self.seen is None else self.seen[rows],
        )

    def matured(self) -> "SourceFacts":
        """The last version of every fact."""
        return self if self.seen is None else self.take(self._until() == NEVER)

    def known(self, as_of: int, *, first: int) -> "SourceFacts":
        """Facts from day ``first`` on, in the version that is known on as-of day ``as_of``."""
        assert self.seen is not None
        return self.take((self.seen <= as_of) & (as_of < self._until()) & (self.day >= first))

    def _until(self) -> np.ndarray:
        """Per fact row, the as-of day from which a later version of its key is known; NEVER for the last."""
        assert self.seen is not None
        order = np.lexsort((self.seen, self.day, self.scenario, self.advertiser))
        keys = np.stack([self.advertiser, self.scenario, self.day])[:, order]
        same_as_next = (keys[:, 1:] == keys[:, :-1]).all(axis=0)
        until = np.full(len(order), NEVER, np.int64)
        until[order[:-1][same_as_next]] = self.seen[order[1:][same_as_next]]
        return until


@dataclass(frozen=True)
class Facts:
    """Facts of a chunk of advertisers."""

    advertisers: pa.Array
    """Ids, ascending."""
    sources: tuple[SourceFacts, ...]
    profile: SourceFacts

    def matured(self) -> "Facts":
        """As all is known in the end."""
        return replace(self, sources=tuple(source.matured() for source in self.sources))

    def known(self, as_of: int, *, first: int) -> "Facts":
        """As known on as-of day ``as_of``, from day ``first`` on. Snapshots are known on their day."""
        return replace(self, sources=tuple(source.known(as_of, first=first) for source in self.sources))
