"""The prediction job killed in the middle of a write, or its disk full: no row is doubled or missing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from jobs import predict
from tests.faults.fault import ROOT, Fault
from tests.faults.processes import local_ray, named, wait_for
from tests.faults.reader import watched
from tests.faults.world import PREDICTIONS, Day, publish_features, read_day, ready_run, whole

pytestmark = pytest.mark.ray
ROWS, BATCH_SIZE = 1500, 16
"""Of a file, and of a row group: writing one takes a while."""
GRACE_SECONDS = 0.5


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with local_ray(2):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str], dict[int, Day], float]:
    """A run, its job's arguments, what the features of two seeds give, and the seconds of writing them."""
    out = tmp_path_factory.mktemp("run")
    arguments = ready_run(out / "config.toml", str(out), rows=ROWS, batch_size=BATCH_SIZE, grace=GRACE_SECONDS)
    expected = {}
    for seed in (0, 1):
        publish_features(str(out), rows=ROWS, seed=seed)
        started = time.monotonic()
        assert predict.main(arguments) == 0
        assert whole(str(out))
        expected[seed] = read_day(str(out))
    return str(out), arguments, expected, time.monotonic() - started


@pytest.mark.faults("kill -9 of the predictor in the middle of a write:")
@pytest.mark.parametrize("victim", ["driver", "scoring actor"])
def test_killed(fault: Fault, victim: str, run: tuple[str, list[str], dict[int, Day], float]) -> None:
    out, arguments, expected, seconds = run
    old = read_day(out)
    new = expected[0] if old == expected[1] else expected[1]
    publish_features(out, rows=ROWS, seed=0 if new == expected[0] else 1)
    days = Path(out) / PREDICTIONS / "data"
    known = set(days.iterdir())
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": str(ROOT)}
    with watched(Path(out) / PREDICTIONS) as seen:
        command = [sys.executable, str(ROOT / "jobs" / "predict.py"), *arguments]
        job = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for(lambda: set(days.iterdir()) - known or job.poll() is not None)
        time.sleep(fault.random.uniform(0, 0.8 * seconds))
        struck = [job.pid] if victim == "driver" else named("ray::_Worker", under=os.getpid())[:1]
        in_time = job.poll() is None and bool(struck)
        for process in struck if in_time else ():
            os.kill(process, signal.SIGKILL)
        output, _ = job.communicate(timeout=300)
        after = read_day(out)
    if victim == "driver" and after == old:
        assert job.returncode == -signal.SIGKILL
        fault.saw.append("old generation whole")
    else:
        assert job.returncode in (0, -signal.SIGKILL), output
        assert after == new
        ended = "ended with the undisturbed output" if job.returncode == 0 else "killed after publishing"
        fault.saw.append(ended if in_time else "had ended before the kill")
    assert len(seen[0].generations) <= 2
    if after == old:
        assert predict.main(arguments) == 0
        assert read_day(out) == new
