"""The protocol of all readers, and what they share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from m2m_model.batch import Batch

Progress = Mapping[str, Any]
"""JSON-able; what a reader needs to go on after a batch. Its content is the reader's own."""
Deal = Callable[[int, int], Iterable[int]]
"""(epoch, count) -> the positions, of ``count``, that are this rank's; over all ranks each once."""


class Reader(Protocol):
    """One rank's share of one split: over all ranks, every row exactly once per epoch."""

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        """Batches of an epoch, all full but the last, each with the progress that goes on after it; an empty one of a
        reader that starts an interrupted epoch over.

        ``progress``: what the ranks of an interrupted epoch had last, in any order and of any number; None: its start.
        """
        ...


def epoch_seed(seed: int, epoch: int) -> int:
    """A 32-bit seed for libraries that take one number; epochs and seeds do not collide by arithmetic."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def eligible(pieces: Iterable[Batch]) -> Iterator[Batch]:
    """The eligible rows of pieces."""
    return (piece.select(piece.eligible) for piece in pieces)


def rebatched(pieces: Iterable[Batch], batch_size: int) -> Iterator[Batch]:
    """Pieces of any length as batches of ``batch_size`` rows, the last one shorter. Only borders are copied."""
    waiting: list[Batch] = []
    missing = batch_size
    for piece in pieces:
        start = 0
        while len(piece) - start >= missing:
            yield Batch.concatenate([*waiting, piece.select(slice(start, start + missing))])
            waiting, start, missing = [], start + missing, batch_size
        if start < len(piece):
            waiting.append(piece.select(slice(start, None)))
            missing -= len(piece) - start
    if waiting:
        yield Batch.concatenate(waiting)
