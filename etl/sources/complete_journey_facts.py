"""The Complete Journey's sales lines and promotions as facts: performance events and daily behavior.

What is odd about the data, and how it is handled, is in ``docs/data_complete_journey.md``; each trap has a test.
"""

import datetime
import functools
import operator

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

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
