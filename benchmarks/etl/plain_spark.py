"""The same dataset in plain PySpark: a day -> ids map per pair, a calendar by transform, a slice per as-of day."""

import datetime
from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.etl.world import BEHAVIOR, PERFORMANCE, TASKS
from etl.config import EtlConfig
from etl.discretize import quantile_edges
from etl.split import SPLITS, as_of_days

KEY = ("advertiser_id", "scenario_id")
SEQUENCES = {"behavior_ids": BEHAVIOR, "performance_ids": PERFORMANCE}
Edges = Mapping[str, list[float]]


def build(spark: SparkSession, config: EtlConfig, raw: str, out: str) -> None:
    """Write ``out/split=<split>/dt=<day>/*.parquet``."""
    facts = read_facts(spark, config, raw).persist()
    edges = fit_edges(facts, config)
    ids = bucketized(facts, edges)
    write(samples(per_pair(ids), config), config, out)


def read_facts(spark: SparkSession, config: EtlConfig, raw: str) -> DataFrame:
    """Daily facts, one row per key, days counted from the first."""
    day = F.date_diff(F.col("day"), F.lit(config.raw.first_day)).alias("day")
    sums = (F.sum(name).alias(name) for name in (*BEHAVIOR, *PERFORMANCE))
    return spark.read.parquet(f"{raw}/daily").groupBy(*KEY, day).agg(*sums)


def fit_edges(facts: DataFrame, config: EtlConfig) -> dict[str, list[float]]:
    """Exact quantile edges over non-zero values of training days, from value counts."""
    last = (as_of_days(config)["train"][-1] - config.raw.first_day).days
    features = {**config.features.behavior, **config.features.performance}
    values = F.array(*(F.col(name).cast("double") for name in features))
    counts = (
        facts.where(F.col("day") <= last)
        .select(F.posexplode(values).alias("position", "value"))
        .where("value != 0")
        .groupBy("position", "value")
        .count()
        .toArrow()
    )
    position, value, count = (counts[name].to_numpy() for name in ("position", "value", "count"))
    return {
        name: list(quantile_edges(value[position == index], count[position == index], feature.buckets))
        for index, (name, feature) in enumerate(features.items())
    }


def bucketized(facts: DataFrame, edges: Edges) -> DataFrame:
    """Facts with each sequence's ids of the day as one array, beside the tasks' values."""
    return facts.select(
        *KEY,
        "day",
        *(
            F.array(*(_bucket_id(name, edges[name]) for name in names)).alias(column)
            for column, names in SEQUENCES.items()
        ),
        F.array(F.lit(1).cast("bigint"), *(F.col(name).cast("bigint") for name in TASKS)).alias("sums"),
    )


def _bucket_id(name: str, edges: list[float]) -> Column:
    value = F.col(name).cast("double")
    buckets = F.when(value == 0.0, 1)
    for position, edge in enumerate(edges):
        buckets = buckets.when(value <= edge, 2 + position)
    return buckets.otherwise(2 + len(edges)).cast("tinyint")


def per_pair(ids: DataFrame) -> DataFrame:
    """One row per pair: its days as a map."""
    entry = F.struct("day", F.struct(*SEQUENCES, "sums"))
    return ids.groupBy(*KEY).agg(F.map_from_entries(F.collect_list(entry)).alias("days"))


def samples(pairs: DataFrame, config: EtlConfig) -> DataFrame:
    """A dense calendar per pair, cut at every as-of day."""
    days = as_of_days(config)
    last = (config.raw.last_day - config.raw.first_day).days
    calendar = F.transform(F.sequence(F.lit(0), F.lit(last)), lambda day: F.col("days")[day])
    as_of = F.array(
        *(
            F.struct(F.lit(split).alias("split"), F.lit(day).alias("as_of"), F.lit(_number(day, config)).alias("end"))
            for split in SPLITS
            for day in days[split]
        )
    )
    length, horizon = config.sequence.length, config.sequence.horizon
    window = F.slice("calendar", F.col("at.end") - length + 1, length)
    ahead = F.slice("calendar", F.col("at.end") + 1, horizon)
    active = F.size(F.filter(window, lambda day: day.isNotNull()))
    cut = (
        pairs.select(*KEY, calendar.alias("calendar"))
        .select("*", F.explode(as_of).alias("at"))
        .where(active >= config.population.min_active_days)
    )
    return cut.select(
        *KEY,
        F.col("at.as_of").alias("as_of"),
        *(_sequence(window, column, len(names)).alias(column) for column, names in SEQUENCES.items()),
        *(_total(ahead, 1 + position).alias(f"label_{task}") for position, task in enumerate(TASKS)),
        F.col("at.split").alias("split"),
        F.col("at.as_of").alias("dt"),
    )


def _number(day: datetime.date, config: EtlConfig) -> int:
    """The day's position in the calendar, counted from 1 as slices do."""
    return (day - config.raw.first_day).days + 1


def _sequence(window: Column, column: str, width: int) -> Column:
    zeros = F.array(*[F.lit(1).cast("tinyint")] * width)
    return F.flatten(F.transform(window, lambda day: F.coalesce(day[column], zeros)))


def _total(ahead: Column, position: int) -> Column:
    start = F.lit(0).cast("bigint")
    return F.aggregate(
        ahead, start, lambda total, day: total + F.coalesce(day["sums"][position], F.lit(0)), lambda x: x.cast("double")
    )


def write(rows: DataFrame, config: EtlConfig, out: str) -> None:
    """As many files per as-of day, the codec and the rows per row group as the real build has."""
    rows.repartition(config.dataset.shards, *KEY).write.partitionBy("split", "dt").option(
        "compression", config.dataset.compression
    ).option("parquet.block.row.count.limit", config.dataset.row_group_rows).parquet(out)
