"""Replay: features as known on the night of each as-of day, labels matured; every row as that night's own build."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from etl.arrivals import Arrivals, known_at
from etl.build import build_dataset, build_day
from etl.config import EtlConfig, FactsTable, RawConfig
from m2m_model.contracts.schema import KEYS, sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Manifest
from tests.etl.published import feature_hash, features, read_rows, read_spec
from tests.etl.raw_world import DAY, Shape, World, make_world
from tests.etl.test_properties import day_of

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=10, lag=1, advertisers=10, length=9, history_weeks=2, horizon=3)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 4, "validation_stride": 3, "test_stride": 2}
HOURS = 30
"""Rows that land on time do so at 6 in the morning two days later, in UTC: a little later than this, some a little
earlier, since New York is behind."""


@dataclass(frozen=True, kw_only=True)
class Build:
    out: Path
    manifest: Manifest

    @property
    def rows(self) -> pa.Table:
        return read_rows(self.out, self.manifest)

    @property
    def spec(self) -> DatasetSpec:
        return read_spec(self.out, self.manifest)


@dataclass(frozen=True, kw_only=True)
class Base:
    world: World
    raw: str
    matured: Build
    replayed: Build


def replaying(config: EtlConfig, **raw: Any) -> EtlConfig:
    changed = {"known_at": "as_of", "known_after_hours": HOURS} | raw
    return EtlConfig.model_validate(config.model_dump() | {"raw": config.raw.model_dump() | changed})


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder, world = tmp_path_factory.mktemp("replay"), make_world(SHAPE, split=SPLIT)
    raw = world.write(folder / "raw")
    builds = {}
    for name, config in {"matured": world.config, "replayed": replaying(world.config)}.items():
        out = folder / name
        builds[name] = Build(out=out, manifest=build_dataset(spark, config, raw=raw, out=str(out)))
    return Base(world=world, raw=raw, **builds)


def dates(manifest: Manifest, split: str) -> list[datetime.date]:
    return sorted({datetime.date.fromisoformat(f.partition["dt"]) for f in manifest.select(split=split)})


@pytest.mark.parametrize(("split", "which"), [("train", 3), ("validation", 1), ("test", -1)])
def test_a_replayed_day_is_what_its_own_night_builds(
    base: Base, spark: SparkSession, tmp_path: Path, split: str, which: int
) -> None:
    """With the instant given, and by the configuration alone; training rows are the eligible ones of it."""
    date = dates(base.replayed.manifest, split)[which]
    expected = read_rows(base.replayed.out, base.replayed.manifest, split=split, dt=date.isoformat())
    known = known_at(replaying(base.world.config).raw, date)
    hashes = []
    for name, config, at in (("given", base.world.config, known), ("configured", replaying(base.world.config), None)):
        out = tmp_path / name
        manifest = build_day(spark, config, base.replayed.spec, date=date, raw=base.raw, out=str(out), as_known_at=at)
        found = read_rows(out, manifest)
        hashes.append(sorted_rows_hash(found.filter(found["eligible"]) if split == "train" else found))
    assert hashes == [feature_hash(expected)] * 2
    matured = read_rows(base.matured.out, base.matured.manifest, split=split, dt=date.isoformat())
    assert hashes[0] != feature_hash(matured), "late rows must have made a difference"


def test_labels_and_spec_are_the_matured_ones(base: Base) -> None:
    assert base.replayed.spec.feature_fingerprint == base.matured.spec.feature_fingerprint
    assert base.replayed.spec.behavior == base.matured.spec.behavior
    joined = base.replayed.rows.select([*KEYS, *labels(base)]).join(
        base.matured.rows.select([*KEYS, *labels(base)]), list(KEYS), right_suffix="_matured", join_type="inner"
    )
    assert joined.num_rows > 200
    for label in labels(base):
        assert joined[label].to_pylist() == joined[f"{label}_matured"].to_pylist()


def labels(base: Base) -> list[str]:
    return [f"label_{task}" for task in base.matured.spec.task_names]


def test_the_manifest_says_how_much_differs_from_matured_history(base: Base) -> None:
    """Against a count from the rows of both builds, where both have them."""
    table: list[dict[str, Any]] = base.replayed.manifest.content["replay_difference"]
    by_name: Mapping[str, dict[str, Any]] = {entry["feature"]: entry for entry in table}
    spec = base.matured.spec
    assert list(by_name)[: len(spec.behavior)] == [f"behavior.{column.name}" for column in spec.behavior]
    assert by_name["history_clicks"]["rows"] == base.replayed.manifest.rows
    assert all(0 < by_name[f"performance.{name}"]["rows_differing"] < 1 for name in ("spend", "all_spend"))
    assert by_name["performance.spend"]["ids_differing"] < by_name["performance.spend"]["rows_differing"]
    assert 0 < by_name["eligible"]["rows_differing"] < 0.5

    matured = features(base.matured.rows).rename_columns(
        [name if name in KEYS else f"{name}_matured" for name in features(base.matured.rows).column_names]
    )
    left = features(base.replayed.rows).append_column("row", pa.array(range(base.replayed.manifest.rows)))
    keyed = {tuple(row[key] for key in KEYS): row for row in matured.to_pylist()}
    pairs = [(row, keyed[key]) for row in left.to_pylist() if (key := tuple(row[k] for k in KEYS)) in keyed]
    assert len(pairs) > 0.9 * base.replayed.manifest.rows
    differing = sum(known["history_spend"] != truly["history_spend_matured"] for known, truly in pairs)
    missing = base.replayed.manifest.rows - len(pairs)
    counted = by_name["history_spend"]["rows_differing"] * base.replayed.manifest.rows
    assert differing <= round(counted) <= differing + missing


def test_without_late_rows_replay_changes_nothing(base: Base, spark: SparkSession, tmp_path: Path) -> None:
    punctual = base.world.copy()
    for name, table in base.world.config.raw.facts.items():
        for row in punctual.tables[name]:
            noon = datetime.datetime.combine(day_of(base.world, name, row), datetime.time(12), datetime.UTC)
            row[table.arrived_at] = noon
    out = tmp_path / "out"
    manifest = build_dataset(spark, replaying(base.world.config), raw=punctual.write(tmp_path / "raw"), out=str(out))
    assert sorted_rows_hash(read_rows(out, manifest)) == sorted_rows_hash(base.matured.rows)
    assert {entry["rows_differing"] for entry in manifest.content["replay_difference"]} == {0.0}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "America/Havana", "Pacific/Apia"])
def test_the_day_from_which_a_row_is_known_is_exact(spark: SparkSession, zone: str) -> None:
    """At every boundary and a microsecond beside it, also where the clocks change at midnight or a day is left out."""
    first = datetime.date(2011, 10, 25) if zone == "Pacific/Apia" else datetime.date(2017, 2, 20)
    raw = RawConfig(timezone=zone, first_day=first, last_day=first + 80 * DAY, facts={}, known_after_hours=5)
    arrivals = Arrivals(raw=raw, last=75, lag=0, history_days=500)
    instants = [known_at(raw, first + DAY * day) for day in range(76)]
    tick = datetime.timedelta(microseconds=1)
    moments = [instant + shift for instant in instants for shift in (-tick, 0 * tick, tick, 7 * tick * 10**9)]
    moments += [instants[0] - 9 * DAY, instants[-1] + 9 * DAY]
    expected = [sum(instant < moment for instant in instants) for moment in moments]
    frame = spark.createDataFrame([(first, moment) for moment in moments], "day date, at timestamp")
    seen = frame.select(arrivals._seen(FactsTable(arrived_at="at")).alias("seen")).toArrow()["seen"]
    assert np.array_equal(seen.to_numpy(), np.array(expected))


def test_a_configuration_that_cannot_be_replayed_is_refused(base: Base) -> None:
    content = replaying(base.world.config).model_dump()
    content["checks"]["negative_labels"] = "drop"
    with pytest.raises(ValidationError, match=r'needs checks.negative_labels = "error"'):
        EtlConfig.model_validate(content)
    content = replaying(base.world.config).model_dump()
    for table in content["raw"]["facts"].values():
        table["arrived_at"] = ""
    with pytest.raises(ValidationError, match="needs arrived_at of at least one table"):
        EtlConfig.model_validate(content)
