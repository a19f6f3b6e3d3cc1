"""Traps of The Complete Journey's facts, each on small hand-made inputs."""

import datetime
from decimal import Decimal

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from etl.sources.complete_journey import left_out, raw_tables
from etl.sources.complete_journey_facts import coupon_days, known_products, levers, local_day, money, promotion_days
from tests.etl.journey import PRODUCTS, UNKNOWN, date, line, lines_of, package


@pytest.mark.spark
@pytest.mark.parametrize(
    ("display", "mailer", "expected"),
    [
        ("0", "0", "shelf"),
        ("1", "0", "display"),
        ("A", "0", "display"),
        ("0", "A", "mailer"),
        ("0", "D", "mailer"),
        ("3", "H", "display_mailer"),
        (None, "D", "mailer"),
    ],
)
def test_channel_of_promotion_codes(spark: SparkSession, display: str | None, mailer: str, expected: str) -> None:
    tables = package(spark, products=PRODUCTS, transactions=[line(1)], promotions=[(1, 5, display, mailer, 3)])
    assert [row.scenario_id for row in lines_of(tables).collect()] == [expected]


@pytest.mark.spark
def test_channel_is_that_of_the_lines_own_product_store_and_week(spark: SparkSession) -> None:
    other = [(3, 5, "1", "D", 3), (1, 6, "1", "D", 3), (1, 5, "1", "D", 4)]
    tables = package(spark, products=PRODUCTS, transactions=[line(1)], promotions=other)
    assert [row.scenario_id for row in lines_of(tables).collect()] == ["shelf"]


@pytest.mark.spark
@pytest.mark.parametrize("discounts", [(0.0, 0.5, 0.0), (0.0, 0.0, 0.25), (1.0, 0.5, 0.25)])
def test_a_coupon_wins_over_promotions(spark: SparkSession, discounts: tuple[float, float, float]) -> None:
    tables = package(
        spark, products=PRODUCTS, transactions=[line(1, discounts=discounts)], promotions=[(1, 5, "1", "D", 3)]
    )
    [row] = lines_of(tables).collect()
    assert (row.scenario_id, row.discount) == ("coupon", Decimal(str(sum(discounts))))


@pytest.mark.spark
def test_duplicated_promotion_keys_give_one_line_with_all_levers(spark: SparkSession) -> None:
    twice = [(1, 5, "0", "D", 3), (1, 5, "3", "0", 3)]
    tables = package(spark, products=PRODUCTS, transactions=[line(1)], promotions=twice)
    [row] = lines_of(tables).collect()
    assert (row.scenario_id, row.sales_value) == ("display_mailer", Decimal("2.00"))
    [facing] = levers(tables["promotions"]).collect()
    assert all([facing.on_display, facing.in_mailer, facing.front_page, facing.end_cap])


@pytest.mark.spark
def test_nonsense_departments_and_unknown_products_are_left_out_and_counted(spark: SparkSession) -> None:
    sold = [line(1), line(8, quantity=89_638), line(9, quantity=36_140), line(9), line(UNKNOWN)]
    promotions = [(1, 5, "1", "0", 3), (1, 5, "0", "D", 3), (8, 5, "1", "0", 3), (UNKNOWN, 5, "1", "0", 3)]
    coupons = [(55, 1, 7), (56, 9, 7), (57, UNKNOWN, 7)]
    tables = package(spark, products=PRODUCTS, transactions=sold, promotions=promotions, coupons=coupons)
    assert [row.product_id for row in lines_of(tables).collect()] == [1]
    facings = levers(tables["promotions"])
    behavior = raw_tables(tables, facings)["behavior"]
    assert {row.advertiser_id for row in behavior.collect()} == {"10"}
    assert list(left_out(tables, facings).values()) == [1, 1, 2, 1, 2, 2]


@pytest.mark.spark
def test_money_is_exact_to_the_cent(spark: SparkSession) -> None:
    cents = spark.range(100_000).select("id", (F.col("id") / F.lit(100.0)).alias("dollars"))
    exact = cents.select("id", money("dollars").alias("money"))
    assert exact.schema["money"].dataType.simpleString() == "decimal(18,2)"
    assert exact.where(F.col("money") * 100 != F.col("id")).count() == 0
    tables = package(spark, products=PRODUCTS, transactions=[line(1, sales=4.35, discounts=(0.1, 0.2, 0.29))])
    [row] = lines_of(tables).collect()
    assert (row.sales_value, row.discount) == (Decimal("4.35"), Decimal("0.59"))


@pytest.mark.spark
@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2017-01-02T04:59:59", "2017-01-01"),
        ("2017-01-02T05:00:00", "2017-01-02"),
        ("2017-07-02T03:59:59", "2017-07-01"),
        ("2017-07-02T04:00:00", "2017-07-02"),
        ("2018-01-01T04:01:20", "2017-12-31"),
    ],
)
def test_a_day_is_a_day_in_new_york(spark: SparkSession, at: str, expected: str) -> None:
    tables = package(spark, products=PRODUCTS, transactions=[line(1, at=at)])
    [row] = lines_of(tables).select(local_day().alias("day")).collect()
    assert row.day == date(expected)


@pytest.mark.spark
def test_promotion_weeks_lie_on_their_days_monday_to_sunday(spark: SparkSession) -> None:
    promotions = [(1, 5, "1", "0", week) for week in (1, 3, 53)]
    tables = package(spark, products=PRODUCTS, promotions=promotions)
    days = promotion_days(levers(tables["promotions"]), known_products(tables["products"])).collect()
    # Of week 1 only its Sunday is in 2017.
    expected = [date("2017-01-01")]
    expected += [date("2017-01-09") + datetime.timedelta(days=i) for i in range(7)]
    expected += [date("2017-12-25") + datetime.timedelta(days=i) for i in range(7)]
    assert sorted(row.day for row in days) == expected


@pytest.mark.spark
def test_facings_are_products_in_stores_per_channel(spark: SparkSession) -> None:
    promotions = [
        (1, 5, "3", "0", 3),
        (1, 6, "7", "0", 3),
        (2, 5, "4", "0", 3),
        (2, 6, "0", "D", 3),
        (1, 7, "0", "0", 3),
        (3, 5, "1", "Z", 3),
    ]
    tables = package(spark, products=PRODUCTS, promotions=promotions)
    rows = promotion_days(levers(tables["promotions"]), known_products(tables["products"]))
    monday = {(row.advertiser_id, row.scenario_id): row for row in rows.where("day = '2017-01-09'").collect()}
    counts = ("facings", "products", "mailer_facings", "display_facings", "front_page_facings", "end_cap_facings")
    assert {key: [row[name] for name in counts] for key, row in monday.items()} == {
        ("10", "display"): [3, 2, 0, 3, 0, 2],
        ("10", "mailer"): [1, 1, 1, 0, 1, 0],
        ("20", "display_mailer"): [1, 1, 1, 1, 1, 0],
    }


@pytest.mark.spark
def test_coupons_count_on_the_days_of_running_campaigns_within_the_year(spark: SparkSession) -> None:
    tables = package(
        spark,
        products=PRODUCTS,
        # Coupon 55 runs in both campaigns and on two products: it is one coupon.
        coupons=[(55, 1, 7), (55, 2, 7), (56, 2, 7), (55, 1, 8), (57, 3, 8)],
        campaigns=[(7, 100), (7, 101), (8, 100)],
        campaign_descriptions=[
            (7, date("2016-11-14"), date("2017-01-02")),
            (8, date("2017-01-02"), date("2017-01-03")),
        ],
    )
    rows = coupon_days(
        tables["coupons"], tables["campaigns"], tables["campaign_descriptions"], known_products(tables["products"])
    )
    found = {(row.advertiser_id, str(row.day)): (row.coupons_live, row.households_targeted) for row in rows.collect()}
    assert found == {
        ("10", "2017-01-01"): (2, 2),
        ("10", "2017-01-02"): (2, 3),
        ("10", "2017-01-03"): (1, 1),
        ("20", "2017-01-02"): (1, 1),
        ("20", "2017-01-03"): (1, 1),
    }
