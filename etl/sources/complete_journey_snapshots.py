"""The Complete Journey's dated snapshots: advertiser profiles and channel attributes.

A snapshot is computed from sales up to and with its day, from exact sums, so that reruns agree to the last bit.
"""

import datetime

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.sources.complete_journey_facts import CHANNELS, FIRST_DAY, LAST_DAY, local_day

SNAPSHOT_EVERY_DAYS = 7
SIZE_DAYS, TREND_DAYS = 40, 28


def daily_sales(performance: DataFrame) -> DataFrame:
    """Sales and discount per advertiser, channel and local day."""
    return (
        performance.withColumn("day", local_day())
        .groupBy("advertiser_id", "scenario_id", "day")
        .agg(F.sum("sales_value").alias("sales"), F.sum("discount").alias("discount"))
    )


def snapshot_days(spark: SparkSession) -> DataFrame:
    """The days of profile and scenario snapshots: weekly, from the end of the first week."""
    first = FIRST_DAY + datetime.timedelta(days=SNAPSHOT_EVERY_DAYS - 1)
    count = (LAST_DAY - first).days // SNAPSHOT_EVERY_DAYS + 1
    days = [(first + datetime.timedelta(days=SNAPSHOT_EVERY_DAYS * step),) for step in range(count)]
    return spark.createDataFrame(days, "snapshot date")


def profile_snapshots(performance: DataFrame, sales: DataFrame, products: DataFrame) -> DataFrame:
    """Advertiser profiles from products sold by the snapshot day: the catalogue itself covers the whole year."""
    days = F.broadcast(snapshot_days(performance.sparkSession))
    sold = (
        performance.groupBy("advertiser_id", "product_id")
        .agg(F.min(local_day()).alias("first_sale"))
        .join(F.broadcast(products.drop("advertiser_id")), on="product_id", how="inner")
    )
    known = sold.join(days, F.col("first_sale") <= F.col("snapshot"), how="inner")
    by_department = known.groupBy("advertiser_id", "snapshot", "department").agg(
        F.count("*").alias("products"), F.count_if("is_private").alias("private")
    )
    profile = by_department.groupBy("advertiser_id", "snapshot").agg(
        F.sum("products").alias("products"),
        # Ties go to the first department in the alphabet.
        F.min_by("department", F.struct(-F.col("products"), F.col("department"))).alias("main_department"),
        F.count("*").alias("departments"),
        (F.sum("private").cast("double") / F.sum("products")).alias("private_label_share"),
    )
    recent = F.col("day").between(F.date_sub("snapshot", SIZE_DAYS - 1), F.col("snapshot"))
    size = sales.join(days, recent, how="inner").groupBy("advertiser_id", "snapshot").agg(F.sum("sales").alias("size"))
    return profile.join(size, on=["advertiser_id", "snapshot"], how="left").select(
        "advertiser_id",
        F.col("snapshot").alias("day"),
        "products",
        "main_department",
        "departments",
        "private_label_share",
        F.coalesce("size", F.lit(0)).cast("decimal(18,2)").alias("size"),
    )


def scenario_snapshots(sales: DataFrame) -> DataFrame:
    """Channel attributes: the levers it uses and its trailing 28 days, up to and with the snapshot day.

    Growth compares them with the 28 days before, and is null while the data does not reach back that far.
    """
    spark = sales.sparkSession
    channels = spark.createDataFrame([(name,) for name in CHANNELS], "scenario_id string")
    grid = F.broadcast(channels.crossJoin(snapshot_days(spark)))
    age = F.date_diff("snapshot", "day")
    recent, before = (age >= 0) & (age < TREND_DAYS), (age >= TREND_DAYS) & (age < 2 * TREND_DAYS)
    has_both_periods = F.date_sub("snapshot", 2 * TREND_DAYS - 1) >= F.lit(FIRST_DAY)
    totals = (
        grid.join(sales, on="scenario_id", how="left")
        .groupBy("scenario_id", "snapshot")
        .agg(
            F.count_distinct(F.when(recent, F.col("advertiser_id"))).alias("active_advertisers"),
            F.sum(F.when(recent, F.col("sales"))).alias("sales"),
            F.sum(F.when(recent, F.col("discount"))).alias("discount"),
            F.sum(F.when(before, F.col("sales"))).alias("sales_before"),
        )
    )
    all_channels = totals.groupBy("snapshot").agg(F.sum("sales").alias("all_sales"))
    return totals.join(all_channels, on="snapshot", how="inner").select(
        "scenario_id",
        F.col("snapshot").alias("day"),
        F.col("scenario_id").isin("display", "display_mailer").alias("uses_display"),
        F.col("scenario_id").isin("mailer", "display_mailer").alias("uses_mailer"),
        (F.col("scenario_id") == "coupon").alias("uses_coupon"),
        "active_advertisers",
        F.coalesce("sales", F.lit(0)).cast("decimal(18,2)").alias("sales"),
        _ratio("sales", "all_sales").alias("sales_share"),
        _ratio("discount", "sales").alias("discount_rate"),
        F.when(has_both_periods, _ratio("sales", "sales_before")).alias("growth"),
    )


def _ratio(numerator: str, denominator: str) -> Column:
    """A double ratio of exact sums, null where the denominator is null or zero."""
    return F.col(numerator).cast("double") / F.nullif(F.col(denominator).cast("double"), F.lit(0.0))
