"""The prediction job killed in the middle of a write, or its disk full: no row is doubled or missing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import ray

from jobs import predict
from m2m_model.contracts.store import Folder, read_manifest
from tests.faults.fault import ROOT, Fault
from tests.faults.processes import local_ray, named
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
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str], dict[int, Day]]:
    """A run, its job's arguments, and what the features of two seeds give."""
    out = tmp_path_factory.mktemp("run")
    arguments = ready_run(out / "config.toml", str(out), rows=ROWS, batch_size=BATCH_SIZE, grace=GRACE_SECONDS)
    expected = {}
    for seed in (0, 1):
        publish_features(str(out), rows=ROWS, seed=seed)
        assert predict.main(arguments) == 0
        assert whole(str(out))
        expected[seed] = read_day(str(out))
    return str(out), arguments, expected


def live_files(out: str) -> list[Path]:
    """Folder of the day's live predictions."""
    folder = Path(out) / PREDICTIONS
    manifest = read_manifest(Folder.at(folder), kind="predictions", build_hint="")
    return [folder / "data" / f"generation={manifest.generation}"]


def size(folders: Iterable[Path]) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.faults("kill -9 of the predictor in the middle of a write:")
@pytest.mark.parametrize("victim", ["driver", "scoring actor"])
def test_killed(fault: Fault, victim: str, run: tuple[str, list[str], dict[int, Day]]) -> None:
    out, arguments, expected = run
    old = read_day(out)
    new = expected[0] if old == expected[1] else expected[1]
    publish_features(out, rows=ROWS, seed=0 if new == expected[0] else 1)
    days = Path(out) / PREDICTIONS / "data"
    known, whole_size = set(days.iterdir()), size(live_files(out))
    enough = fault.random.uniform(0, 0.95) * whole_size
    environment = os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "PYTHONPATH": str(ROOT)}
    with watched(Path(out) / PREDICTIONS) as seen:
        command = [sys.executable, str(ROOT / "jobs" / "predict.py"), *arguments]
        job = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while job.poll() is None and size(set(days.iterdir()) - known) <= enough:
            time.sleep(0.002)
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
