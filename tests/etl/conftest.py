"""One Spark session for all ETL tests: starting a JVM costs more than most of them."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from etl.config import SparkConfig
from etl.session import build_session

SMALL_SPARK = SparkConfig(
    master="local[2]",
    conf={"spark.sql.shuffle.partitions": "4", "spark.ui.enabled": "false", "spark.default.parallelism": "4"},
)


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = build_session(SMALL_SPARK, "etl tests")
    yield session
    session.stop()
