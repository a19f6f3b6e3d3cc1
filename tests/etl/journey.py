"""Small hand-made packages of The Complete Journey."""

import datetime
from collections.abc import Iterable

from pyspark.sql import DataFrame, SparkSession

from etl.sources.complete_journey import SOURCES
from etl.sources.complete_journey_facts import known_products, levers, sales_lines

SCHEMAS = {
    "transactions": "household_id long, store_id long, basket_id long, product_id long, quantity long, "
    "sales_value double, retail_disc double, coupon_disc double, coupon_match_disc double, week long, "
    "transaction_timestamp timestamp",
    "products": "product_id long, manufacturer_id long, department string, brand string",
    "promotions": "product_id long, store_id long, display_location string, mailer_location string, week long",
    "campaigns": "campaign_id long, household_id long",
    "campaign_descriptions": "campaign_id long, start_date date, end_date date",
    "coupons": "coupon_upc long, product_id long, campaign_id long",
}
PRODUCTS = [
    (1, 10, "GROCERY", "National"),
    (2, 10, "DELI", "Private"),
    (3, 20, "GROCERY", "National"),
    (8, 30, "FUEL", "National"),
    (9, 30, "MISCELLANEOUS", "National"),
]
UNKNOWN = 777


def package(spark: SparkSession, **rows: Iterable[tuple[object, ...]]) -> dict[str, DataFrame]:
    return {name: spark.createDataFrame(list(rows.get(name, [])), SCHEMAS[name]) for name in SOURCES}


def line(
    product: int,
    *,
    at: str = "2017-01-10T17:00:00",
    store: int = 5,
    week: int = 3,
    basket: int = 1,
    sales: float = 2.0,
    quantity: int = 1,
    discounts: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[object, ...]:
    """A transaction line; ``at`` in UTC, ``discounts``: retail, coupon, coupon match."""
    time = datetime.datetime.fromisoformat(at).replace(tzinfo=datetime.UTC)
    return (100, store, basket, product, quantity, sales, *discounts, week, time)


def lines_of(tables: dict[str, DataFrame]) -> DataFrame:
    return sales_lines(tables["transactions"], known_products(tables["products"]), levers(tables["promotions"]))


def date(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)
