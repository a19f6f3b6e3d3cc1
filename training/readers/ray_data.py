"""Ray Data as a reader: each rank streams its share of the files through Ray's own scheduler.

Files are dealt whole, by rows, so that nothing is dropped (Ray Train's own split cuts to equal shards) and a rank's
order is a function of seed and epoch (``streaming_split`` counts its own epochs, from 0 again after a resume). Reading
tasks ask for no CPU: training workers hold them all, and would wait for ever. That, and checksums of pages, is why the
tasks read with our own function: ``ray.data.read_parquet`` samples files in tasks that ask for a CPU each. Progress
marks the bounds of epochs alone: an interrupted epoch starts over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import ray.data

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry
from training.dataset import SplitFiles, batch_column_names, batch_columns
from training.readers.base import Progress, eligible, epoch_seed, rebatched


@dataclass(frozen=True, kw_only=True)
class RayDataReader:
    split: SplitFiles
    spec: DatasetSpec
    batch_size: int
    seed: int
    shuffle_blocks: int
    rank: int
    world: int
    eligible_only: bool = False

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        files = dealt_files(self.split.files, self.rank, self.world)
        if not files:
            return
        try:
            pieces = self._pieces(files, epoch)
            for batch in rebatched(eligible(pieces) if self.eligible_only else pieces, self.batch_size):
                yield batch, {}
        except Exception as error:
            raise (_user_error(error) or self.split.find_damage(files) or error) from None

    def _pieces(self, files: list[FileEntry], epoch: int) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(files))
        split, spec = self.split, self.spec

        def row_groups(positions: dict[str, np.ndarray]) -> Iterator[pa.Table]:
            for file in (files[position] for position in positions["item"]):
                for row_group in range(len(file.row_groups)):
                    yield split.read(file, [row_group], batch_column_names(spec))

        ray.data.DataContext.get_current().enable_progress_bars = False  # the job shows its own
        dataset = ray.data.from_items(order.tolist(), override_num_blocks=len(files)).map_batches(
            row_groups, batch_size=1, batch_format="numpy", num_cpus=0
        )
        dataset.context.execution_options.preserve_order = True
        largest = max((rows for file in files for rows in file.row_groups), default=1)
        batches = dataset.iter_batches(
            batch_size=self.batch_size,
            batch_format="pyarrow",
            local_shuffle_buffer_size=self.shuffle_blocks * largest,
            local_shuffle_seed=epoch_seed(self.seed, epoch),
        )
        return (Batch.from_columns(batch_columns(table, spec), spec) for table in batches)


def _user_error(error: BaseException | None) -> UserError | None:
    """What a reading task raised, without Ray's wrapping, remote traceback and the advice it appends."""
    while error is not None and type(error) is not UserError:
        error = getattr(error, "cause", None) or error.__cause__
    return None if error is None else UserError(str(error).splitlines()[0])


def dealt_files(files: Sequence[FileEntry], rank: int, world: int) -> list[FileEntry]:
    """A rank's files: the largest first, each to the rank with the fewest rows so far."""
    shares: list[list[FileEntry]] = [[] for _ in range(world)]
    rows = [0] * world
    for file in sorted(files, key=lambda f: (-f.rows, f.path)):
        poorest = rows.index(min(rows))
        shares[poorest].append(file)
        rows[poorest] += file.rows
    return shares[rank]
