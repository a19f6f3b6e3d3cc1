"""Spark executors, workers and drivers killed after a drawn number of the tasks that build a dataset on a cluster."""

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from m2m_model.contracts.schema import sorted_rows_hash
from tests.etl.published import live_manifest, read_rows
from tests.etl.raw_world import Shape, make_world
from tests.etl.run_toml import write_run
from tests.etl.standalone import Cluster, standalone_cluster
from tests.etl.test_cluster import packages as packages
from tests.faults.fault import ROOT, Fault
from tests.faults.processes import kill_tree, wait_for
from tests.faults.reader import watched

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1500)]
JOB_SECONDS = 1200
WORLD = make_world(
    Shape(seed=9, advertisers=24, length=10, history_weeks=2),
    dataset={"shards": 12, "row_group_rows": 256, "grace_seconds": 0},
)


@dataclass(frozen=True, kw_only=True)
class Build:
    """A dataset that was built undisturbed, and is built again."""

    packages: Path
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out" / "dataset"

    def start(self, cluster: Cluster) -> subprocess.Popen[str]:
        job = ROOT / "jobs" / "build_dataset.py"
        arguments = ["--config", str(self.folder / "run.toml"), "--as-known-at", WORLD.as_known_at.isoformat()]
        return cluster.submit(job, *arguments, packages=self.packages, folder=self.folder)

    def found(self) -> str:
        return sorted_rows_hash(read_rows(self.out, live_manifest(self.out)))


@pytest.fixture(scope="module")
def undisturbed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Build, str, int]:
    """The build, the hash of its rows, and the number of its tasks."""
    folder = tmp_path_factory.mktemp("run")
    raw = WORLD.write(folder / "raw")
    write_run(WORLD.config, folder / "run.toml", out=str(folder / "out"), raw=raw)
    build = Build(packages=packages, folder=folder)
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        job = build.start(cluster)
        output, _ = job.communicate(timeout=JOB_SECONDS)
        assert job.returncode == 0, output
        return build, build.found(), cluster.finished_tasks()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with standalone_cluster(tmp_path) as running:
        yield running


@pytest.mark.faults("kill -9 while a dataset is built, of a Spark")
@pytest.mark.parametrize("victim", ["executor", "worker", "driver"])
def test_killed(fault: Fault, victim: str, undisturbed: tuple[Build, str, int], cluster: Cluster) -> None:
    build, expected, tasks = undisturbed
    kill_after = fault.random.randrange(tasks)
    before = live_manifest(build.out).generation
    with watched(build.out) as seen:
        job = build.start(cluster)
        wait_for(
            lambda: job.poll() is not None or (cluster.executors() and cluster.finished_tasks() >= kill_after),
            why=f"{kill_after} of {tasks} tasks did not end",
        )
        in_time = job.poll() is None and bool(cluster.executors())
        if in_time:
            strike(victim, job, cluster, fault)
        output, _ = job.communicate(timeout=JOB_SECONDS)
        after = live_manifest(build.out).generation
    assert build.found() == expected
    assert len(seen[0].generations) <= 2
    if not in_time:
        assert job.returncode == 0, output
        fault.saw.append("had ended before the kill")
    elif victim == "driver":
        assert job.returncode != 0
        wait_for(lambda: not cluster.executors(), why="executors outlive their driver")
        again = build.start(cluster)
        output, _ = again.communicate(timeout=JOB_SECONDS)
        assert again.returncode == 0, output
        assert build.found() == expected
        fault.saw.append(f"{'old' if after == before else 'new'} generation whole; built again, equal")
    else:
        assert job.returncode == 0, output
        assert after != before
        fault.saw.append("ended with the undisturbed output")


def strike(victim: str, job: subprocess.Popen[str], cluster: Cluster, fault: Fault) -> None:
    if victim == "driver":
        os.killpg(job.pid, signal.SIGKILL)
    elif victim == "worker":
        kill_tree(fault.random.choice(cluster.workers))
    else:
        os.kill(fault.random.choice(cluster.executors()), signal.SIGKILL)
