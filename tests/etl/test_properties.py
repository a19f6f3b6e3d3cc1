"""What must hold of any build: the future moves nothing, one day equals its rows in the whole, publishing is atomic."""

import datetime
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset, build_day
from etl.config import EtlConfig
from m2m_model.contracts.schema import sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Manifest
from tests.etl.published import feature_hash, live_manifest, read_rows, read_spec, until
from tests.etl.raw_world import DAY, ZONE, Row, Shape, World, make_world

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=6, lag=1, advertisers=10, length=10)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 4, "validation_stride": 3, "test_stride": 3}
VALUES = ("amount", "item", "clicks", "views", "spend", "quality", "gmv", "industry", "tier", "wallet", "traffic")


@dataclass(frozen=True, kw_only=True)
class Base:
    world: World
    raw: str
    out: Path
    manifest: Manifest
    spec: DatasetSpec
    rows: pa.Table

    def days(self, split: str) -> list[datetime.date]:
        partitions = {file.partition["dt"] for file in self.manifest.select(split=split)}
        return sorted(map(datetime.date.fromisoformat, partitions))


def build(spark: SparkSession, world: World, folder: Path) -> tuple[Manifest, pa.Table]:
    raw = world.write(folder / "raw")
    manifest = build_dataset(spark, world.config, raw=raw, out=str(folder / "out"), as_known_at=world.as_known_at)
    return manifest, read_rows(folder / "out", manifest)


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Base:
    world, folder = make_world(SHAPE, split=SPLIT), tmp_path_factory.mktemp("base")
    manifest, rows = build(spark, world, folder)
    out = folder / "out"
    return Base(
        world=world, raw=str(folder / "raw"), out=out, manifest=manifest, spec=read_spec(out, manifest), rows=rows
    )


def day_of(world: World, name: str, row: Row) -> datetime.date:
    if name in ("profile", "scenarios"):
        day = row["day"]
    else:
        table = world.config.raw.facts[name]
        day = row[table.time].astimezone(ZONE).date() if table.kind == "events" else row[table.time]
    assert isinstance(day, datetime.date)
    return day


def perturbed(world: World, seed: int, touches: Callable[[str, datetime.date], bool]) -> World:
    """Rows whose (table, day) is touched are changed, a quarter of them removed, and events also doubled."""
    generator, changed = random.Random(seed), world.copy()
    for name, rows in changed.tables.items():
        kept = []
        for row in rows:
            if touches(name, day_of(world, name, row)):
                if generator.random() < 0.25:
                    continue
                for column in VALUES:
                    row[column] = _another(row[column], generator) if row.get(column) is not None else row.get(column)
                events = name in ("behavior", "orders")
                kept += [dict(row)] if events and generator.random() < 0.25 else []
            kept.append(row)
        known = set(world.schemas[name].names)
        changed.tables[name] = [{c: v for c, v in row.items() if c in known} for row in kept]
    return changed


def _another(value: Any, generator: random.Random) -> Any:
    if isinstance(value, Decimal):
        return value * generator.randrange(2, 5) + 1
    return f"{value}{generator.randrange(3)}" if isinstance(value, str) else value * 3 + generator.randrange(1, 9)


@pytest.mark.parametrize(("split", "which", "seed"), [("train", -1, 0), ("validation", 0, 1)])
def test_the_future_moves_no_feature(
    base: Base, spark: SparkSession, tmp_path: Path, split: str, which: int, seed: int
) -> None:
    as_of = base.days(split)[which]
    lag = base.world.config.sequence.availability_lag_days * DAY

    def unseen(name: str, day: datetime.date) -> bool:
        return day > (as_of if name in ("profile", "scenarios") else as_of - lag)

    manifest, rows = build(spark, perturbed(base.world, seed, unseen), tmp_path)
    before, after = until(base.rows, as_of), until(rows, as_of)
    assert before.num_rows > 50
    assert feature_hash(after) == feature_hash(before)
    assert read_spec(tmp_path / "out", manifest).feature_fingerprint == base.spec.feature_fingerprint
    assert sorted_rows_hash(after) != sorted_rows_hash(before), "labels must have moved, or nothing was perturbed"
    assert feature_hash(rows) != feature_hash(base.rows), "later features must have moved"


@pytest.fixture
def day_hash(base: Base, spark: SparkSession, tmp_path: Path) -> Callable[..., str]:
    """Hash of the feature day of ``date`` as ``world`` gives it, under the base's spec."""

    def compute(world: World, date: datetime.date) -> str:
        folder = tmp_path / f"day-{len(list(tmp_path.iterdir()))}"
        out = folder / "features"
        raw = world.write(folder / "raw")
        manifest = build_day(
            spark, world.config, base.spec, date=date, raw=raw, out=str(out), as_known_at=world.as_known_at
        )
        assert live_manifest(out, "features") == manifest
        rows = read_rows(out, manifest)
        assert not [name for name in rows.column_names if name.startswith("label_")]
        return sorted_rows_hash(rows)

    return compute


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_feature_day_equals_its_rows_in_the_full_build(base: Base, day_hash: Callable[..., str], split: str) -> None:
    day = base.days(split)[1]
    whole = read_rows(base.out, base.manifest, split=split, dt=day.isoformat())
    assert day_hash(base.world, day) == feature_hash(whole)


def window(base: Base, as_of: datetime.date) -> tuple[datetime.date, datetime.date]:
    """First and last day of facts that the spec says the features of ``as_of`` need."""
    last = as_of - base.spec.availability_lag_days * DAY
    return last - (base.spec.history_days - 1) * DAY, last


def test_a_feature_day_needs_no_facts_outside_its_history_days(base: Base, day_hash: Callable[..., str]) -> None:
    as_of = base.days("test")[0]
    first, last = window(base, as_of)
    narrow = base.world.copy()
    for name in ("behavior", "performance", "orders"):
        narrow.tables[name] = [row for row in narrow.tables[name] if first <= day_of(base.world, name, row) <= last]
    narrow.tables["profile"] = [row for row in narrow.tables["profile"] if row["day"] <= as_of]
    narrow.tables["scenarios"] = [row for row in narrow.tables["scenarios"] if row["day"] <= as_of]
    whole = read_rows(base.out, base.manifest, dt=as_of.isoformat())
    assert day_hash(narrow, as_of) == feature_hash(whole)


@pytest.mark.parametrize("edge", ["first", "last"])
def test_the_window_moves_features(base: Base, day_hash: Callable[..., str], edge: str) -> None:
    as_of = base.days("test")[0]
    touched = window(base, as_of)[edge == "last"]
    changed = perturbed(base.world, 3, lambda name, day: day == touched and name not in ("profile", "scenarios"))
    assert changed.tables != base.world.tables
    whole = read_rows(base.out, base.manifest, dt=as_of.isoformat())
    assert day_hash(changed, as_of) != feature_hash(whole)


def test_the_last_raw_day_has_features_though_no_labels(base: Base, spark: SparkSession, tmp_path: Path) -> None:
    date = base.world.config.raw.last_day
    manifest = build_day(spark, base.world.config, base.spec, date=date, raw=base.raw, out=str(tmp_path))
    assert manifest.rows > 0
    assert set(read_rows(tmp_path, manifest)["as_of"].to_pylist()) == {date}


def test_what_arrived_later_is_invisible(base: Base, spark: SparkSession, tmp_path: Path) -> None:
    """Removing the rows that had not arrived gives the same dataset as not having known them."""
    known = datetime.datetime.combine(base.days("test")[0], datetime.time(6), datetime.UTC)
    removed = base.world.copy()
    for name, table in base.world.config.raw.facts.items():
        rows = removed.tables[name]
        removed.tables[name] = [row for row in rows if row[table.arrived_at] <= known]
        assert any(row[table.arrived_at] == known for row in rows), "the boundary itself must be tried"
        assert len(removed.tables[name]) < len(rows)
    _, expected = build(
        spark, replace(removed, as_known_at=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)), tmp_path
    )
    out = tmp_path / "known"
    manifest = build_dataset(spark, base.world.config, raw=base.raw, out=str(out), as_known_at=known)
    found = read_rows(out, manifest)
    assert sorted_rows_hash(found) == sorted_rows_hash(expected)
    assert sorted_rows_hash(found) != sorted_rows_hash(base.rows)


def test_rows_without_an_arrival_were_there_on_their_day(base: Base, spark: SparkSession, tmp_path: Path) -> None:
    config = base.world.config.model_dump()
    for table in config["raw"]["facts"].values():
        table["arrived_at"] = ""
    plain = EtlConfig.model_validate(config)
    known = base.world.as_known_at
    found = build_dataset(spark, plain, raw=base.raw, out=str(tmp_path / "known"), as_known_at=known)
    expected = build_dataset(spark, plain, raw=base.raw, out=str(tmp_path / "all"))
    rows = read_rows(tmp_path / "known", found)
    assert sorted_rows_hash(rows) == sorted_rows_hash(read_rows(tmp_path / "all", expected))


JOB = """
import datetime, sys
from etl.build import build_dataset
from etl.config import EtlConfig, SparkConfig
from etl.session import build_session

config, raw, out, known = sys.argv[1:]
spark = build_session(SparkConfig(master="local[1]", conf={"spark.sql.shuffle.partitions": "2"}), "to be killed")
known = datetime.datetime.fromisoformat(known)
build_dataset(spark, EtlConfig.model_validate_json(config), raw=raw, out=out, as_known_at=known)
"""


def data_files(out: Path) -> set[Path]:
    return {path for path in out.rglob("*") if path.is_file()}


def test_a_killed_build_leaves_the_dataset_and_a_rerun_replaces_it(
    base: Base, spark: SparkSession, tmp_path: Path
) -> None:
    manifest, rows = build(spark, base.world, tmp_path)
    out, published = tmp_path / "out", (tmp_path / "out" / "manifest.json").read_bytes()
    assert sorted_rows_hash(rows) == sorted_rows_hash(base.rows)
    before = data_files(out)
    arguments = [base.world.config.model_dump_json(), base.raw, str(out), base.world.as_known_at.isoformat()]
    job = subprocess.Popen([sys.executable, "-c", JOB, *arguments], start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while data_files(out) <= before:
            assert job.poll() is None, "the build ended before it could be killed"
            assert time.monotonic() < deadline, "the build wrote nothing"
            time.sleep(0.005)
    finally:
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert data_files(out) > before, "the kill must leave something half done"
    assert (out / "manifest.json").read_bytes() == published
    assert sorted_rows_hash(read_rows(out, live_manifest(out))) == sorted_rows_hash(rows)

    again = build_dataset(spark, base.world.config, raw=base.raw, out=str(out), as_known_at=base.world.as_known_at)
    assert again.generation != manifest.generation
    assert live_manifest(out) == again
    assert sorted_rows_hash(read_rows(out, again)) == sorted_rows_hash(rows)


def test_a_rerun_gives_the_same_files_in_the_same_order(base: Base, spark: SparkSession, tmp_path: Path) -> None:
    """Readers deal row groups in manifest order, so this is what makes a training run repeatable."""
    manifest, _ = build(spark, base.world, tmp_path)
    first, second = ([file.sha256 for file in m.files if file.rows] for m in (base.manifest, manifest))
    assert first == second
