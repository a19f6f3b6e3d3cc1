"""A small run whose jobs are processes, as a user starts them: raw tables filed by day, one dataset, one model."""

import dataclasses
import datetime
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from m2m_model.contracts.store import Folder, read_manifest
from tests.etl.partitioned import partitioned, write_part, write_partitioned
from tests.etl.raw_world import DAY, Shape, World, make_world
from tests.etl.run_toml import write_run
from tests.nightly.processes import finish, start_job
from training.nightly.summary import Summary, night_folder, read_summary

SHAPE = Shape(seed=11, advertisers=8, length=6, history_weeks=1, horizon=2)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 6, "validation_stride": 4, "test_stride": 1}
SPARK = {"spark.master": "local[1]", "spark.sql.shuffle.partitions": "1", "spark.driver.memory": "1g"}
SECTIONS = """
model = {embedding_dim = 2, experts = 2, view_dim = 4, knowledge_dim = 4, meta_layers = 1, tower_layers = 1}
train = {epochs = 1, batch_size = 64}
predict = {grace_seconds = 0}
engagement = {lists = {fading = {task = "active", at_most = 2.0, cool_down_days = 1}}}
keeper = {total_ratio = [0, 1e9], zero_share = 1.0, rows_ratio = [0, 1e9]}
monitor = {days_behind = 9, psi = 1e9, unseen = 1.0, table_rows = [0, 1e9], scenario_rows = [0, 1e9], min_rows = 1000}
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    world: World
    folder: Path
    ray_address: str
    """Of the cluster that its jobs join."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def last(self) -> datetime.date:
        """The last day with raw rows."""
        return self.world.config.raw.last_day

    def start(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        return start_job(name, self.folder / "run.toml", *arguments, RAY_ADDRESS=self.ray_address)

    def job(self, name: str, *arguments: str, status: int = 0) -> str:
        """Run a job to its end; what it printed, errors included."""
        return finish(self.start(name, *arguments), status=status)

    def summary(self, date: datetime.date) -> Summary:
        summary = read_summary(night_folder(str(self.out / "daily"), date))
        assert summary is not None
        return summary

    def steps(self, date: datetime.date) -> dict[str, str]:
        return {step.name: step.status for step in self.summary(date).steps}

    def generation(self, kind: str, date: datetime.date) -> str:
        return read_manifest(Folder.at(self.out / kind / f"dt={date}"), kind=kind, build_hint="").generation

    def late_row(self, day: datetime.date, **changes: Any) -> Path:
        """A further file of raw performance rows of ``day``."""
        row = next(row for row in self.world.tables["performance"] if row["clicks"] > 0)
        row = row | {"day": day, "advertiser_id": "late", "scenario_id": "feed"} | changes
        return write_part(self.world, self.folder / "raw", "performance", day, [row], part="part-late")


def prepare(folder: Path, ray_address: str) -> Run:
    """Raw tables, dataset and model in ``folder``, unless they are there."""
    run = Run(world=make_world(SHAPE, split=SPLIT), folder=folder, ray_address=ray_address)
    if not (prepared := folder / "prepared").exists():
        write_partitioned(run.world, folder / "raw")
        write_config(run)
        run.job("build_dataset")
        run.job("train")
        prepared.touch()
    return run


def write_config(run: Run) -> None:
    path, raw = run.folder / "run.toml", str(run.folder / "raw")
    write_run(partitioned(run.world.config), path, out=str(run.out), raw=raw, **SPARK)
    path.write_text(path.read_text() + SECTIONS)


def copy(run: Run, folder: Path) -> Run:
    """The same run elsewhere, to be changed."""
    shutil.copytree(run.folder, folder, dirs_exist_ok=True)
    copied = dataclasses.replace(run, folder=folder)
    write_config(copied)
    return copied


def read_predictions(out: Path, date: datetime.date) -> Any:
    folder = Folder.at(out / "predictions" / f"dt={date}")
    manifest = read_manifest(folder, kind="predictions", build_hint="")
    return pq.read_table([folder.join(entry.path) for entry in manifest.files], partitioning=None)


__all__ = ["DAY", "Run", "copy", "prepare", "read_predictions", "write_config"]
