"""Bad input ends in one line that names the table, the column and the count, and publishes nothing; or is counted."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import sorted_rows_hash
from tests.etl.published import read_rows
from tests.etl.raw_world import DAY, FIRST_DAY, Row, Shape, World, make_config, make_world

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=7, advertisers=6, length=5, history_weeks=1, horizon=2)
SPARSE = {"ratio": (6, 2, 2), "train_stride": 10, "validation_stride": 10, "test_stride": 10}


@pytest.fixture
def world() -> World:
    return make_world(SHAPE, split=SPARSE)


def with_schema(world: World, table: str, **columns: pa.DataType | None) -> World:
    """``world`` with columns of ``table`` of another type, or (None) without them."""
    schema = {field.name: field.type for field in world.schemas[table]} | columns
    kept = {name: kind for name, kind in schema.items() if kind is not None}
    tables = world.tables | {table: [{name: row[name] for name in kept} for row in world.tables[table]]}
    for name in columns:
        for row in tables[table]:
            if name in row and kept[name] == pa.string():
                row[name] = str(row[name])
            elif name in row and kept[name] == pa.timestamp("us"):
                row[name] = row[name].replace(tzinfo=None)
    return World(tables=tables, schemas=world.schemas | {table: pa.schema(kept)}, config=world.config)


def with_config(world: World, section: str, sequence: str, name: str, **changes: Any) -> World:
    """``world`` with one feature (``section="features"``) or task changed."""
    value: dict[str, Any] = world.config.model_dump()[section]
    (value[sequence] if section == "features" else value)[name] |= changes
    config = make_config(SHAPE, split=SPARSE, **{section: value})
    return World(tables=world.tables, schemas=world.schemas, config=config)


def with_rows(world: World, table: str, *rows: Row) -> World:
    """``world`` with rows added: copies of the table's first row with the given columns changed."""
    first = world.tables[table][0]
    added = [first | row for row in rows]
    return World(tables=world.tables | {table: world.tables[table] + added}, schemas=world.schemas, config=world.config)


def unused(world: World) -> Row:
    """Key of a performance row that the world does not have."""
    days = {row["day"] for row in world.tables["performance"] if row["advertiser_id"] == "adv00"}
    free = next(day for number in range(SHAPE.days) if (day := FIRST_DAY + number * DAY) not in days)
    return {"advertiser_id": "adv00", "scenario_id": "feed", "day": free}


def _emptied(world: World, table: str) -> World:
    return World(tables=world.tables | {table: []}, schemas=world.schemas, config=world.config)


def _orders_by_number(world: World) -> World:
    """The orders' sellers as numbers, where the other tables have strings."""
    schema = pa.schema({f.name: pa.int64() if f.name == "seller" else f.type for f in world.schemas["orders"]})
    rows = [row | {"seller": int(row["seller"][3:])} for row in world.tables["orders"]]
    return World(
        tables=world.tables | {"orders": rows}, schemas=world.schemas | {"orders": schema}, config=world.config
    )


BEFORE, AFTER = FIRST_DAY - DAY, FIRST_DAY + SHAPE.days * DAY
NEW_YORK_FIRST = datetime.datetime.combine(FIRST_DAY, datetime.time(5), datetime.UTC)
"""The first instant of the first day; one microsecond earlier is out of range, though the same day in UTC."""

ROWS: dict[str, tuple[Callable[[World], World], tuple[str, ...]]] = {
    "negative label": (
        lambda w: with_rows(w, "performance", unused(w) | {"clicks": -5}),
        ("negative", "clicks", "1 "),
    ),
    "negative label in decimals": (
        lambda w: with_rows(w, "orders", {"seller": "adv99", "gmv": Decimal("-0.01")}),
        ("negative", "gmv", "1 "),
    ),
    "duplicate keys": (
        lambda w: with_rows(w, "performance", {"clicks": 4}),
        ("performance", "duplicate", "1 "),
    ),
    "duplicate profile snapshots": (
        lambda w: with_rows(w, "profile", {"tier": 5}),
        ("profile", "duplicate", "1 "),
    ),
    "duplicate scenario snapshots": (
        lambda w: with_rows(w, "scenarios", {"traffic": 5}),
        ("scenarios", "duplicate", "1 "),
    ),
    "days out of range": (
        lambda w: with_rows(w, "performance", {"day": BEFORE}, {"day": AFTER}),
        ("performance", "day", "2 ", str(FIRST_DAY), str(AFTER - DAY)),
    ),
    "event out of range by local time": (
        lambda w: with_rows(w, "behavior", {"happened": NEW_YORK_FIRST - datetime.timedelta(microseconds=1)}),
        ("behavior", "happened", "1 ", str(FIRST_DAY)),
    ),
    "unknown scenario": (
        lambda w: with_rows(w, "orders", {"channel": "ghost"}, {"channel": "ghost"}, {"channel": "spook"}),
        ("orders", "channel", "3 ", "ghost"),
    ),
    "null advertiser": (
        lambda w: with_rows(w, "behavior", {"advertiser_id": None}),
        ("behavior", "advertiser_id", "1 ", "null"),
    ),
    "null day": (
        lambda w: with_rows(w, "performance", {"day": None}),
        ("performance", "day", "1 ", "null"),
    ),
    "null time of an event": (
        lambda w: with_rows(w, "orders", {"ordered_at": None}, {"ordered_at": None}),
        ("orders", "ordered_at", "2 ", "null"),
    ),
    "null profile key": (
        lambda w: with_rows(w, "profile", {"advertiser_id": None}),
        ("profile", "advertiser_id", "1 ", "null"),
    ),
    "null snapshot day": (
        lambda w: with_rows(w, "scenarios", {"day": None}),
        ("scenarios", "day", "1 ", "null"),
    ),
}

SHAPES: dict[str, tuple[Callable[[World], World], tuple[str, ...]]] = {
    "missing key column": (
        lambda w: with_schema(w, "performance", advertiser_id=None),
        ("performance", "advertiser_id"),
    ),
    "missing time column": (lambda w: with_schema(w, "behavior", happened=None), ("behavior", "happened")),
    "missing value column": (lambda w: with_schema(w, "performance", clicks=None), ("performance", "clicks")),
    "missing arrival column": (lambda w: with_schema(w, "orders", arrived_at=None), ("orders", "arrived_at")),
    "missing snapshot key": (lambda w: with_schema(w, "profile", advertiser_id=None), ("profile", "advertiser_id")),
    "missing attribute": (lambda w: with_schema(w, "scenarios", traffic=None), ("traffic",)),
    "day is a string": (lambda w: with_schema(w, "performance", day=pa.string()), ("performance", "day", "string")),
    "snapshot day is a string": (lambda w: with_schema(w, "profile", day=pa.string()), ("profile", "day", "string")),
    "event time without zone": (
        lambda w: with_schema(w, "behavior", happened=pa.timestamp("us")),
        ("behavior", "happened"),
    ),
    "value is a string": (lambda w: with_schema(w, "performance", clicks=pa.string()), ("performance", "clicks")),
    "other id type": (
        _orders_by_number,
        ("orders", "seller"),
    ),
    "empty facts": (lambda w: _emptied(w, "performance"), ("performance",)),
    "empty scenarios": (lambda w: _emptied(w, "scenarios"), ("scenarios",)),
}

EXPRESSIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown column": ("sum(cliks)", ("performance", "spend", "cliks")),
    "unknown function": ("summ(clicks)", ("spend", "summ")),
    "not SQL": ("sum(clicks", ("spend", "sum(clicks")),
    "no aggregate": ("clicks", ("spend", "clicks")),
    "not a number": ("max(scenario_id)", ("spend", "string")),
    "sum of doubles": ("sum(cast(spend as double))", ("spend", "double")),
    "sum of floats inside": ("1 + sum(cast(spend as float)) / 2", ("spend", "float")),
    "average of doubles": ("avg(cast(clicks as double))", ("spend",)),
    "first": ("first(clicks)", ("spend", "first")),
    "any_value": ("any_value(clicks)", ("spend", "any_value")),
    "list": ("size(collect_list(clicks))", ("spend", "collect_list")),
    "random": ("sum(cast(rand() * 10 as int))", ("spend", "rand")),
    "today": ("max(datediff(current_date(), day))", ("spend", "current_date")),
}


def expect_error(spark: SparkSession, world: World, folder: Path, words: tuple[str, ...]) -> None:
    out = folder / "out"
    with pytest.raises(UserError) as caught:
        build_dataset(spark, world.config, raw=world.write(folder / "raw"), out=str(out))
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word.lower() not in message.lower() + " "] == [], message
    assert not out.exists() or not [path for path in out.rglob("*") if path.is_file()], "nothing is published"


@pytest.mark.parametrize("case", ROWS)
def test_bad_rows(spark: SparkSession, tmp_path: Path, world: World, case: str) -> None:
    change, words = ROWS[case]
    expect_error(spark, change(world), tmp_path, words)


@pytest.mark.parametrize("case", SHAPES)
def test_bad_tables(spark: SparkSession, tmp_path: Path, world: World, case: str) -> None:
    change, words = SHAPES[case]
    expect_error(spark, change(world), tmp_path, words)


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_bad_expressions(spark: SparkSession, tmp_path: Path, world: World, case: str) -> None:
    expr, words = EXPRESSIONS[case]
    expect_error(spark, with_config(world, "features", "performance", "spend", expr=expr), tmp_path, words)


@pytest.mark.parametrize("expr", ["sum(cast(spend as double))", "first(clicks)", "sum(cliks)"])
def test_bad_task_expressions(spark: SparkSession, tmp_path: Path, world: World, expr: str) -> None:
    expect_error(spark, with_config(world, "tasks", "", "gmv", table="performance", expr=expr), tmp_path, ("gmv",))


def test_bad_activity(spark: SparkSession, tmp_path: Path, world: World) -> None:
    config = make_config(SHAPE, split=SPARSE, population={"activity": "count(*)"})
    bad = World(tables=world.tables, schemas=world.schemas, config=config)
    expect_error(spark, bad, tmp_path, ("activity", "bool"))


def test_a_missing_table(spark: SparkSession, tmp_path: Path, world: World) -> None:
    tables = {name: rows for name, rows in world.tables.items() if name != "orders"}
    bad = World(tables=tables, schemas=world.schemas, config=world.config)
    expect_error(spark, bad, tmp_path, ("orders",))


def test_an_error_leaves_the_previous_dataset(spark: SparkSession, tmp_path: Path, world: World) -> None:
    out = tmp_path / "out"
    build_dataset(spark, world.config, raw=world.write(tmp_path / "good"), out=str(out))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    bad = with_rows(world, "performance", unused(world) | {"clicks": -5})
    with pytest.raises(UserError):
        build_dataset(spark, world.config, raw=bad.write(tmp_path / "bad"), out=str(out))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


BAD_ROWS: dict[str, tuple[tuple[str, Row], ...]] = {
    "null_keys": (("performance", {"day": None}), ("behavior", {"advertiser_id": None})),
    "dates_out_of_range": (("performance", {"day": BEFORE}), ("performance", {"day": AFTER})),
    "unknown_scenarios": tuple(("orders", {"channel": "ghost"}) for _ in range(3)),
    "negative_labels": (("performance", {"clicks": -5}),),
}


def test_drops_by_policy_are_counted_and_leave_what_is_good(spark: SparkSession, tmp_path: Path, world: World) -> None:
    bad = world
    for rows in BAD_ROWS.values():
        for table, changes in rows:
            key = unused(world) if "clicks" in changes else {}
            bad = with_rows(bad, table, key | changes)
    config = make_config(SHAPE, split=SPARSE, checks=dict.fromkeys(BAD_ROWS, "drop"))
    good = build_dataset(spark, world.config, raw=world.write(tmp_path / "good"), out=str(tmp_path / "a"))
    found = build_dataset(spark, config, raw=bad.write(tmp_path / "bad"), out=str(tmp_path / "b"))
    assert {check: n for check, n in found.content["dropped"].items() if n} == {c: len(r) for c, r in BAD_ROWS.items()}
    assert not any(good.content["dropped"].values())
    rows = read_rows(tmp_path / "b", found)
    assert sorted_rows_hash(rows) == sorted_rows_hash(read_rows(tmp_path / "a", good))


def test_a_dropped_duplicate_is_counted(spark: SparkSession, tmp_path: Path, world: World) -> None:
    """Two rows of one key: one goes, and which one does not depend on the order of the files."""
    first = world.tables["performance"][0]
    doubled = with_rows(world, "performance", {"clicks": first["clicks"] + 1})
    config = make_config(SHAPE, split=SPARSE, checks={"duplicate_keys": "drop"})
    one = build_dataset(spark, config, raw=doubled.write(tmp_path / "x"), out=str(tmp_path / "a"))
    doubled.tables["performance"].reverse()
    two = build_dataset(spark, config, raw=doubled.write(tmp_path / "y"), out=str(tmp_path / "b"))
    assert one.content["dropped"]["duplicate_keys"] == two.content["dropped"]["duplicate_keys"] == 1
    hashes = [sorted_rows_hash(read_rows(tmp_path / f, m)) for f, m in (("a", one), ("b", two))]
    assert hashes[0] == hashes[1]
