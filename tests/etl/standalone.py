"""A real standalone Spark cluster of two one-core workers, started from pyspark's own scripts."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyspark

from tests.s3 import free_port

SPARK_HOME = Path(pyspark.__file__).parent
START_SECONDS = 90


def spark_environment() -> dict[str, str]:
    """Ours without what points to this source tree: the cluster has only what it is sent."""
    hidden = ("PYTHONPATH", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    master: str
    workers: tuple[int, ...]
    """Process ids."""
    work: Path
    """Where the workers keep what their executors print."""

    def executors(self) -> list[int]:
        """Process ids of the executors' JVMs, which the workers start."""
        children = [child for worker in self.workers for child in _children(worker)]
        return [child for child in children if _is_executor(child)]

    def finished_tasks(self) -> int:
        """Tasks that ended on this cluster, of every application that it ran, as its executors tell."""
        return sum(log.read_bytes().count(b": Finished task ") for log in self.work.glob("app-*/*/stderr"))

    def submit(
        self, script: Path, *arguments: str, packages: Path, folder: Path, conf: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start ``spark-submit`` in ``folder``, in a process group of its own."""
        settings = {
            "spark.driver.memory": "512m",
            "spark.executor.memory": "512m",
            "spark.driver.host": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
        }
        command = [str(SPARK_HOME / "bin" / "spark-submit"), "--master", self.master, "--py-files", str(packages)]
        for key, value in (settings | dict(conf or {})).items():
            command += ["--conf", f"{key}={value}"]
        return subprocess.Popen(
            [*command, str(script), *arguments],
            cwd=folder,
            env=spark_environment(),
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextlib.contextmanager
def standalone_cluster(folder: Path) -> Iterator[Cluster]:
    """Master and workers on free ports with their files in ``folder``; all ended after."""
    port, page = free_port(), free_port()
    master = f"spark://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        options = ["--port", str(port), "--webui-port", str(page)]
        stack.enter_context(_daemon(folder / "master", "master.Master", *options))
        _wait(page, workers=0)
        options = ["--cores", "1", "--memory", "1g", "--work-dir", str(folder / "work"), "--webui-port", "0", master]
        workers = [
            stack.enter_context(_daemon(folder / name, "worker.Worker", *options)) for name in ("worker-1", "worker-2")
        ]
        _wait(page, workers=2)
        yield Cluster(master=master, workers=tuple(worker.pid for worker in workers), work=folder / "work")


@contextlib.contextmanager
def _daemon(log: Path, name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", "--host", "127.0.0.1"]
    with log.open("w") as stream:
        settings = {"SPARK_DAEMON_MEMORY": "256m", "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false"}
        environment = spark_environment() | settings
        process = subprocess.Popen([*command, *options], env=environment, stdout=stream, stderr=stream)
        try:
            yield process
        finally:
            process.terminate()  # a worker ends its executors
            process.wait()


def _wait(page: int, *, workers: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{page}/json/", timeout=2) as answer,
        ):
            if json.load(answer)["aliveworkers"] == workers:
                return
        assert time.monotonic() < deadline, "the standalone cluster did not come up"
        time.sleep(0.3)


def _children(process: int) -> list[int]:
    """Of all threads of ``process``, one of which may end while they are read."""
    children = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children += [int(child) for child in (task / "children").read_text().split()]
    return children


def _is_executor(process: int) -> bool:
    """And not the launching script's remains, which a worker never collects."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return b"CoarseGrainedExecutorBackend" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False
