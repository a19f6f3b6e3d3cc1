"""Jobs as processes of their own, as a scheduler starts them, and a Ray cluster that they join."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

ROOT = Path(__file__).parents[2]


def start_job(name: str, config: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"jobs.{name}", "--config", str(config), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable} | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], *, status: int = 0) -> str:
    """Wait for a job, which must end with ``status``; what it printed, errors included."""
    output, errors = process.communicate(timeout=1200)
    assert process.returncode == status, f"status {process.returncode}\n{output[-3000:]}{errors[-3000:]}"
    return output + errors


@contextmanager
def ray_cluster() -> Iterator[str]:
    """The address of a cluster that jobs join (``RAY_ADDRESS``): each would start one of its own otherwise."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield ray.get_runtime_context().gcs_address
    finally:
        ray.shutdown()
