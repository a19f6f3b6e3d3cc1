"""The jobs on a Ray cluster that is already there: submitted to it, and joined by address."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.run_toml import SMALL_MODEL, write_run
from tests.training.tiny import publish_tables, random_table
from training.checkpoint import load_model

pytestmark = pytest.mark.ray

TRAIN = """
[train]
epochs = 1
batch_size = 8
"""
ROOT = Path(__file__).parent.parent.parent
RAY = str(Path(sys.executable).with_name("ray"))
START_SECONDS = 90


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """A Ray head of its own; its port and the port that jobs are submitted to."""
    port, dashboard = free_port(), free_port()
    command = [RAY, "start", "--head", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", f"--port={port}"]
    command += [f"--dashboard-port={dashboard}", "--dashboard-agent-listen-port=0", "--disable-usage-stats"]
    log = (tmp_path_factory.mktemp("head") / "log").open("w")
    process = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + START_SECONDS
    while not (answers(port) and answers(dashboard)):
        assert process.poll() is None, Path(log.name).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield port, dashboard
    process.send_signal(signal.SIGTERM)
    process.wait()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    parts = {"train-0": 20, "validation-0": 9}
    tables = {
        name: (random_table(rows, seed=seed, labels=True), {"split": name.partition("-")[0], "dt": "2017-03-01"})
        for seed, (name, rows) in enumerate(parts.items())
    }
    publish_tables(str(tmp_path / "dataset"), "dataset", tables)
    path = tmp_path / "config.toml"
    write_run(path, out=tmp_path, more=SMALL_MODEL + TRAIN)
    return path


def run(*command: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def test_training_under_ray_job_submit(head: tuple[int, int], config: Path) -> None:
    submit = [RAY, "job", "submit", f"--address=http://127.0.0.1:{head[1]}", "--"]
    output = run(*submit, sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(config))
    assert "published model" in output
    assert load_model(str(config.parent / "model")).name == "m2m"


def test_training_joins_a_cluster_by_address(head: tuple[int, int], config: Path) -> None:
    address = f"127.0.0.1:{head[0]}"
    run(sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(config), "--address", address)
    assert load_model(str(config.parent / "model")).name == "m2m"
