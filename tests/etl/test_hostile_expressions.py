"""Expressions that are more than expressions, from a config or from a spec that came with a dataset."""

import datetime

import pytest
from pyspark.sql import SparkSession

from etl.attributes import AttributeTable
from etl.config import RawConfig
from etl.facts import Source, Value, fact_rows, profile_rows
from etl.sql import check_expression
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import VocabularyFeature

pytestmark = pytest.mark.spark

REFUSED = {
    "a statement": "drop table facts",
    "a second statement": "sum(clicks); drop table facts",
    "a query": "(select max(clicks) from parquet.`/etc`)",
    "a query inside": "sum(clicks) + (select count(*) from secrets)",
    "exists": "sum(if(exists(select 1), 1, 0))",
    "in a query": "count_if(clicks in (select clicks from other))",
    "reflect": "sum(cast(reflect('java.lang.System', 'getenv', 'HOME') as int))",
    "java_method": "java_method('java.lang.Runtime', 'getRuntime')",
    "try_reflect": "max(try_reflect('java.lang.System', 'exit', 1))",
    "in upper case": "REFLECT('java.lang.System', 'getenv', 'HOME')",
    "in quotes": "`reflect`('java.lang.System', 'getenv', 'HOME')",
    "qualified": "system.builtin.reflect('java.lang.System', 'getenv', 'HOME')",
    "a computed name": "identifier('ref' || 'lect')('java.lang.System', 'getenv', 'HOME')",
    "inside a lambda": "transform(array(1), x -> reflect('java.lang.System', 'getenv', 'HOME'))",
    "nothing": "",
    "a comment": "-- nothing",
}


@pytest.mark.parametrize("case", REFUSED)
def test_more_than_an_expression_is_refused(spark: SparkSession, case: str) -> None:
    with pytest.raises(UserError, match=r"features\.performance\.x: expression"):
        check_expression(REFUSED[case], owner="features.performance.x")


@pytest.mark.parametrize("expr", ["count_if(event = 'bid; drop table x')", "sum(cast(spend * 100 as bigint))"])
def test_what_is_one_passes(spark: SparkSession, expr: str) -> None:
    check_expression(expr, owner="features.performance.x")


@pytest.mark.parametrize("expr", [REFUSED["a query inside"], REFUSED["reflect"]])
def test_expressions_of_a_spec_are_checked_where_they_are_used(spark: SparkSession, expr: str) -> None:
    day = datetime.date(2017, 3, 1)
    raw = RawConfig(first_day=day, last_day=day, facts={})
    schema = "advertiser_id string, scenario_id string, day date, clicks int"
    frame = spark.createDataFrame([("a", "feed", day, 1)], schema)
    feature = VocabularyFeature(name="x", expr=expr, values=())
    with pytest.raises(UserError, match="raw table 'performance': expression"):
        fact_rows({"performance": frame}, [Source("performance", True, (Value(expr),))], ["feed"], raw)
    with pytest.raises(UserError, match=r"features\.profile\.x: expression"):
        profile_rows(frame, [feature], raw)
    with pytest.raises(UserError, match=r"features\.scenario\.x: expression"):
        AttributeTable(frame, [feature], [day])
