"""The same dataset the naive way in PySpark: collect_list over a window of the last T days of every calendar day."""

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from benchmarks.etl.plain_spark import KEY, SEQUENCES, bucketized, fit_edges, read_facts, write
from benchmarks.etl.world import TASKS
from etl.config import EtlConfig
from etl.split import SPLITS, as_of_days


def build(spark: SparkSession, config: EtlConfig, raw: str, out: str) -> None:
    """Write ``out/split=<split>/dt=<day>/*.parquet``."""
    facts = read_facts(spark, config, raw)
    ids = bucketized(facts, fit_edges(facts, config))
    write(samples(dense(ids, config), config), config, out)


def dense(ids: DataFrame, config: EtlConfig) -> DataFrame:
    """A row for every pair and calendar day."""
    last = (config.raw.last_day - config.raw.first_day).days
    every_day = ids.select(*KEY).distinct().select("*", F.explode(F.sequence(F.lit(0), F.lit(last))).alias("day"))
    rows = every_day.join(ids, on=[*KEY, "day"], how="left")
    filled = {
        column: F.coalesce(F.col(column), F.array(*[F.lit(1).cast("tinyint")] * len(names)))
        for column, names in SEQUENCES.items()
    }
    nothing = F.array(*[F.lit(0).cast("bigint")] * (1 + len(TASKS)))
    return rows.withColumns(filled | {"sums": F.coalesce(F.col("sums"), nothing)})


def samples(rows: DataFrame, config: EtlConfig) -> DataFrame:
    """Windows of every day, of which the as-of days are kept."""
    by_pair = Window.partitionBy(*KEY).orderBy("day")
    past = by_pair.rowsBetween(1 - config.sequence.length, 0)
    ahead = by_pair.rowsBetween(1, config.sequence.horizon)
    days = as_of_days(config)
    first = config.raw.first_day
    as_of = F.create_map(
        *(item for split in SPLITS for day in days[split] for item in (F.lit((day - first).days), F.lit(split)))
    )

    def label(position: int) -> Column:
        return F.sum(F.col("sums")[position]).over(ahead).cast("double")

    windows = rows.select(
        *KEY,
        "day",
        *(F.flatten(F.collect_list(column).over(past)).alias(column) for column in SEQUENCES),
        F.sum(F.col("sums")[0]).over(past).alias("active"),
        *(label(1 + position).alias(f"label_{task}") for position, task in enumerate(TASKS)),
        as_of[F.col("day")].alias("split"),
        F.date_add(F.lit(first), F.col("day")).alias("dt"),
    )
    kept = windows.where(F.col("split").isNotNull() & (F.col("active") >= config.population.min_active_days))
    return kept.withColumn("as_of", F.col("dt")).drop("day", "active")
