"""petastorm as a reader, in its own pinned environment (``make venv-petastorm``).

petastorm deals row groups to ranks, shuffles them, and shuffles rows within a row group. Progress marks the bounds of
epochs alone: an interrupted epoch starts over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from training.dataset import SplitFiles, batch_column_names
from training.readers.base import Progress, eligible, epoch_seed, rebatched


@dataclass(frozen=True, kw_only=True)
class PetastormReader:
    split: SplitFiles
    spec: DatasetSpec
    batch_size: int
    seed: int
    rank: int
    world: int
    eligible_only: bool = False

    def __post_init__(self) -> None:
        _petastorm()
        if not isinstance(self.split.folder.filesystem, pafs.LocalFileSystem):
            raise UserError('the petastorm reader reads local or mounted paths only: set reader.name = "parquet"')

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        try:
            pieces = self._pieces(epoch)
            for batch in rebatched(eligible(pieces) if self.eligible_only else pieces, self.batch_size):
                yield batch, {}
        except UserError:
            raise
        except Exception as error:
            raise (self.split.find_damage() or error) from None

    def _pieces(self, epoch: int) -> Iterator[Batch]:
        petastorm = _petastorm()
        # petastorm refuses to make more shards than there are row groups.
        shards = min(self.world, sum(len(file.row_groups) for file in self.split.files))
        if self.rank >= shards:
            return
        with petastorm.make_batch_reader(
            ["file://" + self.split.folder.join(file.path) for file in self.split.files],
            schema_fields=batch_column_names(self.spec),
            reader_pool_type="thread",
            workers_count=1,
            num_epochs=1,
            cur_shard=self.rank,
            shard_count=shards,
            shuffle_row_groups=True,
            shuffle_rows=True,
            seed=epoch_seed(self.seed, epoch),
        ) as reader:
            for row_group in reader:
                columns = {name: _stacked(array) for name, array in row_group._asdict().items()}
                yield Batch.from_columns(columns, self.spec)


def _stacked(array: np.ndarray) -> np.ndarray:
    return np.stack(list(array)) if array.dtype == object else array


def _petastorm() -> Any:
    try:
        import petastorm
    except ImportError:
        raise UserError(
            'reader.name = "petastorm" needs petastorm 0.12.1 with pyarrow 14.0.2 and numpy 1.26, which do not go '
            "together with this environment: make venv-petastorm, and run the job with .venv-petastorm/bin/python"
        ) from None
    return petastorm
