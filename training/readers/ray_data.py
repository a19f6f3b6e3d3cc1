"""Ray Data as a reader: each rank streams its share of the files through Ray's own scheduler.

Files are dealt whole, by rows, so that nothing is dropped (Ray Train's own split cuts to equal shards) and a rank's
order is a function of seed and epoch (``streaming_split`` counts its own epochs, from 0 again after a resume). Reading
tasks ask for no CPU: training workers hold them all, and would wait for ever. Progress marks the bounds of epochs
alone: an interrupted epoch starts over.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.dataset as pads
import ray.data

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry
from training.dataset import PAGE_CHECKSUMS, SplitFiles, batch_column_names, batch_columns
from training.readers.base import Progress, epoch_seed, rebatched

SCAN_OPTIONS = (
    {
        "fragment_scan_options": pads.ParquetFragmentScanOptions(
            page_checksum_verification=True, use_buffered_stream=True
        )
    }
    if PAGE_CHECKSUMS
    else {}
)


@dataclass(frozen=True, kw_only=True)
class RayDataReader:
    split: SplitFiles
    spec: DatasetSpec
    batch_size: int
    seed: int
    shuffle_blocks: int
    rank: int
    world: int

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        files = dealt_files(self.split.files, self.rank, self.world)
        if not files:
            return
        try:
            for batch in rebatched(self._pieces(files, epoch), self.batch_size, self.spec):
                yield batch, {}
        except UserError:
            raise
        except Exception as error:
            raise (self.split.find_damage() or error) from None

    def _pieces(self, files: list[FileEntry], epoch: int) -> Iterator[dict[str, np.ndarray]]:
        _settle_context()
        order = np.random.default_rng([self.seed, epoch]).permutation(len(files))
        dataset = ray.data.read_parquet(
            [self.split.folder.join(files[index].path) for index in order],
            filesystem=self.split.folder.filesystem,
            columns=batch_column_names(self.spec),
            partitioning=None,
            ray_remote_args={"num_cpus": 0},
            **SCAN_OPTIONS,
        )
        batches = dataset.iter_batches(
            batch_size=self.batch_size,
            batch_format="pyarrow",
            local_shuffle_buffer_size=self.shuffle_blocks * self.batch_size,
            local_shuffle_seed=epoch_seed(self.seed, epoch),
        )
        return (batch_columns(table, self.spec) for table in batches)


def _settle_context() -> None:
    """Settings of Ray Data that cannot be given per call, for this process."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # the job shows its own
    if hasattr(context, "use_datasource_v2"):
        # Version 2 lists files in threads that all try to import fsspec's HTTP module; without aiohttp installed, one
        # of them sees it missing, as Ray expects, and the others see it half imported, which ends the job.
        context.use_datasource_v2 = False


def dealt_files(files: Sequence[FileEntry], rank: int, world: int) -> list[FileEntry]:
    """A rank's files: the largest first, each to the rank with the fewest rows so far."""
    shares: list[list[FileEntry]] = [[] for _ in range(world)]
    rows = [0] * world
    for file in sorted(files, key=lambda f: (-f.rows, f.path)):
        poorest = rows.index(min(rows))
        shares[poorest].append(file)
        rows[poorest] += file.rows
    return shares[rank]
