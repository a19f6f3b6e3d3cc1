"""Every column of every raw table missing, renamed, and of every wrong type: refused before any row is read.

A type is harmless where the declared expressions mean the same with it, such as a bigint summed instead of an int, or
where only a row can tell, such as a word that is no number.
"""

import re

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.config import EtlConfig
from etl.expressions import aggregate_type, check_scalar
from etl.failures import spark_failures
from etl.tables import read_facts, read_snapshots
from m2m_model.contracts.errors import UserError
from tests.etl.raw_world import Shape, make_config

pytestmark = pytest.mark.spark

SCHEMAS = {
    "behavior": "advertiser_id string, happened timestamp, arrived_at timestamp, scenario_id string, event string, "
    "amount decimal(12,2), item string",
    "performance": "advertiser_id string, day date, landed timestamp, scenario_id string, clicks bigint, views int, "
    "spend decimal(12,4), quality int",
    "orders": "seller string, ordered_at timestamp, arrived_at timestamp, channel string, gmv decimal(10,2)",
    "profile": "advertiser_id string, day date, industry string, tier int, wallet decimal(10,2)",
    "scenarios": "day date, scenario_id string, medium string, traffic bigint",
}
COLUMNS = [(name, part.split()[0]) for name, schema in SCHEMAS.items() for part in schema.split(", ")]
TYPES = (
    "string",
    "int",
    "bigint",
    "decimal(12,2)",
    "double",
    "boolean",
    "date",
    "timestamp",
    "timestamp_ntz",
    "binary",
)
TYPES += ("array<int>", "struct<a:int>", "map<string,int>", "void")

EXACT = {"int", "bigint", "decimal(12,2)"}
NUMBERS = EXACT | {"double"}
IDS = {"string", "int", "bigint"}
"""That all tables have ids of the same kind is checked once all are read."""
WORDS = NUMBERS | {"string", "boolean", "date"}
HARMLESS = {
    ("behavior", "advertiser_id"): IDS,
    ("behavior", "happened"): {"timestamp"},
    ("behavior", "arrived_at"): {"timestamp"},
    ("behavior", "scenario_id"): {"string"},
    ("behavior", "event"): {"string", "binary", "void"},
    ("behavior", "amount"): EXACT,
    ("behavior", "item"): set(TYPES),
    ("performance", "advertiser_id"): IDS,
    ("performance", "day"): {"date"},
    ("performance", "landed"): {"timestamp"},
    ("performance", "scenario_id"): {"string"},
    ("performance", "clicks"): EXACT,
    ("performance", "views"): EXACT,
    ("performance", "spend"): EXACT,
    ("performance", "quality"): NUMBERS | {"boolean"},
    ("orders", "seller"): IDS,
    ("orders", "ordered_at"): {"timestamp"},
    ("orders", "arrived_at"): {"timestamp"},
    ("orders", "channel"): {"string"},
    ("orders", "gmv"): EXACT,
    ("profile", "advertiser_id"): IDS,
    ("profile", "day"): {"date"},
    ("profile", "industry"): WORDS,
    ("profile", "tier"): WORDS,
    ("profile", "wallet"): NUMBERS | {"string", "void"},
    ("scenarios", "scenario_id"): {"string"},
    ("scenarios", "day"): {"date"},
    ("scenarios", "medium"): WORDS,
    ("scenarios", "traffic"): NUMBERS | {"boolean"},
}


@pytest.fixture(scope="module")
def config() -> EtlConfig:
    """The world's config, over temporary views instead of folders."""
    raw = make_config(Shape()).model_dump()["raw"]
    for name, table in (*raw["facts"].items(), ("profile", raw["profile"]), ("scenarios", raw["scenarios"])):
        table["path"] = f"table:{name}"
    return make_config(Shape(), raw=raw)


def check(spark: SparkSession, config: EtlConfig, table: str, schema: str, column: str) -> None:
    """What a build checks of an empty ``table`` before it reads rows, as far as ``column`` plays a part in it.

    The few expressions are also run: Spark sees only then that it cannot compare a word with a number.
    """
    spark.createDataFrame([], schema).createOrReplaceTempView(table)
    if table in config.raw.facts:
        frame = read_facts(spark, config.raw, table, root="", as_known_at=None)
        for expr in _expressions(config, table, column):
            aggregate_type(frame, expr, owner=table)
            _run(frame.groupBy("advertiser_id").agg(F.expr(expr).alias("value")))
        return
    snapshots = {"profile": config.raw.profile, "scenarios": config.raw.scenarios}
    frame = read_snapshots(spark, snapshots[table], table, root="").withColumn("as_of", F.col("day"))
    attributes = config.features.profile if table == "profile" else config.features.scenario
    for attribute in attributes.values():
        if re.search(rf"\b{column}\b", attribute.expr):
            check_scalar(frame, attribute.expr, kind=attribute.kind, owner=table)


def _expressions(config: EtlConfig, table: str, column: str) -> list[str]:
    features = [(f.table or "behavior", f.expr) for f in config.features.behavior.values()]
    features += [(f.table or "performance", f.expr) for f in config.features.performance.values()]
    features += [(task.table, task.expr) for task in config.tasks.values()]
    features.append((config.population.table, config.population.activity))
    return sorted({expr for owner, expr in features if owner == table and re.search(rf"\b{column}\b", expr)})


def _run(frame: DataFrame) -> None:
    with spark_failures():
        frame.collect()


def with_type(table: str, column: str, kind: str | None) -> str:
    """The table's schema with one column of another type, or (None) renamed."""
    parts = []
    for part in SCHEMAS[table].split(", "):
        name, own = part.split()
        changed = f"{name} {kind}" if kind else f"{name}_ {own}"
        parts.append(changed if name == column else part)
    return ", ".join(parts)


@pytest.mark.parametrize("table", SCHEMAS)
def test_undamaged_tables_pass(spark: SparkSession, config: EtlConfig, table: str) -> None:
    for _, column in (pair for pair in COLUMNS if pair[0] == table):
        check(spark, config, table, SCHEMAS[table], column)


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_renamed_columns(spark: SparkSession, config: EtlConfig, table: str, column: str) -> None:
    with pytest.raises(UserError, match=table) as caught:
        check(spark, config, table, with_type(table, column, None), column)
    assert column in str(caught.value)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_types(spark: SparkSession, config: EtlConfig, table: str, column: str, kind: str) -> None:
    schema = with_type(table, column, kind)
    if kind in HARMLESS[table, column]:
        check(spark, config, table, schema, column)
        return
    with pytest.raises(UserError) as caught:
        check(spark, config, table, schema, column)
    assert "\n" not in str(caught.value)
