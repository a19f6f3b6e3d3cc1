"""How facts pass the shuffle: once for daily tables, and a large advertiser's events reduced before it."""

import datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from etl.config import RawConfig
from etl.facts import Source, Value, fact_rows

pytestmark = pytest.mark.spark
SHARDS = 3
DAYS = 5
EVENTS = 20_000


def rows_of(spark: SparkSession, table: DataFrame, kind: str, by_scenario: bool = True) -> DataFrame:
    time = "day" if kind == "daily" else "at"
    raw = RawConfig.model_validate(
        {
            "first_day": datetime.date(2024, 1, 1),
            "last_day": datetime.date(2024, 1, DAYS),
            "facts": {"performance": {"kind": kind, "time": time}},
        }
    )
    profile = spark.createDataFrame([("a", datetime.date(2024, 1, 1))], "advertiser_id string, day date")
    source = Source("performance", by_scenario, (Value("sum(clicks)"), Value("max(clicks)")))
    table = table.selectExpr("*", "0 as _problem")
    return fact_rows({"performance": table}, profile, [source], [], ["s", "t"], raw, shards=SHARDS)


def facts_of(spark: SparkSession, days: str = "id % 5") -> DataFrame:
    """Events of which a large advertiser has nine in ten, in two input partitions."""
    day = f"date_add(date'2024-01-01', cast({days} as int)) as day"
    advertiser = "if(id % 10 = 0, concat('small', id % 100), 'large') as advertiser_id"
    return spark.range(0, EVENTS, 1, 2).selectExpr(advertiser, "'s' as scenario_id", day, "id as clicks")


def exchanges(frame: DataFrame) -> list[Any]:
    """The shuffles of an executed plan."""
    frame.collect()  # fills the metrics of this very frame's plan
    plan: Any = frame._jdf.queryExecution().executedPlan()
    found, pending = [], [plan]
    while pending:
        node = pending.pop()
        name = node.getClass().getSimpleName()
        if name == "ShuffleExchangeExec":
            found.append(node)
        pending += [node.executedPlan()] if name == "AdaptiveSparkPlanExec" else []
        pending += [node.plan()] if name.endswith("QueryStageExec") else []
        children = node.children()
        pending += [children.apply(index) for index in range(children.length())]
    return found


def records_written(exchange: Any) -> int:
    return int(exchange.metrics().apply("shuffleRecordsWritten").value())


def test_daily_facts_pass_one_shuffle(spark: SparkSession) -> None:
    found = exchanges(rows_of(spark, facts_of(spark), "daily"))
    assert len(found) == 2, "one of the profile, one of the facts"
    assert sorted(map(records_written, found)) == [1, EVENTS]


def test_a_large_advertisers_events_are_reduced_before_their_shuffle(spark: SparkSession) -> None:
    found = exchanges(rows_of(spark, facts_of(spark), "events"))
    advertisers, input_partitions = 11, 2
    profile, daily, partial = sorted(map(records_written, found))
    assert profile == 1
    assert daily <= advertisers * DAYS
    assert partial <= advertisers * DAYS * input_partitions, "not one record per event"


@pytest.mark.parametrize("by_scenario", [True, False])
def test_doubles_of_a_daily_table_are_counted(spark: SparkSession, by_scenario: bool) -> None:
    day = datetime.date(2024, 1, 2)
    keys = [("a", "s", day), ("a", "s", day), ("a", "s", day), ("a", "t", day), ("a", None, day), ("a", None, day)]
    table = spark.createDataFrame(
        [(*key, 1) for key in keys], "advertiser_id string, scenario_id string, day date, clicks int"
    )
    rows = rows_of(spark, table, "daily", by_scenario).where("source = 0")
    assert sum(row["rows"] - row["keys"] for row in rows.collect()) == 3


def test_every_row_of_an_advertiser_comes_to_one_task(spark: SparkSession) -> None:
    profile_and_facts = rows_of(spark, facts_of(spark).replace({"large": "a"}, subset="advertiser_id"), "daily")
    assert profile_and_facts.rdd.getNumPartitions() == SHARDS
    tasks = profile_and_facts.selectExpr("advertiser_id", "source", "spark_partition_id() as task").distinct().collect()
    assert {row["source"] for row in tasks if row["advertiser_id"] == "a"} == {-1, 0}
    assert len({row["task"] for row in tasks if row["advertiser_id"] == "a"}) == 1
