"""Runs the training loop on a group of local processes and takes the time: what all scaling benchmarks share."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ray
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.zoo.registry import build_model
from training.config import ReaderConfig, TrainConfig
from training.loop import EpochLosses, Event, Loop
from training.predict import read_spec
from training.readers.base import Progress, Reader
from training.readers.registry import open_reader
from training.sync.registry import make_synchronizer


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some workers that train together, a thread each."""

    dataset: str
    model: ModelConfig
    train: TrainConfig
    workers: int
    shuffle_blocks: int = 16
    pinned: bool = False
    """Worker r runs on core r alone."""
    sleep: tuple[float, ...] = ()
    """Seconds that worker r sleeps per second that it computes; none: it does not."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    history: list[EpochLosses]
    weights: dict[str, Tensor]
    """Of the best validation loss."""
    rows_per_s: list[float]
    """Training rows of all workers per second, by epoch; validation and checkpoints left out."""
    staleness: int | None
    """The largest of any update, where training was asynchronous."""


@dataclass(kw_only=True)
class Sleepy:
    """A reader that sleeps before each batch in proportion to what the last one cost to compute."""

    reader: Reader
    factor: float

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        started = time.thread_time()
        for item in self.reader.epoch(epoch, progress):
            time.sleep(self.factor * (time.thread_time() - started))
            started = time.thread_time()
            yield item


@dataclass(kw_only=True)
class Clock:
    """When rank 0's training of each epoch began and ended."""

    began: float = 0.0
    ended: float = 0.0
    rows: int = 0
    rates: list[float] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        if event.validation is None:
            self.ended, self.rows = time.perf_counter(), event.rows
        else:
            self.rates.append(self.rows / (self.ended - self.began))
            self.began = time.perf_counter()


def run(group: Group) -> Outcome:
    """Train from scratch; asynchronous groups start a Ray of their own."""
    with tempfile.TemporaryDirectory() as folder:
        address = ""
        if group.train.sync == "async":
            context = ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
            address = context.address_info["gcs_address"]
        try:
            arguments = (group, folder, address)
            mp.spawn(_worker, args=arguments, nprocs=group.workers)  # type: ignore[no-untyped-call]
        finally:
            if address:
                ray.shutdown()
        outcome: Outcome = torch.load(Path(folder, "outcome.pt"), weights_only=False)
    return outcome


def _worker(rank: int, group: Group, folder: str, address: str) -> None:
    torch.set_num_threads(1)
    if group.pinned:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    if address:
        ray.init(address=address, log_to_driver=False)
    if group.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=group.workers)
    spec = read_spec(
        Folder.at(group.dataset), read_manifest(Folder.at(group.dataset), kind="dataset", build_hint="build one")
    )
    torch.manual_seed(group.train.seed)
    model = build_model(group.model, spec)
    sync = make_synchronizer(model, group.train)
    reader_config = ReaderConfig(shuffle_blocks=group.shuffle_blocks)

    def reader(split: str) -> Reader:
        return open_reader(
            group.dataset,
            spec,
            reader_config,
            split=split,
            train=group.train,
            rank=rank,
            world=group.workers,
            deal=sync.deal if split == "train" else None,
        )

    train = reader("train")
    clock = Clock()
    loop = Loop(
        model=model,
        spec=spec,
        config=group.train,
        train=Sleepy(reader=train, factor=group.sleep[rank]) if group.sleep else train,
        validation=reader("validation"),
        save=lambda snapshot: None,
        tell=clock.tell,
        sync=sync,
    )
    if group.workers > 1:
        dist.barrier()
    clock.began = time.perf_counter()
    last = loop.run()
    if rank == 0:
        assert last.best is not None
        coordinator = getattr(sync, "coordinator", None)
        outcome = Outcome(
            history=last.state.history,
            weights=last.best,
            rows_per_s=clock.rates,
            staleness=ray.get(coordinator.staleness.remote()) if coordinator else None,
        )
        torch.save(outcome, Path(folder, "outcome.pt"))
    if group.workers > 1:
        dist.barrier()  # rank 0's actors end with it
        dist.destroy_process_group()
