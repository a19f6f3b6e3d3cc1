"""The jobs as a user runs them, on an object store: dataset, days, their status, a proposed spec."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from etl.versions import read_versions
from m2m_model.contracts.schema import sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, Manifest, below, read_manifest
from tests.etl.partitioned import partitioned, write_part, write_partitioned
from tests.etl.published import feature_hash, read_rows
from tests.etl.raw_world import DAY, Shape, World, make_world
from tests.etl.run_toml import write_run

pytestmark = [pytest.mark.spark, pytest.mark.slow]
SHAPE = Shape(seed=11, advertisers=6, length=6, history_weeks=1, horizon=2)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 10, "validation_stride": 5, "test_stride": 1}


@dataclass(frozen=True, kw_only=True)
class Run:
    world: World
    raw: Path
    config: Path
    out: str

    def job(self, name: str, *arguments: str, status: int = 0) -> str:
        """Run a job in a process of its own; its standard output."""
        command = [sys.executable, "-m", f"jobs.{name}", "--config", str(self.config), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ, timeout=200)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def read(self, *parts: str, kind: str, **partition: str) -> tuple[Manifest, pa.Table]:
        folder = Folder.at(below(self.out, *parts))
        manifest = read_manifest(folder, kind=kind, build_hint="")
        paths = [f.path for f in manifest.select(**partition) if f.path.endswith(".parquet")]
        tables = [pq.ParquetFile(folder.filesystem.open_input_file(folder.join(path))).read() for path in paths]
        return manifest, pa.concat_tables(tables)


@pytest.fixture
def run(s3: str, tmp_path: Path) -> Run:
    world = make_world(SHAPE, split=SPLIT)
    raw = write_partitioned(world, tmp_path / "raw")
    conf = {"spark.master": "local[1]", "spark.sql.shuffle.partitions": "1", "spark.driver.memory": "1g"}
    config = write_run(partitioned(world.config), tmp_path / "run.toml", out=s3, raw=raw, **conf)
    return Run(world=world, raw=Path(raw), config=config, out=s3)


def test_a_run_on_an_object_store(run: Run, spark: SparkSession, tmp_path: Path) -> None:
    run.job("build_dataset")
    manifest, rows = run.read("dataset", kind="dataset")
    local = build_dataset(spark, partitioned(run.world.config), raw=str(run.raw), out=str(tmp_path / "local"))
    assert sorted_rows_hash(rows) == sorted_rows_hash(read_rows(tmp_path / "local", local))
    spec = DatasetSpec.read(below(run.out, "dataset", "spec.json"))
    assert list(read_versions(Folder.at(below(run.out, "specs"))).values()) == [spec]

    last = run.world.config.raw.last_day - SHAPE.horizon * DAY
    spec_at, span = below(run.out, "dataset", "spec.json"), ["--from", str(last - DAY), "--to", str(last)]
    heads, *days = run.job("status", *span, "--features", status=3).splitlines()
    assert heads.split("  ")[0] == "as-of day"
    assert [day.split() for day in days] == [[str(last - DAY), "missing"], [str(last), "missing"]]
    made = run.job("build_dataset", "--backfill", str(last - DAY), str(last), "--spec", spec_at)
    assert made.count("published features") == 2
    _, day = run.read("features", f"dt={last}", kind="features")
    _, whole = run.read("dataset", kind="dataset", split="test", dt=str(last))
    assert sorted_rows_hash(day) == feature_hash(whole)

    late = run.world.tables["performance"][0] | {"day": last, "advertiser_id": "late", "scenario_id": "feed"}
    write_part(run.world, run.raw, "performance", last, [late], part="part-late")
    found = json.loads(run.job("status", *span, "--features", "--json", status=3))
    assert [(status["date"], status["state"]) for status in found] == [
        (str(last - DAY), "complete"),
        (str(last), "stale"),
    ]
    assert found[1]["changed"] == {"performance": [str(last)]}

    printed = run.job("propose_spec", *span)
    assert "spec version 2" in printed
    proposed = read_versions(Folder.at(below(run.out, "specs")))[2]
    assert (proposed.parent, proposed.profile) == (spec.feature_fingerprint, spec.profile)
    assert DatasetSpec.read(below(run.out, "dataset", "spec.json")) == spec, "the dataset keeps its own"
    assert manifest == run.read("dataset", kind="dataset")[0]
