"""The glue to Ray Train V2: workers, failures, checkpoints in shared storage, explicit resume."""

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pyarrow.fs as pafs
import ray
import ray.train
import torch
import torch.distributed as dist
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.config import LoggingConfig
from torch.utils.tensorboard import SummaryWriter

from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, below, new_generation
from m2m_model.losses import JointLoss, LabelStatistics
from m2m_model.zoo.registry import build_model
from training.allocator import keep_freed_memory
from training.board import Board, watching
from training.checkpoint import load_checkpoint, newest_first, run_hash, save_checkpoint
from training.config import TrainingConfig
from training.loop import Event, Loop, Snapshot, task_weights
from training.preflight import check_resources
from training.progress import Display
from training.readers.base import Deal, Reader
from training.readers.registry import open_reader
from training.sync.base import world
from training.sync.registry import make_synchronizer

CHECKPOINTS_KEPT = 2
ADOPTED = "checkpoint_resumed_from"
SCALAR_STEPS = 20
"""Steps between TensorBoard scalars."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """What every worker needs to know."""

    dataset: str
    """Published folder of the dataset."""
    spec: DatasetSpec
    model: ModelConfig
    config: TrainingConfig
    statistics: LabelStatistics
    """Of the training rows."""
    content: Mapping[str, Any]
    """See :func:`training.checkpoint.run_content`."""
    storage: str
    """Folder of all runs; on more than one machine it must be shared."""
    name: str
    refit_epochs: int = 0
    """Of a refit, see :meth:`refit`; 0: training rows are trained on, and validation rows judge."""

    def refit(self, first: Snapshot) -> "TrainJob":
        """What trains anew on the eligible rows of training and validation, for as many epochs as were best in
        ``first``."""
        epochs = first.state.best_epochs
        return replace(self, refit_epochs=epochs, content={**self.content, "refit_epochs": epochs})

    @property
    def prefix(self) -> str:
        """Start of the folder names of all runs of the same data and configuration."""
        return f"{self.name}-{run_hash(self.content, self.spec)}-"


def train(job: TrainJob, *, resume: bool, rows: int) -> Snapshot:
    """Train on the connected Ray cluster; returns the last snapshot, with the best weights.

    ``resume`` goes on from the newest complete checkpoint of the same data and configuration, if there is one; without
    it training starts afresh, whatever lies in ``storage``. ``rows`` of an epoch are for the display.

    Raises:
        UserError: the cluster is too small, or training met one.
        OSError: the last of ``cluster.max_failures`` tries met one, such as a full disk.
    """
    # Every report waits for the controller's next look at the workers, by default up to 2 s later.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    cluster = job.config.cluster
    check_resources(cluster, ray.cluster_resources(), workers=cluster.workers, what="training workers")
    # Ray Train silently goes on with a run of the same name, so each gets a new one, which the start is copied into.
    name = job.prefix + new_generation()
    if resume:
        adopt_newest(job, name)
    board = ray.remote(Board).options(num_cpus=0, max_restarts=-1).remote()
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": job, "board": board, "name": name},
        scaling_config=ScalingConfig(
            num_workers=cluster.workers, resources_per_worker={"CPU": cluster.cpus_per_worker}
        ),
        run_config=RunConfig(
            name=name,
            storage_path=_storage_path(job.storage),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
    with (
        Display("training anew" if job.refit_epochs else "training", total=rows) as display,
        watching(board, display, epochs=job.refit_epochs or job.config.train.epochs),
    ):
        try:
            trainer.fit()
        except ray.train.v2.api.exceptions.WorkerGroupError as error:
            causes = [cause for cause in error.worker_failures.values() if isinstance(cause, UserError | OSError)]
            if causes:
                raise causes[0] from None
            raise
    final = _newest_first(job, name)[0]  # a finished run has reported a checkpoint
    snapshot = load_checkpoint(final, job.spec, job.content)
    _remove_runs(job, keep=final)
    return snapshot


def _worker(settings: dict[str, Any]) -> None:
    """One rank: Ray has set up the process group."""
    job: TrainJob = settings["job"]
    config, context = job.config, ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    train = config.train.model_copy(update={"epochs": job.refit_epochs or config.train.epochs})
    torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
    keep_freed_memory()
    torch.manual_seed(train.seed)
    model = build_model(job.model, job.spec)
    sync = make_synchronizer(model, train)

    def reader(*splits: str, deal: Deal | None = None) -> Reader:
        return open_reader(
            job.dataset,
            job.spec,
            config.reader,
            splits=splits,
            train=train,
            rank=rank,
            world=world,
            eligible_only=len(splits) > 1,
            deal=deal,
        )

    writer = _summary_writer(job.storage, settings["name"]) if rank == 0 else None

    def tell(event: Event) -> None:
        settings["board"].put.remote(event)
        if writer and event.ends_epoch:
            if event.validation is not None:
                writer.add_scalar("loss/validation", event.validation, event.step)
            writer.add_scalar("loss/train_epoch", event.loss, event.step)
            writer.flush()
        elif writer and event.step % SCALAR_STEPS == 0:
            writer.add_scalar("loss/train", event.loss, event.step)

    weights = task_weights(job.spec, train)
    splits = ("train", "validation") if job.refit_epochs else ("train",)
    loop = Loop(
        model=model,
        loss=JointLoss(model, train.loss, weights=weights, statistics=job.statistics),
        spec=job.spec,
        config=train,
        train=reader(*splits, deal=sync.deal),
        validation=None if job.refit_epochs else reader("validation"),
        save=lambda snapshot: _report(snapshot, job, rank=rank),
        tell=tell,
        sync=sync,
    )
    if snapshot := newest_of_run(job, settings["name"]):
        loop.restore(snapshot)
    loop.run()


def newest_of_run(job: TrainJob, name: str) -> Snapshot | None:
    """What the newest whole checkpoint of run ``name`` holds, at its start the adopted one; the same for all ranks.

    Not the checkpoint that Ray hands out after a failure: one that was stored just before, Ray may not have heard of,
    and more than an interval would be done again.

    Raises:
        UserError: there are checkpoints, and every one is damaged: training from the start would end with fewer steps
            than they have, and they would be taken for its result.
        OSError: the storage does not give one now.
    """
    chosen: list[str | None] = [None]
    snapshot = None
    damaged: dict[str, UserError] = {}
    if world()[0] == 0:
        for checkpoint in _newest_first(job, name):
            try:
                snapshot = load_checkpoint(checkpoint, job.spec, job.content)
            except UserError as error:
                damaged[checkpoint.path] = error
                print(f"checkpoint {checkpoint.path} is damaged: trying an older one", file=sys.stderr)
            else:
                chosen = [checkpoint.path.rpartition("/")[2]]
                break
        if snapshot is None and damaged:
            raise _all_damaged(job, damaged) from next(iter(damaged.values()))
    if dist.is_initialized():
        dist.broadcast_object_list(chosen)
    if snapshot is None and chosen[0] is not None:
        checkpoint = Folder.at(below(job.storage, name, chosen[0]))
        snapshot = load_checkpoint(checkpoint, job.spec, job.content)
    return snapshot


def _report(snapshot: Snapshot, job: TrainJob, *, rank: int) -> None:
    """Rank 0 hands in the checkpoint; ``report`` is a barrier, so all ranks call it."""
    metrics = {"step": snapshot.state.step, "losses": [asdict(losses) for losses in snapshot.state.history]}
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), snapshot, job.spec, job.content)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def adopt_newest(job: TrainJob, name: str) -> Folder | None:
    """Copy the newest whole checkpoint of earlier runs into run ``name``; None if there are no checkpoints.

    Workers of a killed driver may live on for some seconds and delete what they supersede, and a kill may cut what is
    being stored; so the copy is what is checked, and damaged checkpoints are passed over for older ones.

    Raises:
        UserError: every checkpoint is damaged.
    """
    copy = Folder.at(below(job.storage, name, ADOPTED))
    damaged: dict[str, UserError | FileNotFoundError] = {}
    while newest := next((c for c in _newest_first(job, job.prefix) if c.path not in damaged), None):
        try:
            copy.filesystem.create_dir(copy.path, recursive=True)
            pafs.copy_files(newest.path, copy.path, newest.filesystem, copy.filesystem)
            load_checkpoint(copy, job.spec, job.content)
        except (FileNotFoundError, UserError) as error:
            copy.filesystem.delete_dir(copy.path)
            damaged[newest.path] = error
            print(f"checkpoint {newest.path} is damaged or gone: trying an older one", file=sys.stderr)
        else:
            return copy
    if damaged:
        raise _all_damaged(job, damaged) from next(iter(damaged.values()))
    return None


def _all_damaged(job: TrainJob, damaged: Mapping[str, Exception]) -> UserError:
    return UserError(
        f"all checkpoints of this run below {job.storage} are damaged ({', '.join(damaged)}): train without --resume"
    )


def _newest_first(job: TrainJob, prefix: str) -> list[Folder]:
    """The checkpoints of the runs whose names start with ``prefix``."""
    return newest_first(
        checkpoint for run in _subfolders(Folder.at(job.storage), prefix) for checkpoint in _subfolders(run, "check")
    )


def _remove_runs(job: TrainJob, *, keep: Folder) -> None:
    """Remove the checkpoints of finished and broken-off runs that ``keep`` supersedes."""
    for run in _subfolders(Folder.at(job.storage), job.prefix):
        if not keep.path.startswith(f"{run.path}/"):
            run.filesystem.delete_dir(run.path)


def _subfolders(folder: Folder, prefix: str) -> list[Folder]:
    infos = folder.filesystem.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))
    names = [i.base_name for i in infos if i.type == pafs.FileType.Directory and i.base_name.startswith(prefix)]
    return [Folder(folder.filesystem, folder.join(name), below(folder.uri, name)) for name in sorted(names)]


def _storage_path(storage: str) -> str:
    """Ray wants local paths absolute."""
    return storage if len(urlparse(storage).scheme) > 1 else str(Path(storage).absolute())


def _summary_writer(storage: str, name: str) -> SummaryWriter | None:
    """TensorBoard scalars lie beside the run's checkpoints; only on file systems, not on object stores."""
    if len(urlparse(storage).scheme) > 1:
        return None
    return SummaryWriter(str(Path(storage).absolute() / name / "tensorboard"))
