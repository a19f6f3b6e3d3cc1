"""Damaged rows in random places, and expressions that fail on some row: whole builds end in one line, or in a count."""

import datetime
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from etl.config import EtlConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import sorted_rows_hash
from tests.etl.published import read_rows
from tests.etl.raw_world import DAY, FIRST_DAY, Row, Shape, World, make_config, make_world

pytestmark = [pytest.mark.spark, pytest.mark.slow]
SHAPE = Shape(seed=8, advertisers=5, length=4, history_weeks=1, horizon=2)
SPARSE = {"ratio": (6, 2, 2), "train_stride": 12, "validation_stride": 12, "test_stride": 12}
TIMES = {"behavior": "happened", "performance": "day", "orders": "ordered_at", "profile": "day", "scenarios": "day"}
KEYS = {"behavior": "advertiser_id", "performance": "advertiser_id", "orders": "seller", "profile": "advertiser_id"}
KEYS |= {"scenarios": "scenario_id"}
ARRIVALS = {"behavior": "arrived_at", "performance": "landed", "orders": "arrived_at"}
CHANNELS = {"behavior": "scenario_id", "performance": "scenario_id", "orders": "channel"}
FACTS = tuple(CHANNELS)


def _days_off(value: Any, days: int) -> Any:
    return value + datetime.timedelta(days=days)


def _null(columns: dict[str, str]) -> Callable[[str, Row, random.Random], Row]:
    return lambda table, row, generator: {columns[table]: None}


def _early_or_late(table: str, row: Row, generator: random.Random) -> Row:
    far = SHAPE.days + generator.randrange(1, 4000)
    return {TIMES[table]: _days_off(row[TIMES[table]], generator.choice([-far, far]))}


def _unknown(table: str, row: Row, generator: random.Random) -> Row:
    return {CHANNELS[table]: generator.choice(["", " feed", "FEED", "ghost", "féed", "feed\x00"])}


def _negative(table: str, row: Row, generator: random.Random) -> Row:
    """Of an advertiser of its own, so that the day's sum is negative, no key is doubled and nobody's features move."""
    value = -generator.randrange(1, 99)
    key = {KEYS[table]: f"debtor {generator.random()}"}
    return key | ({"gmv": Decimal(value).scaleb(-2)} if table == "orders" else {"clicks": value, "spend": Decimal(0)})


def _double(table: str, row: Row, generator: random.Random) -> Row:
    return {}


DAMAGES: dict[str, tuple[tuple[str, ...], str, Callable[[str, Row, random.Random], Row]]] = {
    "null keys": ((*FACTS, "profile", "scenarios"), "null_keys", _null(KEYS)),
    "null times": ((*FACTS, "profile", "scenarios"), "null_keys", _null(TIMES)),
    "null arrivals": (FACTS, "null_keys", _null(ARRIVALS)),
    "days out of range": (FACTS, "dates_out_of_range", _early_or_late),
    "unknown scenarios": (FACTS, "unknown_scenarios", _unknown),
    "negative labels": (("performance", "orders"), "negative_labels", _negative),
    "doubled keys": (("performance", "profile", "scenarios"), "duplicate_keys", _double),
}
CASES = [(damage, table) for damage, (tables, _, _) in DAMAGES.items() for table in tables]


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SHAPE, split=SPARSE)


def bad_rows(world: World, damage: str, table: str, seed: int) -> list[Row]:
    """Damaged copies of one to three random rows of ``table``."""
    generator, change = random.Random(f"{damage}, {table}, {seed}"), DAMAGES[damage][2]
    picked = generator.sample(world.tables[table], generator.randrange(1, 4))
    return [row | change(table, row, generator) for row in picked]


def with_rows(world: World, table: str, rows: list[Row]) -> World:
    tables = world.tables | {table: [*world.tables[table], *rows]}
    return World(tables=tables, schemas=world.schemas, config=world.config)


def with_config(world: World, **sections: Any) -> World:
    return World(tables=world.tables, schemas=world.schemas, config=make_config(SHAPE, split=SPARSE, **sections))


def refused(spark: SparkSession, world: World, folder: Path) -> str:
    """The message with which a build of ``world`` ends; nothing is published."""
    out = folder / "out"
    with pytest.raises(UserError) as caught:
        build_dataset(spark, world.config, raw=world.write(folder / "raw"), out=str(out))
    assert not (out / "manifest.json").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("damage", "table"), CASES)
def test_damaged_rows(spark: SparkSession, tmp_path: Path, world: World, damage: str, table: str) -> None:
    rows = bad_rows(world, damage, table, seed=0)
    message = refused(spark, with_rows(world, table, rows), tmp_path)
    assert table in message
    assert f"{len(rows)} " in message
    assert f"checks.{DAMAGES[damage][1]}" in message


@pytest.fixture(scope="module")
def clean(spark: SparkSession, world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("clean")
    return built(spark, world, folder)[0]


def built(spark: SparkSession, world: World, folder: Path) -> tuple[str, dict[str, int]]:
    manifest = build_dataset(spark, world.config, raw=world.write(folder / "raw"), out=str(folder / "out"))
    return sorted_rows_hash(read_rows(folder / "out", manifest)), manifest.content["dropped"]


@pytest.mark.parametrize("seed", [1, 2])
def test_all_damages_at_once_are_dropped_and_counted(
    spark: SparkSession, tmp_path: Path, world: World, clean: str, seed: int
) -> None:
    bad = with_config(world, checks=dict.fromkeys(EtlConfig.model_fields["checks"].default.model_dump(), "drop"))
    expected: dict[str, int] = {}
    for damage, table in CASES:
        rows, check = bad_rows(world, damage, table, seed), DAMAGES[damage][1]
        bad = with_rows(bad, table, rows)
        expected[check] = expected.get(check, 0) + len(rows)
    found, dropped = built(spark, bad, tmp_path)
    assert dropped == expected
    assert found == clean


FEATURES = {
    "division by zero": ("cast(sum(clicks) / count_if(clicks < 0) as int)", "DIVIDE_BY_ZERO"),
    "remainder of zero": ("sum(clicks) % count_if(clicks < 0)", "_BY_ZERO"),
    "bigint overflow": ("sum(clicks * 9000000000000000000)", "OVERFLOW"),
    "bigint sum overflow": ("sum(if(clicks > 0, 9000000000000000000, 0) + clicks) * 2", "OVERFLOW"),
    "int overflow": ("max(cast(clicks as int) * 2000000000)", "OVERFLOW"),
    "decimal overflow": ("sum(cast(clicks as decimal(38,0)) * 99999999999999999999999999999999999999)", "OUT_OF_RANGE"),
    "narrow cast": ("sum(cast(clicks * 100 as tinyint))", "OVERFLOW"),
    "a word as a number": ("sum(cast(scenario_id as int))", "CAST_INVALID_INPUT"),
    "a word compared with a number": ("count_if(scenario_id > 3)", "CAST_INVALID_INPUT"),
    "an index out of range": ("sum(array(clicks)[clicks])", "INVALID_ARRAY_INDEX"),
    "a date of no calendar": ("max(datediff(make_date(2017, 13, 1), day))", ""),
    "not a number": ("max(cast('NaN' as double))", "NaN"),
    "infinity": ("max(cast(clicks as double) * double('Infinity'))", "NaN or infinity"),
    "an error of the user's own": ("sum(if(clicks > 9, raise_error('too many'), clicks))", "too many"),
    "a bad pattern": ("count_if(scenario_id rlike '(')", ""),
}


@pytest.mark.parametrize("case", FEATURES)
def test_expressions_that_fail_on_some_row(spark: SparkSession, tmp_path: Path, world: World, case: str) -> None:
    expr, words = FEATURES[case]
    features = world.config.features.model_dump()
    features["performance"]["spend"] |= {"expr": expr}
    assert words in refused(spark, with_config(world, features=features), tmp_path)


ATTRIBUTES = {
    "division by zero": ("profile", "wallet / (tier - tier)", "DIVIDE_BY_ZERO"),
    "not a number": ("profile", "wallet * double('NaN')", "features.profile.x"),
    "overflow": ("profile", "tier * 2147483647", "OVERFLOW"),
    "a number for a word": ("profile", "cast(industry as int)", "CAST_INVALID_INPUT"),
    "division by zero in a scenario": ("scenario", "traffic / (traffic - traffic)", "DIVIDE_BY_ZERO"),
    "infinity in a scenario": ("scenario", "traffic + double('-Infinity')", "features.scenario.x"),
    "a number for a medium": ("scenario", "cast(medium as bigint)", "CAST_INVALID_INPUT"),
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_attributes_that_fail_on_some_row(spark: SparkSession, tmp_path: Path, world: World, case: str) -> None:
    section, expr, words = ATTRIBUTES[case]
    features = world.config.features.model_dump()
    features[section]["x"] = {"expr": expr, "kind": "bucket"}
    assert words in refused(spark, with_config(world, features=features), tmp_path)


TASKS = {
    "a day beyond 2^53": ("sum(clicks) * 9007199254740993", "2^53"),
    "a year beyond 2^53": ("sum(if(clicks > 0, 1, 0)) * 4503599627370496", "2^53"),
    "deep decimals": ("sum(cast(clicks as decimal(28,20)) / 7)", "2^53"),
    "overflow": ("sum(clicks * 9000000000000000000)", "OVERFLOW"),
}


@pytest.mark.parametrize("case", TASKS)
def test_labels_that_cannot_be_exact(spark: SparkSession, tmp_path: Path, world: World, case: str) -> None:
    expr, words = TASKS[case]
    tasks = world.config.model_dump()["tasks"]
    tasks["clicks"] |= {"expr": expr}
    assert words in refused(spark, with_config(world, tasks=tasks), tmp_path)


def test_no_rows_of_facts_known_yet(spark: SparkSession, tmp_path: Path, world: World) -> None:
    early = datetime.datetime.combine(FIRST_DAY - 900 * DAY, datetime.time(), datetime.UTC)
    with pytest.raises(UserError, match="behavior"):
        build_dataset(spark, world.config, raw=world.write(tmp_path / "raw"), out=str(tmp_path), as_known_at=early)


@pytest.mark.parametrize("table", TIMES)
def test_empty_tables(spark: SparkSession, tmp_path: Path, world: World, table: str) -> None:
    empty = World(tables=world.tables | {table: []}, schemas=world.schemas, config=world.config)
    if table == "profile":  # a platform may have no profiles; every profile id is then missing
        found, _ = built(spark, empty, tmp_path)
        assert found
        return
    assert table in refused(spark, empty, tmp_path)


def test_tables_of_no_columns(spark: SparkSession, tmp_path: Path, world: World) -> None:
    schemas = world.schemas | {"orders": pa.schema({"x": pa.int64()})}
    tables = world.tables | {"orders": [{"x": 1}]}
    assert "seller" in refused(spark, World(tables=tables, schemas=schemas, config=world.config), tmp_path)
