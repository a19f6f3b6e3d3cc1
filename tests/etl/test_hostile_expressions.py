"""Expressions that are more than expressions, from a config or from a spec that came with a dataset."""

import datetime

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from etl.checks import Findings
from etl.frozen import check_frozen_expressions
from etl.raw import RawFrames
from etl.sql import check_expression
from m2m_model.contracts.errors import UserError
from tests.etl.specs import small_spec

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
@pytest.mark.parametrize("part", ["performance", "tasks", "profile", "scenario_attributes"])
def test_expressions_of_a_spec_are_checked_before_they_are_used(spark: SparkSession, part: str, expr: str) -> None:
    day = datetime.date(2017, 3, 1)
    facts = spark.createDataFrame([("a", "feed", day, 1)], "advertiser_id string, scenario_id string, day date, x int")
    columns = {"clicks": F.col("x"), "tier": F.lit("a"), "spend": F.col("x")}
    tables = RawFrames({"performance": facts.withColumns(columns)}, facts, facts, ("feed",), Findings())
    spec = small_spec()
    hostile = [feature.model_copy(update={"expr": expr}) for feature in getattr(spec, part)]
    with pytest.raises(UserError, match="of the spec: expression"):
        check_frozen_expressions(spec.model_copy(update={part: tuple(hostile)}), tables)
