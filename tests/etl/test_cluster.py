"""The build on a real standalone cluster: the same result as locally, whoever dies."""

import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from m2m_model.contracts.schema import sorted_rows_hash
from tests.etl.published import live_manifest, read_rows
from tests.etl.raw_world import Shape, World, make_world
from tests.etl.run_toml import write_run
from tests.etl.standalone import Cluster, standalone_cluster
from tests.wheel import build_wheel

pytestmark = [pytest.mark.spark, pytest.mark.cluster, pytest.mark.slow]
ROOT = Path(__file__).parent.parent.parent
SHAPE = Shape(seed=9, advertisers=24, length=10, history_weeks=2)
JOB_SECONDS = 400
PROBE = """
from pyspark.sql import SparkSession

def module(_):
    import etl.build
    return etl.build.__file__

spark = SparkSession.builder.getOrCreate()
print("modules", sorted(set(spark.sparkContext.range(8, numSlices=8).map(module).collect())))
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose dataset is built on the cluster, and what the same build gives locally."""

    cluster: Cluster
    packages: Path
    config: Path
    out: Path
    expected: str

    def start(self) -> subprocess.Popen[str]:
        known = WORLD.as_known_at.isoformat()
        job, folder = ROOT / "jobs" / "build_dataset.py", self.config.parent
        arguments = ["--config", str(self.config), "--as-known-at", known]
        return self.cluster.submit(job, *arguments, packages=self.packages, folder=folder)

    def found(self) -> str:
        return sorted_rows_hash(read_rows(self.out, live_manifest(self.out)))


WORLD: World = make_world(SHAPE, dataset={"shards": 12, "row_group_rows": 256, "grace_seconds": 0})


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel under the name that Spark takes: it puts only .zip, .egg and .jar on the workers' path."""
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    return wheel.rename(wheel.with_suffix(".zip"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with standalone_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def run(spark: SparkSession, cluster: Cluster, packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    raw, local = WORLD.write(folder / "raw"), folder / "local"
    manifest = build_dataset(spark, WORLD.config, raw=raw, out=str(local), as_known_at=WORLD.as_known_at)
    config = write_run(WORLD.config, folder / "run.toml", out=str(folder / "out"), raw=raw)
    return Run(
        cluster=cluster,
        packages=packages,
        config=config,
        out=folder / "out" / "dataset",
        expected=sorted_rows_hash(read_rows(local, manifest)),
    )


def finished(job: subprocess.Popen[str]) -> str:
    """Output of a job that must succeed."""
    output, _ = job.communicate(timeout=JOB_SECONDS)
    assert job.returncode == 0, output
    return output


def wait_until_writing(job: subprocess.Popen[str], out: Path) -> None:
    """Until the job has begun to write rows of a generation that is not there yet."""
    known = set(out.glob("data/*/split=*"))
    deadline = time.monotonic() + JOB_SECONDS
    while not set(out.glob("data/*/split=*")) - known:
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_executors_run_the_wheel(cluster: Cluster, packages: Path, tmp_path: Path) -> None:
    assert "etl/build.py" in zipfile.ZipFile(packages).namelist()
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    output = finished(cluster.submit(script, packages=packages, folder=tmp_path))
    (line,) = [line for line in output.splitlines() if line.startswith("modules")]
    assert line.count(f"{packages.name}/etl/build.py") == line.count("etl/build.py") > 0


def test_the_result_equals_the_local_one(run: Run) -> None:
    output = finished(run.start())
    assert "published dataset" in output
    assert run.found() == run.expected


def test_a_killed_executor_changes_nothing(run: Run) -> None:
    job = run.start()
    wait_until_writing(job, run.out)
    victim = run.cluster.executors()[0]
    os.kill(victim, signal.SIGKILL)
    output = finished(job)
    assert "Lost executor" in output
    assert run.found() == run.expected


def test_a_killed_driver_leaves_the_previous_dataset_whole(run: Run) -> None:
    if not (run.out / "manifest.json").exists():
        finished(run.start())
    before = (run.out / "manifest.json").read_bytes()
    job = run.start()
    wait_until_writing(job, run.out)
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
    deadline = time.monotonic() + JOB_SECONDS
    while run.cluster.executors():
        assert time.monotonic() < deadline, "executors outlive their driver"
        time.sleep(0.1)
    assert len(list(run.out.glob("data/*"))) == 2, "the kill must leave something half done"
    assert (run.out / "manifest.json").read_bytes() == before
    assert run.found() == run.expected
