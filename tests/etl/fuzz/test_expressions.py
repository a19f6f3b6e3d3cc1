"""Damaged expressions, wherever a config holds one: refused by the name of their owner before any row is read."""

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.expressions import aggregate_type, check_scalar
from m2m_model.contracts.errors import UserError

pytestmark = pytest.mark.spark

NO_SQL = [
    "",
    "   ",
    "(((",
    "sum(clicks",
    "sum(clicks))",
    "sum(clicks),",
    "select sum(clicks)",
    "drop table performance",
    "clicks; drop table performance",
    "sum(clicks) from performance",
    "insert into performance values (1)",
    "sum(clicks) where true",
    "?",
    ":clicks",
    "${clicks}",
    "sum('",
    "lambda x: x",
    "import os",
    "\x00",
    "sum(cliks)",
    "summ(clicks)",
    "performance.clicks.total",
    "clicks[0]",
    "sum(clicks, views)",
    "clicks + interval 1 day",
]
"""Neither a parser nor a catalog knows them."""

CHANCE = [
    "rand()",
    "rand(7)",
    "randn()",
    "random()",
    "uuid()",
    "monotonically_increasing_id()",
    "spark_partition_id()",
    "input_file_name()",
    "input_file_block_start()",
    "shuffle(array(clicks, views))[0]",
    "java_method('java.lang.System', 'currentTimeMillis')",
    "reflect('java.util.UUID', 'randomUUID')",
    "current_date()",
    "current_timestamp()",
    "now()",
    "localtimestamp()",
    "current_time()",
    "unix_timestamp()",
    "current_user()",
    "current_database()",
    "current_timezone()",
    "version()",
    "_metadata.file_path",
    "_metadata.row_index",
]
"""Another result in every run, place or layout of files."""

OTHER_ROWS = [
    "(select max(clicks) from values (1) as t(clicks))",
    "clicks in (select 1)",
    "exists(select 1)",
    "sum(clicks) over (partition by day)",
    "lag(clicks) over (order by day)",
    "row_number() over (order by clicks)",
    "explode(array(clicks, views))",
    "posexplode(array(clicks))",
    "stack(2, clicks, views)",
    "inline(array(struct(clicks)))",
]
"""More rows than the expression is given, or as many rows as it likes."""

ANY_ORDER_MATTERS = [
    "first(clicks)",
    "last(clicks)",
    "any_value(clicks)",
    "size(collect_list(clicks))",
    "collect_set(clicks)[0]",
    "max_by(clicks, views)",
    "mode(clicks)",
    "approx_count_distinct(clicks)",
    "percentile_approx(clicks, 0.5)",
    "stddev(clicks)",
    "sum(price)",
    "avg(price)",
    "sum(price * 100)",
    "sum(distinct price)",
    "sum(cast(clicks as float))",
    "try_sum(price)",
    "corr(clicks, views)",
    "hash(listagg(word))",
]
"""Aggregates that depend on the order in which rows come."""

NO_NUMBER = [
    "max(word)",
    "max(day)",
    "collect_list(word)",
    "struct(count(*), 1)",
    "array(count(*))",
    "percentile(clicks, array(0.5))",
    "cast(count(*) as string)",
    "null",
    "map(1, count(*))",
    "cast(max(day) as timestamp)",
]

NO_AGGREGATE = ["clicks", "clicks + views", "*", "word = 'x'", "count(*) + clicks"]

NO_SCALAR = ["max(clicks)", "count(*)", "*", "sum(clicks) / 2"]

NO_WORD = ["struct(clicks, word)", "array(word)", "map(word, clicks)", "cast(word as binary)", "null", "interval 1 day"]

NO_BUCKET = [*NO_WORD, "word", "day", "cast(clicks as string)"]


def wrapped(expr: str) -> list[str]:
    """As it is, and hidden in an aggregate."""
    return [expr, f"count_if({expr} is not null)", f"1 + max(if({expr} is null, 0, 1))"]


AGGREGATES = [
    *NO_SQL,
    *(form for expr in (*CHANCE, *OTHER_ROWS) for form in wrapped(expr)),
    *ANY_ORDER_MATTERS,
    *NO_NUMBER,
    *NO_AGGREGATE,
]
SCALARS = [(kind, expr) for kind in ("bucket", "vocabulary") for expr in (*NO_SQL, *CHANCE, *OTHER_ROWS, *NO_SCALAR)]
SCALARS += [("bucket", expr) for expr in NO_BUCKET] + [("vocabulary", expr) for expr in NO_WORD]
GOOD_AGGREGATES = [
    "sum(clicks)",
    "count(*)",
    "count(distinct word)",
    "count_if(word = 'x')",
    "max(price)",
    "sum(clicks) filter (where word in ('a', 'b'))",
    "try_divide(sum(clicks), sum(views))",
    "sum(case when word rlike '^a' then clicks end)",
    "coalesce(avg(clicks), 0) -- a remark",
    "percentile(clicks, 0.5)",
    "bool_or(clicks > 3)",
    "sum(size(split(word, ' ')))",
    "sum(clicks) * 2 as doubled",
]
GOOD_SCALARS = [("bucket", "clicks * 2"), ("bucket", "price"), ("bucket", "clicks > 3"), ("vocabulary", "upper(word)")]
GOOD_SCALARS += [("vocabulary", "dayofweek(day)"), ("vocabulary", "clicks"), ("vocabulary", "trunc(day, 'month')")]


@pytest.fixture(scope="module")
def frame(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    path = str(tmp_path_factory.mktemp("frame") / "rows")
    schema = "advertiser_id string, day date, clicks bigint, views int, price double, word string"
    spark.createDataFrame([], schema).write.parquet(path)
    return spark.read.parquet(path).withColumn("day", F.col("day"))


@pytest.mark.parametrize("expr", AGGREGATES)
def test_aggregates(frame: DataFrame, expr: str) -> None:
    with pytest.raises(UserError, match=r"^features\.x: expression ") as caught:
        aggregate_type(frame, expr, owner="features.x")
    assert "\n" not in str(caught.value).replace(expr, "")


@pytest.mark.parametrize(("kind", "expr"), SCALARS)
def test_attributes(frame: DataFrame, kind: str, expr: str) -> None:
    with pytest.raises(UserError, match=r"^features\.x: expression ") as caught:
        check_scalar(frame, expr, kind=kind, owner="features.x")
    assert "\n" not in str(caught.value).replace(expr, "")


@pytest.mark.parametrize("expr", GOOD_AGGREGATES)
def test_good_aggregates_pass(frame: DataFrame, expr: str) -> None:
    aggregate_type(frame, expr, owner="features.x")


@pytest.mark.parametrize(("kind", "expr"), GOOD_SCALARS)
def test_good_attributes_pass(frame: DataFrame, kind: str, expr: str) -> None:
    check_scalar(frame, expr, kind=kind, owner="features.x")
