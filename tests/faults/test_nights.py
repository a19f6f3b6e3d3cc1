"""Nights: two runs of the same day at once, and days around a change of the clocks on machines of other time zones."""

import datetime
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.exit_codes import ExitCode
from m2m_model.contracts.schema import sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from tests.etl.partitioned import partitioned, write_partitioned
from tests.etl.published import live_manifest, read_rows
from tests.etl.raw_world import DAY, Shape, make_world
from tests.etl.run_toml import write_run
from tests.faults.disk import fill, small_disk, taken
from tests.faults.fault import ROOT, Fault
from tests.faults.processes import kill_tree
from tests.faults.reader import watched
from tests.faults.world import Day, read_day

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(3600)]
SHAPE = Shape(seed=11, advertisers=6, length=6, history_weeks=1, horizon=2)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 10, "validation_stride": 5, "test_stride": 5}
SPRING = datetime.date(2017, 3, 12)
"""The clocks of the world's time zone, New York's, go forward."""
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe")
TRAINING = """
model = {embedding_dim = 2, experts = 2, view_dim = 4, knowledge_dim = 4, meta_layers = 1, tower_layers = 1}
train = {epochs = 1, batch_size = 32}
engagement = {lists = {rewarded = {task = "clicks", budget = 3}}}
monitor = {psi = 99, unseen = 1}  # of six advertisers
"""
SPARK = {"spark.master": "local[1]", "spark.sql.shuffle.partitions": "1", "spark.driver.memory": "1g"}
SECONDS = 1500


@dataclass(frozen=True, kw_only=True)
class Run:
    folder: Path
    last: datetime.date
    """The last day that facts are there for."""

    def start(self, job: str, *arguments: object, zone: str = "UTC") -> subprocess.Popen[str]:
        command = [sys.executable, ROOT / "jobs" / f"{job}.py", "--config", self.folder / "run.toml", *arguments]
        return subprocess.Popen(
            list(map(str, command)),
            cwd=self.folder,
            env=os.environ | {"TZ": zone, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finished(self, job: str, *arguments: object, zone: str = "UTC") -> str:
        running = self.start(job, *arguments, zone=zone)
        try:
            output, _ = running.communicate(timeout=SECONDS)
        finally:
            kill_tree(running.pid)
        assert running.returncode == 0, output
        return output

    def features(self, days: Sequence[datetime.date]) -> list[str]:
        folders = [self.folder / "out" / "features" / f"dt={day}" for day in days]
        return [sorted_rows_hash(read_rows(folder, live_manifest(folder, "features"))) for folder in folders]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Raw tables and a dataset."""
    folder, world = tmp_path_factory.mktemp("run"), make_world(SHAPE, split=SPLIT)
    raw = write_partitioned(world, folder / "raw")
    config = write_run(partitioned(world.config), folder / "run.toml", out=str(folder / "out"), raw=raw, **SPARK)
    config.write_text(config.read_text() + TRAINING)
    made = Run(folder=folder, last=world.config.raw.last_day)
    made.finished("build_dataset")
    return made


@pytest.mark.faults("a daylight-saving change under the days that are built, on a machine in another time zone")
def test_change_of_the_clocks(fault: Fault, run: Run) -> None:
    spec = run.folder / "out" / "dataset" / "spec.json"
    assert DatasetSpec.read(spec).timezone == "America/New_York"
    days = [SPRING + number * DAY for number in (-1, 0, 1)]
    command = ["build_dataset", "--backfill", days[0], days[-1], "--spec", spec, "--force"]
    run.finished(*command)
    expected = run.features(days)
    zone = fault.random.choice(ZONES[1:])
    with watched(*(run.folder / "out" / "features" / f"dt={day}" for day in days)):
        run.finished(*command, zone=zone)
    assert run.features(days) == expected
    fault.saw.append("equal to the build on a machine in UTC")


@pytest.mark.faults("disk full while a day's features are built")
def test_full_disk(fault: Fault, run: Run) -> None:
    command = ["build_dataset", "--date", SPRING, "--spec", run.folder / "out" / "dataset" / "spec.json"]
    day = run.folder / "out" / "features" / f"dt={SPRING}"
    with small_disk(day):
        run.finished(*command)
        expected, before = run.features([SPRING]), live_manifest(day, "features")
        with watched(day):
            ballast = fill(day, free_pages=fault.random.randrange(2, taken(day)))
            failed = run.start(*command)
            output, _ = failed.communicate(timeout=SECONDS)
            assert failed.returncode == ExitCode.STORE_FAILED, output
            assert "error: " in output.splitlines()[-1], output
            assert live_manifest(day, "features") == before
            ballast.unlink()
            run.finished(*command)
        assert run.features([SPRING]) == expected
    fault.saw.append("error says so, old generation whole; built again, equal")


@pytest.fixture(scope="module")
def predicted(run: Run) -> tuple[datetime.date, Day]:
    """An as-of day, and what a night by itself predicts of it."""
    run.finished("train")
    date = run.last - SHAPE.horizon * DAY
    run.finished("daily", "--date", date)
    return date, read_day(str(run.folder / "out"), Path(f"predictions/dt={date}"))


@pytest.mark.ray
@pytest.mark.faults("two daily runs of the same day at once")
def test_two_at_once(fault: Fault, run: Run, predicted: tuple[datetime.date, Day]) -> None:
    date, expected = predicted
    out = run.folder / "out"
    folders = [out / part / f"dt={date}" for part in ("features", "predictions", "lists/rewarded")]
    with watched(*folders) as seen:
        both = [run.start("daily", "--date", date) for _ in range(2)]
        try:
            outputs = [job.communicate(timeout=SECONDS)[0] for job in both]
        finally:
            for job in both:
                kill_tree(job.pid)
    statuses = sorted(job.returncode for job in both)
    assert statuses[0] == 0, outputs
    assert not any("Traceback" in output for output in outputs), outputs
    assert read_day(str(out), Path(f"predictions/dt={date}")) == expected
    assert read_day(str(out), Path(f"features/dt={date}")).keys == expected.keys
    assert all(of_folder.generations for of_folder in seen)
    fault.saw.append(f"output equal to one run's; the other exits with {statuses[1]}")
