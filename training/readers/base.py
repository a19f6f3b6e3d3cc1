"""The protocol of all readers, and what they share."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from m2m_model.batch import Batch
from m2m_model.contracts.spec import DatasetSpec

Progress = Mapping[str, Any]
"""JSON-able; what a reader needs to go on after a batch. Its content is the reader's own."""


class Reader(Protocol):
    """One rank's share of one split: over all ranks, every row exactly once per epoch."""

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        """Batches of an epoch, all full but the last, each with the progress that goes on after it.

        ``progress``: what the ranks of an interrupted epoch had last, in any order and of any number; None: its start.
        """
        ...


def epoch_seed(seed: int, epoch: int) -> int:
    """A 32-bit seed for libraries that take one number; epochs and seeds do not collide by arithmetic."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def rebatched(pieces: Iterable[Mapping[str, np.ndarray]], batch_size: int, spec: DatasetSpec) -> Iterator[Batch]:
    """Pieces of any length as batches of ``batch_size`` rows, the last one shorter."""
    waiting: list[Mapping[str, np.ndarray]] = []
    rows = 0
    for piece in pieces:
        if not len(piece["scenario_index"]):
            continue
        waiting.append(piece)
        rows += len(piece["scenario_index"])
        if rows < batch_size:
            continue
        joined = {name: np.concatenate([part[name] for part in waiting]) for name in waiting[0]}
        for start in range(0, rows - batch_size + 1, batch_size):
            yield Batch.from_columns({n: a[start : start + batch_size] for n, a in joined.items()}, spec)
        left = rows % batch_size
        waiting = [{name: array[rows - left :] for name, array in joined.items()}] if left else []
        rows = left
    if rows:
        yield Batch.from_columns({name: np.concatenate([part[name] for part in waiting]) for name in waiting[0]}, spec)
