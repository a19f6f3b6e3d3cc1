"""Runs the training loop on a group of local processes and takes the time: what all scaling benchmarks share."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ray
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.losses import JointLoss
from m2m_model.zoo.registry import build_model
from training.allocator import keep_freed_memory
from training.config import ReaderConfig, TrainConfig
from training.dataset import label_statistics, open_split
from training.loop import EpochLosses, Event, Loop, task_weights
from training.published import read_spec
from training.readers.base import Reader
from training.readers.registry import open_reader
from training.step import Update
from training.sync.base import total
from training.sync.registry import make_synchronizer


@dataclass(frozen=True, kw_only=True)
class Group:
    """Some workers that train together, a thread each."""

    name: str
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
    name: str
    history: list[EpochLosses]
    weights: dict[str, Tensor]
    """Of the best validation loss."""
    rows_per_s: list[float]
    """Training rows of all workers per second, by epoch; validation and checkpoints left out."""
    rows_per_cpu_s: float
    """Training rows per CPU-second of all workers over the whole run, validation included; servers are not."""
    staleness: int | None
    """The largest of any update, where training was asynchronous."""


class SlowLoop(Loop):
    """Sleeps before it hands over a gradient, in proportion to what that took to compute: meanwhile its weights age."""

    factor = 0.0

    def _gradient(self, module: nn.Module, batch: Batch | None, scale: float, update: Update | None) -> float:
        started = time.thread_time()
        loss = super()._gradient(module, batch, scale, update)
        time.sleep(self.factor * (time.thread_time() - started))
        return loss


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


def run(groups: Sequence[Group]) -> list[Outcome]:
    """Train each from scratch, one after the other, in the same processes (so all have as many workers).

    Asynchronous groups share a Ray of their own. Rank 0 prints a line when a group is done.
    """
    with tempfile.TemporaryDirectory() as folder:
        address = ""
        if any(group.train.sync == "async" for group in groups):
            context = ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
            address = context.address_info["gcs_address"]
        try:
            arguments = (list(groups), folder, address)
            mp.spawn(_worker, args=arguments, nprocs=groups[0].workers)  # type: ignore[no-untyped-call, attr-defined]
        finally:
            if address:
                ray.shutdown()
        outcomes: list[Outcome] = torch.load(Path(folder, "outcomes.pt"), weights_only=False)
    return outcomes


def _worker(rank: int, groups: list[Group], folder: str, address: str) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    if address:
        ray.init(address=address, log_to_driver=False)
    world = groups[0].workers
    if groups[0].pinned:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    outcomes = [_train(rank, group) for group in groups]
    if rank == 0:
        torch.save(outcomes, Path(folder, "outcomes.pt"))
    if world > 1:
        dist.barrier()  # rank 0's actors end with it
        dist.destroy_process_group()


def _train(rank: int, group: Group) -> Outcome | None:
    """One group's training; the outcome on rank 0."""
    torch.manual_seed(group.train.seed)
    folder = Folder.at(group.dataset)
    spec = read_spec(folder, read_manifest(folder, kind="dataset", build_hint="build it first"))
    model = build_model(group.model, spec)
    sync = make_synchronizer(model, group.train)

    def reader(split: str) -> Reader:
        return open_reader(
            group.dataset,
            spec,
            ReaderConfig(shuffle_blocks=group.shuffle_blocks),
            splits=[split],
            train=group.train,
            rank=rank,
            world=group.workers,
            deal=sync.deal if split == "train" else None,
        )

    clock = Clock()
    statistics = label_statistics(open_split(group.dataset, "train"), spec)
    loop = SlowLoop(
        model=model,
        loss=JointLoss(model, group.train.loss, weights=task_weights(spec, group.train), statistics=statistics),
        spec=spec,
        config=group.train,
        train=reader("train"),
        validation=reader("validation"),
        save=lambda snapshot: None,
        tell=clock.tell,
        sync=sync,
    )
    loop.factor = group.sleep[rank] if group.sleep else 0.0
    if group.workers > 1:
        dist.barrier()
    clock.began = time.perf_counter()
    cpu_began = time.process_time()
    last = loop.run()
    cpu_s = total([time.process_time() - cpu_began])[0]
    if rank != 0:
        return None
    assert last.best is not None
    coordinator = getattr(sync, "coordinator", None)
    staleness = ray.get(coordinator.staleness.remote()) if coordinator else None
    rates = " ".join(f"{rate:.0f}" for rate in clock.rates)
    efficiency = clock.rows * len(clock.rates) / cpu_s
    results = f"{rates} rows/s, {efficiency:.0f} rows/CPU-s, validation {last.state.best_loss:.4f}"
    print(f"{group.name}: {results}, staleness {staleness}", flush=True)
    return Outcome(
        name=group.name,
        history=last.state.history,
        weights=last.best,
        rows_per_s=clock.rates,
        rows_per_cpu_s=efficiency,
        staleness=staleness,
    )
