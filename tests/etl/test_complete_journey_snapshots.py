"""Traps of The Complete Journey's dated snapshots, each on small hand-made inputs."""

from decimal import Decimal

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from etl.sources.complete_journey_facts import known_products
from etl.sources.complete_journey_snapshots import daily_sales, profile_snapshots, scenario_snapshots
from tests.etl.journey import PRODUCTS, date, line, lines_of, package


def snapshots(tables: dict[str, DataFrame]) -> tuple[DataFrame, DataFrame]:
    performance = lines_of(tables)
    sales = daily_sales(performance)
    return profile_snapshots(performance, sales, known_products(tables["products"])), scenario_snapshots(sales)


def until(frame: DataFrame, day: str) -> list[Row]:
    """Rows of snapshots up to ``day``, in an order of their own."""
    return sorted(frame.where(F.col("day") <= F.lit(date(day))).collect(), key=str)


@pytest.mark.spark
def test_a_profile_knows_only_products_sold_by_its_day(spark: SparkSession) -> None:
    # In New York the second line is of the last second of Saturday 2017-01-21, the third of the first of Sunday.
    sold = [
        line(1, at="2017-01-10T17:00:00"),
        line(1, at="2017-01-22T04:59:59", sales=3.5),
        line(2, at="2017-01-22T05:00:00", sales=7.25),
    ]
    profile, _ = snapshots(package(spark, products=PRODUCTS, transactions=sold))
    rows = {str(row.day): row for row in profile.collect()}
    assert min(rows) == "2017-01-14"
    assert rows["2017-01-21"] == Row(
        advertiser_id="10",
        day=date("2017-01-21"),
        products=1,
        main_department="GROCERY",
        departments=1,
        private_label_share=0.0,
        size=Decimal("5.50"),
    )
    later = rows["2017-01-28"]
    # One product each: the tie of departments goes to the first in the alphabet.
    assert (later.products, later.main_department, later.departments) == (2, "DELI", 2)
    assert (later.private_label_share, later.size) == (0.5, Decimal("12.75"))
    assert rows["2017-12-30"].size == 0


@pytest.mark.spark
def test_size_is_of_the_trailing_40_days(spark: SparkSession) -> None:
    profile, _ = snapshots(package(spark, products=PRODUCTS, transactions=[line(1, at="2017-01-20T17:00:00")]))
    sizes = {str(row.day): row.size for row in profile.collect()}
    # The 40 days of 2017-02-25 begin on 2017-01-17, those of 2017-03-04 on 2017-01-24.
    assert (sizes["2017-02-25"], sizes["2017-03-04"]) == (Decimal("2.00"), Decimal("0.00"))


@pytest.mark.spark
def test_channel_attributes_are_of_the_trailing_28_days(spark: SparkSession) -> None:
    # On 2017-02-25 the last 28 days begin on 2017-01-29, those before on 2017-01-01, the first day of the data.
    sold = [
        line(1, at="2017-01-01T17:00:00", sales=4.0),
        line(1, at="2017-01-29T17:00:00", sales=5.0, discounts=(1.0, 0.0, 0.0)),
        line(3, at="2017-02-25T17:00:00", sales=1.0),
        line(3, at="2017-02-25T17:00:00", sales=2.0, discounts=(0.0, 0.5, 0.0)),
    ]
    _, scenarios = snapshots(package(spark, products=PRODUCTS, transactions=sold))
    rows = {(row.scenario_id, str(row.day)): row for row in scenarios.collect()}
    assert rows["shelf", "2017-02-25"] == Row(
        scenario_id="shelf",
        day=date("2017-02-25"),
        uses_display=False,
        uses_mailer=False,
        uses_coupon=False,
        active_advertisers=2,
        sales=Decimal("6.00"),
        sales_share=0.75,
        discount_rate=1 / 6,
        growth=1.5,
    )
    idle = rows["display_mailer", "2017-02-25"]
    assert (idle.uses_display, idle.uses_mailer, idle.active_advertisers, idle.sales) == (True, True, 0, 0)
    assert (idle.discount_rate, idle.growth) == (None, None)
    # A week earlier the 28 days before lie partly outside the data: no growth, however large it looks.
    assert rows["shelf", "2017-02-18"].growth is None


@pytest.mark.spark
def test_snapshots_do_not_move_when_the_future_does(spark: SparkSession) -> None:
    past = [line(1, at="2017-02-10T17:00:00"), line(3, at="2017-03-18T17:00:00", discounts=(0.0, 1.0, 0.0))]
    future = [line(2, at="2017-03-19T17:00:00", sales=900.0), line(3, at="2017-03-19T17:00:00", sales=50.0)]
    before = snapshots(package(spark, products=PRODUCTS, transactions=past))
    after = snapshots(package(spark, products=PRODUCTS, transactions=past + future))
    for one, other in zip(before, after, strict=True):
        assert until(one, "2017-03-18") == until(other, "2017-03-18")
        assert until(one, "2017-03-25") != until(other, "2017-03-25")
