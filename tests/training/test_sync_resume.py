"""An epoch that some ranks began in any mode, others finish: every row is trained on once."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from m2m_model.batch import Batch
from m2m_model.contracts.store import Folder
from tests.training.datasets import write_dataset
from tests.training.ranks import run_ranks
from tests.training.test_loop import CONTENT, ListReader, Tiny, poisson_sum
from tests.training.tiny import SPEC
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import ReaderConfig, TrainConfig
from training.loop import Loop, Snapshot
from training.readers.base import Progress, Reader
from training.readers.registry import open_reader
from training.sync.registry import make_synchronizer

ROWS_PER_DAY = [40, 25, 31]


class StoppedError(Exception):
    """The process ends here."""


class Recorded:
    """A reader that keeps what it hands out."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.rows = reader, list[str]()

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        for batch, reached in self.reader.epoch(epoch, progress):
            self.rows += [row.numpy().tobytes().hex() for row in batch.dense]
            yield batch, reached


def _rank(rank: int, world: int, folder: Path, attempt: int, changed: dict[str, Any], address: str) -> None:
    if address:
        import ray

        ray.init(address=address, log_to_driver=False)
    config = TrainConfig(epochs=1, batch_size=6, checkpoint_every_steps=4, **changed)
    torch.manual_seed(0)
    model: nn.Module = Tiny()
    sync = make_synchronizer(model, config)
    train = Recorded(
        open_reader(
            f"{folder}/dataset",
            SPEC,
            ReaderConfig(shuffle_blocks=2),
            splits=["train"],
            train=config,
            rank=rank,
            world=world,
            deal=sync.deal,
        )
    )
    saves = 0

    def save(snapshot: Snapshot) -> None:
        nonlocal saves
        saves += 1
        if rank == 0:
            target = folder / f"checkpoint{attempt}"
            target.mkdir(exist_ok=True)
            save_checkpoint(target, snapshot, SPEC, CONTENT)
        dist.barrier()
        if attempt == 0 and saves == 1:
            raise StoppedError

    loop = Loop(
        model=model,
        loss=poisson_sum,
        spec=SPEC,
        config=config,
        train=train,
        validation=ListReader([0, 1, 2]),
        save=save,
        tell=lambda event: None,
        sync=sync,
    )
    if attempt:
        loop.restore(load_checkpoint(Folder.at(f"{folder}/checkpoint{attempt - 1}"), SPEC, CONTENT))
    try:
        loop.run()
    except StoppedError:
        assert loop.state.epoch == 0
    (folder / f"rows{attempt}-{rank}.json").write_text(json.dumps(train.rows))


def rows_after(folder: Path, worlds: tuple[int, int], changed: dict[str, Any], address: str) -> Counter[str]:
    """Rows that were trained on by ``worlds[0]`` ranks up to a checkpoint, and by ``worlds[1]`` from there on."""
    for attempt, world in enumerate(worlds):
        run_ranks(world, _rank, world, folder, attempt, changed, address)
    return Counter(row for file in folder.glob("rows*.json") for row in json.loads(file.read_text()))


def assert_every_row_once(folder: Path, worlds: tuple[int, int], changed: dict[str, Any], address: str = "") -> None:
    write_dataset(folder / "dataset", SPEC, rows_per_day=ROWS_PER_DAY, row_group_rows=5)
    rows = rows_after(folder, worlds, changed, address)
    assert len(rows) == sum(ROWS_PER_DAY)
    assert set(rows.values()) == {1}


@pytest.mark.parametrize(
    ("worlds", "changed"),
    [((2, 3), {}), ((3, 1), {"shard_optimizer": True}), ((2, 1), {"sync": "local_sgd", "sync_period": 2})],
)
def test_other_numbers_of_workers_finish_an_epoch(
    tmp_path: Path, worlds: tuple[int, int], changed: dict[str, Any]
) -> None:
    assert_every_row_once(tmp_path, worlds, changed)


@pytest.mark.ray
def test_other_numbers_of_asynchronous_workers_finish_an_epoch(tmp_path: Path) -> None:
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert_every_row_once(tmp_path, (2, 3), {"sync": "async", "staleness": 2}, context.address_info["gcs_address"])
    finally:
        ray.shutdown()
