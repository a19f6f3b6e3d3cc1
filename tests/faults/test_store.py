"""The object store goes away while a day is predicted, and comes back."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import ray

from jobs import predict
from jobs.exit_codes import ExitCode
from m2m_model.contracts.store import below
from tests.conftest import use_store
from tests.faults.fault import ROOT, Fault
from tests.faults.processes import local_ray
from tests.faults.reader import watched
from tests.faults.world import PREDICTIONS, publish_features, read_day, ready_run, whole
from tests.s3 import BUCKET, S3Server, s3_server

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
ROWS, BATCH_SIZE = 1500, 16
LONGEST_OUTAGE = 15
"""Seconds; pyarrow goes on trying to connect for about 6."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("store")) as running, pytest.MonkeyPatch.context() as patch:
        use_store(running.environment, patch)
        # Ray's workers take the environment of the process that starts them.
        with local_ray(1):
            yield running


@pytest.fixture(scope="module")
def run(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str], float]:
    """A predicted day on the store, the job's arguments, and how long the job takes."""
    out = f"s3://{BUCKET}/faults"
    config = tmp_path_factory.mktemp("run") / "config.toml"
    arguments = ready_run(config, out, rows=ROWS, batch_size=BATCH_SIZE)
    started = time.monotonic()
    assert start(arguments).wait() == 0
    return out, arguments, time.monotonic() - started


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "jobs" / "predict.py"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.faults("the object store goes away and comes back while a day is predicted")
def test_store_away(fault: Fault, server: S3Server, run: tuple[str, list[str], float]) -> None:
    out, arguments, seconds = run
    before = read_day(out)
    publish_features(out, rows=ROWS, seed=fault.repetition + 1)
    with watched(below(out, str(PREDICTIONS))) as seen:
        job = start(arguments)
        time.sleep(fault.random.uniform(0.2, 0.9) * seconds)
        server.kill()
        time.sleep(outage := fault.random.uniform(1, LONGEST_OUTAGE))
        server.start()
        output, _ = job.communicate(timeout=600)
        after = read_day(out)
    assert seen[0].unreachable or outage < 2
    if job.returncode == 0:
        assert after != before
        fault.saw.append("went on, output as undisturbed")
    else:
        assert job.returncode == ExitCode.STORE_FAILED, output
        assert output.splitlines()[-1].startswith("error: "), output
        fault.saw.append(f"error, {'old' if after == before else 'new'} generation whole")
    assert predict.main(arguments) == 0
    undisturbed = read_day(out)
    assert whole(out)
    assert before != undisturbed
    assert after in (before, undisturbed)
