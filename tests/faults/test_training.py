"""Training workers, their nodes, the head and the driver killed; one worker slow; a checkpoint cut in half.

In every case training ends bit-identical to an undisturbed run, and does at most one checkpoint interval again.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ray._private.node import Node
from ray.cluster_utils import Cluster

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder
from m2m_model.zoo.registry import build_model
from tests.faults.fault import ROOT, Fault
from tests.faults.processes import descendants, kill_tree, named, patiently, wait_for
from tests.faults.reader import watched
from tests.faults.trainer import steps
from tests.training.test_ray_train import ROWS, job
from tests.training.tiny import MODEL, SPEC, publish_tables, random_table
from training.checkpoint import load_checkpoint, newest_first, save_checkpoint
from training.loop import LoopState, Snapshot
from training.ray_train import adopt_newest, newest_of_run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]
EPOCHS, BATCH_SIZE = 5, 8
STEPS = EPOCHS * -(-ROWS // BATCH_SIZE)
"""Of one worker. Two have more: each takes half a batch, and none ends its epoch before the one with most rows."""
INTERVAL = 5
"""Steps between checkpoints; an epoch's end has one too."""
SECONDS = 900
RANK = "ray::RayTrainWorker"
"""What Ray calls the process of a rank."""


def write_dataset(folder: Path) -> Path:
    parts = {"train-0": 40, "train-1": 21, "validation-0": 17, "test-0": 5}
    tables = {
        name: (random_table(rows, seed=seed, labels=True), {"split": name.partition("-")[0], "dt": "2017-03-01"})
        for seed, (name, rows) in enumerate(parts.items())
    }
    publish_tables(str(folder), "dataset", tables)
    return folder


@dataclass(kw_only=True)
class Training:
    """One run: where its files are, and the process that drives it."""

    dataset: Path
    folder: Path
    workers: int = 1

    @property
    def events(self) -> Path:
        return self.folder / "events"

    @property
    def model(self) -> Path:
        """Where its model is published."""
        return self.folder / "model"

    def start(self, cluster: Cluster) -> subprocess.Popen[str]:
        paths = (self.dataset, self.folder / "storage", self.events, self.folder / "result", self.model)
        command = [sys.executable, "-m", "tests.faults.trainer", *paths, self.workers, EPOCHS]
        environment = os.environ | {"RAY_ADDRESS": cluster.address}
        log = (self.folder / "log").open("a")
        return subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
        )

    def reaches(self, step: int, driver: subprocess.Popen[str]) -> None:
        """Wait until ``step`` is done."""

        def there() -> bool:
            assert driver.poll() is None, (self.folder / "log").read_text()
            return any(done >= step for _, done in steps(self.events))

        wait_for(there)

    @property
    def numbers(self) -> list[int]:
        """Of the steps that were done, in the order of time."""
        return [step for _, step in steps(self.events)]

    def finished(self, driver: subprocess.Popen[str]) -> str:
        """What the run ends with: weights, steps and losses of its epochs."""
        assert driver.wait(timeout=SECONDS) == 0, (self.folder / "log").read_text()[-3000:]
        return (self.folder / "result").read_text()

    def recovery(self, killed_at: float, fault: Fault, *, submitted_at: float | None = None) -> int:
        """Note how many steps were done twice, and the seconds from the fault to the next step; returns the first.

        A rank may outlive its driver for a while: where the run was submitted again, steps before that do not count.
        """
        done = steps(self.events)
        again = len(done) - len({step for _, step in done})
        restarts = [moment for (_, before), (moment, step) in itertools.pairwise(done) if step <= before]
        if submitted_at is not None:
            restarts = [moment for moment, _ in done if moment > submitted_at]
        going_on = min(restarts, default=min(moment for moment, _ in done if moment > killed_at))
        fault.numbers["steps done again"] = again
        fault.numbers["seconds until training went on"] = round(going_on - killed_at, 1)
        return again


@contextmanager
def running(nodes: int) -> Iterator[Cluster]:
    """A head without CPUs and ``nodes`` nodes of one CPU each, every one a raylet of its own."""
    cluster = patiently(
        lambda: Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    )
    try:
        for _ in range(nodes):
            patiently(lambda: cluster.add_node(num_cpus=1))
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running(2) as two_nodes:
        yield two_nodes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


class Undisturbed(dict[int, str]):
    """What undisturbed runs end with, by the number of workers; each is run when it is first asked for."""

    def __init__(self, cluster: Cluster, dataset: Path, folder: Path) -> None:
        self.cluster, self.dataset, self.folder = cluster, dataset, folder

    def __missing__(self, workers: int) -> str:
        folder = self.folder / f"workers-{workers}"
        folder.mkdir()
        run = Training(dataset=self.dataset, folder=folder, workers=workers)
        self[workers] = run.finished(run.start(self.cluster))
        assert run.numbers == list(range(1, len(run.numbers) + 1))
        assert len(run.numbers) == STEPS if workers == 1 else len(run.numbers) >= STEPS
        return self[workers]


@pytest.fixture(scope="module")
def expected(dataset: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    return Undisturbed(cluster, dataset, tmp_path_factory.mktemp("undisturbed"))


def a_step(fault: Fault) -> int:
    """After the first checkpoint, before the last."""
    return fault.random.randrange(INTERVAL + 1, STEPS - INTERVAL)


def ranks() -> list[int]:
    return named(RANK, under=os.getpid())


@pytest.mark.slow
@pytest.mark.faults("kill -9 of a training worker")
def test_killed_worker(fault: Fault, cluster: Cluster, dataset: Path, expected: Undisturbed, tmp_path: Path) -> None:
    run = Training(dataset=dataset, folder=tmp_path, workers=1 + fault.repetition % 2)
    driver = run.start(cluster)
    run.reaches(a_step(fault), driver)
    os.kill(fault.random.choice(ranks()), signal.SIGKILL)
    killed_at = time.time()
    with watched(run.model):
        assert run.finished(driver) == expected[run.workers]
    assert run.recovery(killed_at, fault) <= INTERVAL
    fault.saw.append("went on by itself, bit-identical")


@pytest.mark.slow
@pytest.mark.faults("kill -9 of the Ray node under a training worker")
def test_killed_node(fault: Fault, cluster: Cluster, dataset: Path, expected: Undisturbed, tmp_path: Path) -> None:
    run = Training(dataset=dataset, folder=tmp_path)
    driver = run.start(cluster)
    run.reaches(a_step(fault), driver)
    (rank,) = ranks()
    (node,) = [node for node in cluster.worker_nodes if rank in descendants(raylet(node))]
    kill_tree(raylet(node))
    killed_at = time.time()
    cluster.remove_node(node, allow_graceful=False)
    with watched(run.model):
        assert run.finished(driver) == expected[1]
    patiently(lambda: cluster.add_node(num_cpus=1))
    assert run.recovery(killed_at, fault) <= INTERVAL
    fault.saw.append("went on by itself on another node, bit-identical")


def raylet(node: Node) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


@pytest.mark.slow
@pytest.mark.faults("kill -9 of the Ray head and the driver, then submitted again")
def test_killed_head_and_driver(fault: Fault, dataset: Path, expected: Undisturbed, tmp_path: Path) -> None:
    run = Training(dataset=dataset, folder=tmp_path)
    with running(1) as first:
        driver = run.start(first)
        run.reaches(a_step(fault), driver)
        driver.kill()
        first.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        killed_at = time.time()
        driver.wait()
    with running(1) as second, watched(run.model):
        submitted_at = time.time()
        assert run.finished(run.start(second)) == expected[1]
    assert run.recovery(killed_at, fault, submitted_at=submitted_at) <= INTERVAL
    fault.saw.append("resumed, bit-identical")


@pytest.mark.slow
@pytest.mark.faults("kill -9 of the driver, and its newest checkpoint cut in half")
def test_cut_checkpoint(fault: Fault, cluster: Cluster, dataset: Path, expected: Undisturbed, tmp_path: Path) -> None:
    run = Training(dataset=dataset, folder=tmp_path)
    driver = run.start(cluster)
    run.reaches(fault.random.randrange(3 * INTERVAL, STEPS - INTERVAL), driver)
    driver.kill()
    killed_at = time.time()
    driver.wait()
    wait_for(lambda: not ranks())
    newest = newest_first(Folder.at(path) for path in (tmp_path / "storage").glob("*/checkpoint_*"))[0]
    cut(Path(newest.path), fault)
    submitted_at = time.time()
    with watched(run.model):
        assert run.finished(run.start(cluster)) == expected[1]
    assert run.recovery(killed_at, fault, submitted_at=submitted_at) <= 2 * INTERVAL
    fault.saw.append("resumed from the one before, bit-identical")


@pytest.mark.slow
@pytest.mark.faults("a training worker ten times slower than the other")
def test_slow_worker(fault: Fault, cluster: Cluster, dataset: Path, expected: Undisturbed, tmp_path: Path) -> None:
    run = Training(dataset=dataset, folder=tmp_path, workers=2)
    driver = run.start(cluster)
    run.reaches(1, driver)
    victim = fault.random.choice(ranks())
    with watched(run.model):
        while driver.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGSTOP)
                time.sleep(0.09)
                os.kill(victim, signal.SIGCONT)
            time.sleep(0.01)
        assert run.finished(driver) == expected[2]
    assert run.numbers == list(range(1, len(run.numbers) + 1))
    fault.saw.append("nothing done twice, bit-identical")


def cut(checkpoint: Path, fault: Fault) -> Path:
    """Cut one of its files anywhere."""
    victim = fault.random.choice(sorted(path for path in checkpoint.iterdir() if path.suffix in (".pt", ".json")))
    content = victim.read_bytes()
    victim.write_bytes(content[: fault.random.randrange(len(content))])
    return victim


@pytest.mark.faults("a checkpoint cut in half")
def test_resuming_passes_over_a_cut_checkpoint(fault: Fault, dataset: Path, tmp_path: Path) -> None:
    work = job(dataset, tmp_path)
    saved = {}
    for step in (5, 10):
        saved[step] = Snapshot(
            model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=LoopState(step=step, best_loss=1.0)
        )
        folder = tmp_path / f"{work.prefix}20170301T000000-00" / f"checkpoint_{step}"
        folder.mkdir(parents=True)
        save_checkpoint(folder, saved[step], SPEC, work.content)
    ended = newest_of_run(work, f"{work.prefix}20170301T000000-00")
    assert ended is not None
    assert ended.state.step == 10
    victim = cut(folder, fault)
    restarted = newest_of_run(work, f"{work.prefix}20170301T000000-00")
    assert restarted is not None
    assert restarted.state.step == 5
    adopted = adopt_newest(work, f"{work.prefix}20170302T000000-00")
    assert adopted is not None
    loaded = load_checkpoint(adopted, SPEC, work.content)
    assert loaded.state.step == 5
    assert all(torch.equal(loaded.model[name], weights) for name, weights in saved[5].model.items())
    cut(folder.with_name("checkpoint_5"), fault)
    cut(Path(adopted.path), fault)
    with pytest.raises(UserError, match=r"are damaged .*: train without --resume"):
        adopt_newest(work, f"{work.prefix}20170303T000000-00")
    fault.saw.append(f"{victim.suffix} cut: the one before taken; all cut: error says so")
