"""The default reader: row groups in an order that is a function of seed and epoch alone.

Row groups of all files are permuted, cut into chunks of ``shuffle_blocks``, and chunk i goes to rank i mod W; rows are
shuffled within a chunk. Nothing of this depends on W but who reads what, so an epoch that W ranks began can be finished
by any other number: progress names the chunks that are done and the rows taken of the others.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry
from training.dataset import SplitFiles, batch_column_names, batch_columns, damaged
from training.readers.base import Progress, rebatched


@dataclass(frozen=True)
class Block:
    file: FileEntry
    row_group: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class ParquetReader:
    """See the module docstring; holds two chunks in memory, one of them being read ahead."""

    split: SplitFiles
    spec: DatasetSpec
    batch_size: int
    seed: int
    shuffle_blocks: int
    rank: int
    world: int

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        chunks = self.chunks(epoch)
        done = {chunk for one in progress or () for chunk in one["done"]}
        taken = {int(chunk): rows for one in progress or () for chunk, rows in one["taken"].items()}
        mine = [index for index in range(len(chunks)) if index not in done][self.rank :: self.world]
        consumed = dict(taken)
        sizes = {index: sum(block.rows for block in chunks[index]) for index in mine}
        pieces = self._read_ahead(epoch, chunks, mine, taken)
        remaining = iter(mine)
        current = next(remaining, None)
        for batch in rebatched(pieces, self.batch_size, self.spec):
            rows = len(batch)
            while current is not None and rows:
                step = min(rows, sizes[current] - consumed.get(current, 0))
                consumed[current] = consumed.get(current, 0) + step
                rows -= step
                if consumed[current] == sizes[current]:
                    done.add(current)
                    del consumed[current]
                    current = next(remaining, None)
            yield batch, {"done": sorted(done), "taken": {str(chunk): n for chunk, n in consumed.items()}}

    def chunks(self, epoch: int) -> list[list[Block]]:
        """All chunks of the epoch, the same for every rank and world size."""
        blocks = [
            Block(file, row_group, rows)
            for file in self.split.files
            for row_group, rows in enumerate(file.row_groups)
            if rows
        ]
        order = np.random.default_rng([self.seed, epoch]).permutation(len(blocks))
        shuffled = [blocks[index] for index in order]
        return [shuffled[start : start + self.shuffle_blocks] for start in range(0, len(blocks), self.shuffle_blocks)]

    def _read_ahead(
        self, epoch: int, chunks: list[list[Block]], mine: list[int], taken: dict[int, int]
    ) -> Iterator[dict[str, np.ndarray]]:
        with ThreadPoolExecutor(1) as pool:
            ahead = None
            for index in mine:
                following = pool.submit(self._read, epoch, index, chunks[index], taken.get(index, 0))
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _read(self, epoch: int, index: int, blocks: list[Block], skip: int) -> dict[str, np.ndarray]:
        table = pa.concat_tables([self._read_block(block) for block in blocks])
        order = np.random.default_rng([self.seed, epoch, index]).permutation(len(table))[skip:]
        return {name: array[order] for name, array in batch_columns(table, self.spec).items()}

    def _read_block(self, block: Block) -> pa.Table:
        folder, names = self.split.folder, batch_column_names(self.spec)
        try:
            with folder.filesystem.open_input_file(folder.join(block.file.path)) as stream:
                file = pq.ParquetFile(stream, page_checksum_verification=True)
                return file.read_row_group(block.row_group, columns=names)
        except UserError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise damaged(folder, block.file, str(error).splitlines()[0]) from None
