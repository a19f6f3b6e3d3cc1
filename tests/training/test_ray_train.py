"""Training through Ray Train: two workers finish, a killed job resumes, a fresh run does not."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from m2m_model.contracts.errors import UserError
from m2m_model.zoo.registry import build_model
from tests.training.tiny import MODEL, SPEC, publish_tables, random_table
from training.checkpoint import run_content, save_checkpoint
from training.config import ClusterConfig, TrainConfig, TrainingConfig
from training.dataset import label_statistics, open_split
from training.loop import LoopState, Snapshot
from training.ray_train import TrainJob, newest_of_run, train

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROWS = 61
EPOCHS = 3


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    parts = {"train-0": 40, "train-1": 21, "validation-0": 17, "test-0": 5}
    tables = {
        name: (random_table(rows, seed=seed, labels=True), {"split": name.partition("-")[0], "dt": "2017-03-01"})
        for seed, (name, rows) in enumerate(parts.items())
    }
    publish_tables(str(folder), "dataset", tables)
    return folder


def job(dataset: Path, storage: Path, *, workers: int = 1, epochs: int = 2, **changed: Any) -> TrainJob:
    config = TrainingConfig(
        train=TrainConfig(epochs=epochs, batch_size=8, checkpoint_every_steps=5, early_stopping_patience=9, **changed),
        cluster=ClusterConfig(workers=workers, cpus_per_worker=1),
    )
    return TrainJob(
        dataset=str(dataset),
        spec=SPEC,
        model=MODEL,
        config=config,
        statistics=label_statistics(open_split(str(dataset), "train"), SPEC),
        content=run_content(MODEL, config, dataset_generation="g"),
        storage=str(storage),
        name="tiny",
    )


@pytest.fixture(scope="module")
def unbroken(_cluster: None, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot]:
    """A run of ``EPOCHS`` epochs that nothing disturbed: its storage, which others copy, and its last snapshot."""
    storage = tmp_path_factory.mktemp("unbroken")
    return storage, train(job(dataset, storage, epochs=EPOCHS), resume=False, rows=ROWS)


def same_weights(left: Snapshot, right: Snapshot) -> bool:
    return all(torch.equal(left.model[name], weights) for name, weights in right.model.items())


@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("sync", ["ddp", "local_sgd", "async"])
def test_two_workers_with_uneven_shards_finish(dataset: Path, tmp_path: Path, sync: str) -> None:
    last = train(job(dataset, tmp_path, workers=2, sync=sync), resume=False, rows=ROWS)
    assert last.state.finished
    assert [losses.epoch for losses in last.state.history] == [0, 1]
    assert last.best is not None
    assert list(tmp_path.rglob("events.out.tfevents*"))
    assert len(last.optimizer["state"]) == len(last.model)


def test_a_finished_run_is_resumed_only_on_request(
    dataset: Path, tmp_path: Path, unbroken: tuple[Path, Snapshot]
) -> None:
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    # A start afresh that went on from the first run would have nothing to do, and leave its folder the only one.
    (before,) = tmp_path.iterdir()
    again = train(job(dataset, tmp_path, epochs=EPOCHS), resume=False, rows=ROWS)
    (after,) = tmp_path.iterdir()
    assert before.name != after.name
    assert same_weights(again, unbroken[1])


def test_a_refit_trains_as_many_epochs_as_were_best_and_has_a_run_of_its_own(
    dataset: Path, tmp_path: Path, unbroken: tuple[Path, Snapshot]
) -> None:
    shutil.copytree(unbroken[0], tmp_path, dirs_exist_ok=True)
    whole, first = job(dataset, tmp_path, epochs=EPOCHS), unbroken[1]
    final = train(whole.refit(first), resume=False, rows=ROWS)
    assert len(final.state.history) == first.state.best_epochs
    assert final.best is not None
    assert all(torch.equal(weights, final.model[name]) for name, weights in final.best.items())
    assert not same_weights(final, first)
    assert len(list(tmp_path.iterdir())) == 2
    resumed = train(whole.refit(train(whole, resume=True, rows=ROWS)), resume=True, rows=ROWS)
    assert same_weights(resumed, final)


@pytest.mark.usefixtures("_cluster")
def test_too_small_a_cluster_is_an_error_instead_of_a_wait(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 training workers of 1 CPU need 3 CPUs"):
        train(job(dataset, tmp_path, workers=3), resume=False, rows=ROWS)


KILLED = """
import sys, pathlib, ray
from tests.training.test_ray_train import job, ROWS
from training.ray_train import train
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
train(job(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), epochs=int(sys.argv[3])), resume=True, rows=ROWS)
"""


def test_a_killed_driver_resumes_bit_identical(dataset: Path, tmp_path: Path, unbroken: tuple[Path, Snapshot]) -> None:
    arguments = [sys.executable, "-c", KILLED, str(dataset), str(tmp_path), str(EPOCHS)]
    # A session of its own, so that its cluster's processes can be ended with it.
    process = subprocess.Popen(arguments, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.rglob("state.json"))) < 2:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    resumed = train(job(dataset, tmp_path, epochs=EPOCHS), resume=True, rows=ROWS)
    assert len(list(tmp_path.iterdir())) == 1
    assert resumed.state == unbroken[1].state
    assert same_weights(resumed, unbroken[1])


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew(dataset: Path, tmp_path: Path) -> None:
    work = job(dataset, tmp_path)
    name = f"{work.prefix}20170301T000000-00"
    for step in (5, 10):
        folder = tmp_path / name / f"checkpoint_{step}"
        folder.mkdir(parents=True)
        state = LoopState(step=step, best_loss=1.0)
        model = build_model(MODEL, SPEC).state_dict()
        save_checkpoint(folder, Snapshot(model=model, optimizer={}, state=state), SPEC, work.content)
    (folder / "model.pt").write_bytes(b"")
    found = newest_of_run(work, name)
    assert found is not None
    assert found.state.step == 5
    (tmp_path / name / "checkpoint_5" / "model.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"checkpoint_10, .*checkpoint_5\): train without --resume"):
        newest_of_run(work, name)
