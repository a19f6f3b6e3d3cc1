"""The default reader: row groups in an order that is a function of seed and epoch alone.

Row groups of all files are permuted, cut into chunks of ``shuffle_blocks``, and chunk i goes to rank i mod W; rows are
shuffled within a chunk. With ``group_rows`` > 1 they are put in runs of one knowledge key, and since many keys live no
longer than a day of the scenario's attributes, row groups of an as-of day stay together. Nothing of this depends on W
but who reads what, so an epoch that W ranks began can be finished by any other number: progress names the chunks that
are done and the rows taken of the others.
"""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError

from m2m_model.batch import Batch
from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry
from training.dataset import SplitFiles, batch_column_names, batch_columns
from training.readers.base import Deal, Progress, rebatched
from training.readers.grouping import grouped_order, knowledge_keys

READ_THREADS = 4
"""Row groups read at once. More than a worker's cores, for stores where a read mostly waits."""


@dataclass(frozen=True)
class Block:
    file: FileEntry
    row_group: int
    rows: int


class ParquetProgress(StrictConfig):
    """How far an epoch has come, as one rank knows it: its own chunks and what it was told at the start."""

    done: tuple[int, ...] = ()
    """Chunks of which every row was taken, ascending."""
    taken: dict[int, int] = {}
    """Rows taken of chunks that were begun."""

    @classmethod
    def merge(cls, parts: Sequence[Progress]) -> Self:
        """What all ranks together have done.

        A rank goes on saying of another rank's chunk what it was told when the epoch resumed, so of two accounts of a
        chunk the one with more rows is the newer.

        Raises:
            UserError: the progress is another reader's.
        """
        try:
            known = [cls.model_validate(part) for part in parts]
        except ValidationError:
            raise UserError(
                "the checkpoint's epoch was begun by another reader: resume with that reader.name, or train again"
            ) from None
        done = {chunk for one in known for chunk in one.done}
        taken: dict[int, int] = {}
        for chunk, rows in (item for one in known for item in one.taken.items() if item[0] not in done):
            taken[chunk] = max(rows, taken.get(chunk, 0))
        return cls(done=tuple(sorted(done)), taken=taken)


@dataclass(frozen=True, kw_only=True)
class ParquetReader:
    """See the module docstring; holds two chunks in memory, one of them being read ahead."""

    split: SplitFiles
    spec: DatasetSpec
    batch_size: int
    seed: int
    shuffle_blocks: int
    group_rows: int
    rank: int
    world: int
    eligible_only: bool = False
    deal: Deal | None = None
    """Who gets which chunk, where that is not chunk i to rank i mod W."""

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        chunks, start = self.chunks(epoch), ParquetProgress.merge(progress or [])
        done, taken = sorted(start.done), dict(start.taken)
        begun: deque[tuple[int, int]] = deque()
        for batch in rebatched(self._read_ahead(epoch, chunks, start, begun), self.batch_size):
            rows = len(batch)
            while rows:
                current, size = begun[0]
                left = size - taken.get(current, 0)
                taken[current] = taken.get(current, 0) + min(rows, left)
                if rows >= left:
                    done = sorted([*done, current])
                    begun.popleft()
                    del taken[current]
                rows -= min(rows, left)
            # JSON has no integer keys.
            yield batch, {"done": done, "taken": {str(chunk): count for chunk, count in taken.items()}}

    def chunks(self, epoch: int) -> list[list[Block]]:
        """All chunks of the epoch, the same for every rank and world size."""
        blocks = [
            Block(file, row_group, rows)
            for file in self.split.files
            for row_group, rows in enumerate(file.row_groups)
            if rows
        ]
        random = np.random.default_rng([self.seed, epoch])
        shuffled = [blocks[index] for index in random.permutation(len(blocks))]
        if self.group_rows > 1:
            days = sorted({block.file.partition["dt"] for block in blocks})
            place = dict(zip(days, random.permutation(len(days)), strict=True))
            shuffled.sort(key=lambda block: place[block.file.partition["dt"]])
        return [shuffled[start : start + self.shuffle_blocks] for start in range(0, len(blocks), self.shuffle_blocks)]

    def _mine(self, epoch: int, chunks: int, done: Collection[int]) -> Iterator[int]:
        """This rank's chunks of those that are left."""
        left = [index for index in range(chunks) if index not in done]
        positions = self.deal(epoch, len(left)) if self.deal else range(self.rank, len(left), self.world)
        return (left[position] for position in positions)

    def _read_ahead(
        self, epoch: int, chunks: list[list[Block]], start: ParquetProgress, begun: deque[tuple[int, int]]
    ) -> Iterator[Batch]:
        """The rows of this rank's chunks; ``begun`` gets each chunk's index and its rows before these come."""
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(READ_THREADS) as readers:

            def read(index: int) -> tuple[int, Future[Batch]]:
                skip = start.taken.get(index, 0)
                return index, ahead.submit(self._read, readers, epoch, index, chunks[index], skip)

            def rows_of(index: int, reading: Future[Batch]) -> Batch:
                rows = reading.result()
                begun.append((index, start.taken.get(index, 0) + len(rows)))
                return rows

            waiting = None
            for index in self._mine(epoch, len(chunks), frozenset(start.done)):
                following = read(index)
                if waiting is not None:
                    yield rows_of(*waiting)
                waiting = following
            if waiting is not None:
                yield rows_of(*waiting)

    def _read(self, readers: ThreadPoolExecutor, epoch: int, index: int, blocks: list[Block], skip: int) -> Batch:
        names = batch_column_names(self.spec)
        tables = readers.map(lambda block: self.split.read(block.file, [block.row_group], names), blocks)
        table = pa.concat_tables(tables)
        columns = batch_columns(table.filter(table["eligible"]) if self.eligible_only else table, self.spec)
        random = np.random.default_rng([self.seed, epoch, index])
        order = grouped_order(knowledge_keys(columns), self.group_rows, random)[skip:]
        return Batch.from_columns(columns, self.spec).select(torch.from_numpy(order))
