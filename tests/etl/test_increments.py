"""One day at a time: a day opens only its files, equals its rows in the full build, and is rebuilt alone."""

import datetime
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from etl.build import build_dataset, build_day, history, snapshot_span
from etl.config import EtlConfig
from etl.days import ATTEMPT, FeatureDays, each_day
from etl.inputs import WHOLE, list_inputs
from etl.tables import read_facts, read_snapshots
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Manifest
from tests.etl.partitioned import COLUMN, filed_day, partitioned, write_part, write_partitioned
from tests.etl.published import feature_hash, live_manifest, read_rows, read_spec
from tests.etl.raw_world import DAY, ZONE, Shape, World, make_world

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=8, lag=1, advertisers=8, length=8, history_weeks=1, horizon=3)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 6, "validation_stride": 4, "test_stride": 1}


@dataclass(frozen=True, kw_only=True)
class Base:
    """Partitioned raw tables and the full build of them."""

    world: World
    raw: str
    config: EtlConfig
    out: Path
    manifest: Manifest
    spec: DatasetSpec
    dates: tuple[datetime.date, ...]
    """Three neighbouring test days."""

    def whole(self, date: datetime.date) -> pa.Table:
        return read_rows(self.out, self.manifest, split="test", dt=date.isoformat())


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("increments")
    world = make_world(SHAPE, split=SPLIT)
    raw, config, out = write_partitioned(world, folder / "raw"), partitioned(world.config), folder / "out"
    manifest = build_dataset(spark, config, raw=raw, out=str(out), as_known_at=world.as_known_at)
    dates = sorted({file.partition["dt"] for file in manifest.select(split="test")})[1:4]
    return Base(
        world=world,
        raw=raw,
        config=config,
        out=out,
        manifest=manifest,
        spec=read_spec(out, manifest),
        dates=tuple(map(datetime.date.fromisoformat, dates)),
    )


@pytest.fixture
def days(base: Base, tmp_path: Path) -> FeatureDays:
    """Feature days over a copy of the raw tables, to be changed."""
    raw = tmp_path / "raw"
    shutil.copytree(base.raw, raw)
    return FeatureDays(location=str(tmp_path / "features"), raw=str(raw), config=base.config, spec=base.spec)


def day_hash(days: FeatureDays, date: datetime.date) -> str:
    folder = Path(days.location) / f"dt={date}"
    return sorted_rows_hash(read_rows(folder, live_manifest(folder, "features")))


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def opened(frame: DataFrame) -> int:
    """How many files Spark opens for ``frame``, from the executed plan's own count."""
    frame.collect()
    leaves = frame._jdf.queryExecution().executedPlan().collectLeaves()
    return sum(leaves.apply(i).metrics().apply("numFiles").value() for i in range(leaves.size()))


def test_a_day_opens_exactly_the_partitions_it_needs(base: Base, spark: SparkSession) -> None:
    date, raw = base.dates[0], base.config.raw
    first, last = window = history(base.spec, date)
    needed = {"behavior": last + DAY, "orders": last, "performance": last}  # New York's evening is tomorrow in UTC
    for name, end in needed.items():
        filed = {filed_day(name, row) for row in base.world.tables[name]}
        frame = read_facts(spark, raw, name, root=base.raw, as_known_at=None, days=window)
        assert opened(frame) == sum(first <= day <= end for day in filed) < len(filed)
    profile = {row["day"] for row in base.world.tables["profile"]}
    frame = read_snapshots(spark, raw.profile, "profile", root=base.raw, days=snapshot_span(base.spec, date))
    assert opened(frame) == sum(day <= date for day in profile)


def test_a_day_counts_its_raw_rows_and_those_of_the_same_weekday_before(
    base: Base, spark: SparkSession, days: FeatureDays
) -> None:
    first, last = history(base.spec, base.dates[0])
    (Path(days.raw) / f"orders/filed={last}/part-0.parquet").unlink()
    counted = days.build(spark, base.dates[0]).content["rows_by_day"]
    assert first == last - 7 * DAY
    for name in ("behavior", "orders", "performance"):
        filed = [filed_day(name, row) for row in base.world.tables[name]]
        if name == "behavior":  # its files are of UTC days
            filed = [row["happened"].astimezone(ZONE).date() for row in base.world.tables[name]]
        wanted = {str(day): filed.count(day) for day in (last, first)}
        assert counted[name] == wanted | ({str(last): 0} if name == "orders" else {})


@pytest.mark.parametrize("which", [0, 2])
def test_a_partitioned_day_equals_its_rows_in_the_full_build(
    base: Base, spark: SparkSession, days: FeatureDays, which: int
) -> None:
    """Also when every other file is unreadable: late rows, event logs, local and UTC days, a lag."""
    date = base.dates[which]
    assert any(row["landed"].date() > row["day"] + 2 * DAY for row in base.world.tables["performance"])
    inputs = list_inputs(spark, base.config.raw, root=days.raw)
    read = inputs.versions(facts=history(base.spec, date), snapshots=snapshot_span(base.spec, date))
    damaged = 0
    for name, column in COLUMN.items():
        # Spark takes the schema from a table's first file; scenario snapshots, a few rows, are read whole.
        for partition in sorted(Path(days.raw, name).iterdir())[1:]:
            if name != "scenarios" and partition.name.removeprefix(f"{column}=") not in (read[name] or {}):
                (partition / "part-0.parquet").write_bytes(b"not Parquet")
                damaged += 1
    assert damaged > 100
    manifest = days.build(spark, date, as_known_at=base.world.as_known_at)
    assert day_hash(days, date) == feature_hash(base.whole(date))
    assert manifest.content["inputs"].keys() == COLUMN.keys()


def test_a_day_at_an_earlier_knowledge_equals_the_full_build_at_it(
    base: Base, spark: SparkSession, days: FeatureDays, tmp_path: Path
) -> None:
    date = base.dates[1]
    known = datetime.datetime.combine(date + DAY, datetime.time(6), datetime.UTC)
    out = tmp_path / "out"
    manifest = build_dataset(spark, base.config, raw=base.raw, out=str(out), spec=base.spec, as_known_at=known)
    assert read_spec(out, manifest).feature_fingerprint == base.spec.feature_fingerprint
    days.build(spark, date, as_known_at=known)
    found = day_hash(days, date)
    assert found == feature_hash(read_rows(out, manifest, split="test", dt=date.isoformat()))
    assert found != feature_hash(base.whole(date)), "late rows must have made a difference"


def test_snapshots_that_hold_for_some_days_only(
    base: Base, spark: SparkSession, days: FeatureDays, tmp_path: Path
) -> None:
    """Older profiles are missing, scenarios without a young snapshot are not live; older files are not opened."""
    config = base.config.model_copy(update={"raw": base.config.raw.model_copy(update={"snapshot_days": 7})})
    out, date, known = tmp_path / "out", base.dates[0], base.world.as_known_at
    whole = build_dataset(spark, config, raw=base.raw, out=str(out), as_known_at=known)
    spec = read_spec(out, whole)
    short = replace(days, config=config, spec=spec)
    for partition in sorted(Path(days.raw, "profile").iterdir())[1:]:
        day = datetime.date.fromisoformat(partition.name.removeprefix("day="))
        if not date - 7 * DAY < day <= date:
            (partition / "part-0.parquet").write_bytes(b"not Parquet")
    short.build(spark, date, as_known_at=known)
    assert day_hash(short, date) == feature_hash(read_rows(out, whole, split="test", dt=date.isoformat()))
    limited, unlimited = read_rows(out, whole), read_rows(base.out, base.manifest)
    absent = [0] * len(spec.profile)
    counts = [table["profile_ids"].to_pylist().count(absent) for table in (limited, unlimited)]
    assert counts[0] > counts[1]
    snapshots = {(row["scenario_id"], row["day"]) for row in base.world.tables["scenarios"]}
    test = read_rows(out, whole, split="test")
    pairs = set(zip(test["scenario_id"].to_pylist(), test["as_of"].to_pylist(), strict=True))
    assert all(any((scenario, as_of - back * DAY) in snapshots for back in range(7)) for scenario, as_of in pairs)
    assert test.num_rows < read_rows(base.out, base.manifest, split="test").num_rows
    # A scenario that has no young snapshot on the last training day is known all the same.
    assert 0 not in read_rows(out, whole, split="train")["scenario_index"].to_pylist()


def test_late_rows_make_days_stale_and_a_rebuild_replaces_exactly_one(
    base: Base, spark: SparkSession, days: FeatureDays
) -> None:
    first, middle, last = base.dates
    made = [manifest for _, manifest in days.backfill(spark, (first, last), force=False)]
    assert [manifest.content["as_of"] for manifest in made if manifest] == [str(date) for date in base.dates]
    before = list_inputs(spark, base.config.raw, root=days.raw)
    assert [days.status(date, before).state for date in each_day(first - DAY, last)] == ["missing"] + 3 * ["complete"]

    # A row of a day that the first as-of day does not see yet, and the other two do.
    late_day = history(base.spec, middle)[1]
    folder = Path(days.folder(middle).uri)
    taken = {(row["advertiser_id"], row["scenario_id"], row["day"]) for row in base.world.tables["performance"]}
    eligible = (row for row in read_rows(folder, live_manifest(folder, "features")).to_pylist() if row["eligible"])
    keys = ((row["advertiser_id"], row["scenario_id"], late_day) for row in eligible)
    late = dict(
        zip(("advertiser_id", "scenario_id", "day"), next(key for key in keys if key not in taken), strict=True)
    )
    row = next(row for row in base.world.tables["performance"] if row["clicks"] > 0) | late
    write_part(base.world, Path(days.raw), "performance", late_day, [row], part="part-late")
    inputs = list_inputs(spark, base.config.raw, root=days.raw)
    found = [days.status(date, inputs) for date in base.dates]
    assert [status.state for status in found] == ["complete", "stale", "stale"]
    assert found[1].changed == {"performance": [str(late_day)]}

    untouched = digests(Path(days.folder(first).uri)), digests(Path(days.folder(last).uri))
    old = day_hash(days, middle)
    ((status, manifest),) = days.backfill(spark, (middle, middle), force=False)
    assert (status.state, manifest is not None) == ("stale", True)
    assert day_hash(days, middle) != old
    assert untouched == (digests(Path(days.folder(first).uri)), digests(Path(days.folder(last).uri)))
    assert [days.status(date, inputs).state for date in base.dates] == ["complete", "complete", "stale"]
    built = [status.date for status, manifest in days.backfill(spark, (first, last), force=False) if manifest]
    assert built == [last]
    ((_, forced),) = days.backfill(spark, (first, first), force=True)
    assert forced is not None


def test_a_failed_day_is_said_to_be_one_and_keeps_what_was_published(
    base: Base, spark: SparkSession, days: FeatureDays
) -> None:
    first, middle, _ = base.dates
    days.build(spark, first)
    published = live_manifest(Path(days.folder(first).uri), "features")
    day = history(base.spec, middle)[1]
    row = base.world.tables["performance"][0] | {"day": day, "advertiser_id": None}
    part = write_part(base.world, Path(days.raw), "performance", day, [row], part="part-bad")
    rebuilt = days.backfill(spark, (first, middle), force=False)
    assert next(rebuilt)[1] is None
    with pytest.raises(UserError, match="null 'advertiser_id'"):
        next(rebuilt)
    inputs = list_inputs(spark, base.config.raw, root=days.raw)
    failed = days.status(middle, inputs)
    assert failed.state == "failed"
    assert "null 'advertiser_id'" in failed.reason
    assert days.status(first, inputs).state == "complete"
    assert live_manifest(Path(days.folder(first).uri), "features") == published
    part.unlink()
    days.build(spark, middle)
    assert not days.folder(middle).exists(ATTEMPT)
    assert days.status(middle, list_inputs(spark, base.config.raw, root=days.raw)).state == "complete"


def test_another_spec_or_configuration_makes_a_day_stale(base: Base, spark: SparkSession, days: FeatureDays) -> None:
    date = base.dates[0]
    days.build(spark, date)
    inputs = list_inputs(spark, base.config.raw, root=days.raw)
    longer = base.config.raw.model_copy(update={"last_day": base.config.raw.last_day + DAY})
    same = replace(days, config=base.config.model_copy(update={"raw": longer}))
    assert same.status(date, inputs).state == "complete"
    checks = base.config.checks.model_copy(update={"null_keys": "drop"})
    other = replace(days, config=base.config.model_copy(update={"checks": checks}))
    assert other.status(date, inputs).state == "stale"
    activity = base.spec.activity.model_copy(update={"min_active_days": 7})
    other = replace(days, spec=base.spec.model_copy(update={"activity": activity}))
    assert base.spec.feature_fingerprint in other.status(date, inputs).reason


def test_misfiled_rows_are_refused_or_dropped_alike(base: Base, spark: SparkSession, days: FeatureDays) -> None:
    date = base.dates[0]
    inside, outside = history(base.spec, date)[1], history(base.spec, date)[0] - 9 * DAY
    row = next(row for row in base.world.tables["behavior"] if filed_day("behavior", row) == inside)
    write_part(base.world, Path(days.raw), "behavior", outside, [row], part="part-misfiled")
    with pytest.raises(UserError, match=r"1 rows with a 'dt' that is not the day of 'happened'"):
        build_dataset(spark, base.config, raw=days.raw, out=days.location)
    checks = base.config.checks.model_copy(update={"misfiled_rows": "drop"})
    config, out = base.config.model_copy(update={"checks": checks}), Path(days.location)
    whole = build_dataset(spark, config, raw=days.raw, out=str(out), spec=base.spec, as_known_at=base.world.as_known_at)
    assert whole.content["dropped"] == {"misfiled_rows": 1}
    assert feature_hash(read_rows(out, whole, split="test")) == feature_hash(
        read_rows(base.out, base.manifest, split="test")
    )


def test_tables_without_partitions_have_one_version(base: Base, spark: SparkSession, tmp_path: Path) -> None:
    raw = base.world.write(tmp_path / "raw")
    date, out = base.dates[0], tmp_path / "day"
    known = base.world.as_known_at
    manifest = build_day(spark, base.world.config, base.spec, date=date, raw=raw, out=str(out), as_known_at=known)
    assert {tuple(parts) for parts in manifest.content["inputs"].values()} == {(WHOLE,)}
    assert sorted_rows_hash(read_rows(out, manifest)) == feature_hash(base.whole(date))


@pytest.fixture
def catalog(base: Base, spark: SparkSession) -> Iterator[EtlConfig]:
    """The raw tables in Spark's catalog, partitioned; the config that reads them."""
    spark.sql("CREATE DATABASE world")
    for name, column in COLUMN.items():
        frame = spark.read.parquet(f"{base.raw}/{name}")
        if name == "behavior":
            frame = frame.withColumn(column, frame[column].cast("string"))  # as Hive tables mostly have it
        frame.write.partitionBy(column).saveAsTable(f"world.{name}")
    raw = base.config.raw.model_dump()
    for name in COLUMN:
        (raw["facts"].get(name) or raw[name])["path"] = f"table:world.{name}"
    yield EtlConfig.model_validate(base.config.model_dump() | {"raw": raw})
    spark.sql("DROP DATABASE world CASCADE")


def test_catalog_tables_give_the_same_day_and_know_what_changed(
    base: Base, spark: SparkSession, catalog: EtlConfig, tmp_path: Path
) -> None:
    date = base.dates[0]
    days = FeatureDays(location=str(tmp_path / "features"), raw="nowhere", config=catalog, spec=base.spec)
    window = history(base.spec, date)
    frame = read_facts(spark, catalog.raw, "behavior", root="nowhere", as_known_at=None, days=window)
    filed = {filed_day("behavior", row) for row in base.world.tables["behavior"]}
    assert opened(frame) == sum(window[0] <= day <= window[1] + DAY for day in filed)
    days.build(spark, date, as_known_at=base.world.as_known_at)
    assert day_hash(days, date) == feature_hash(base.whole(date))
    spark.sql(f"INSERT INTO world.orders SELECT * FROM world.orders WHERE filed = '{window[1]}'")
    status = days.status(date, list_inputs(spark, catalog.raw, root="nowhere"))
    assert (status.state, status.changed) == ("stale", {"orders": [str(window[1])]})
