from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from etl.config import SparkConfig
from etl.session import build_session


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = build_session(
        SparkConfig(master="local[2]", conf={"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "2g"}), "tests"
    )
    yield session
    session.stop()
