"""The only builder of Spark sessions."""

import os
import shutil
import sys

from pyspark.sql import SparkSession

from etl.config import SparkConfig
from etl.failures import spark_failures
from m2m_model.contracts.errors import UserError

DEFAULTS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "4g",
    "spark.log.level": "ERROR",
}
"""What a laptop wants; ``--conf`` of spark-submit and a run's ``[spark.conf]`` win over it."""


def build_session(config: SparkConfig, app_name: str) -> SparkSession:
    """A session for one job. Under spark-submit its settings hold; else a local one is started.

    Raises:
        UserError: there is no Java to start one with, or Spark refuses its settings.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted and not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        raise UserError("Java 17 or newer is needed and none is found: apt-get install openjdk-17-jre-headless")
    builder = SparkSession.builder.appName(app_name)
    if config.master:
        builder = builder.master(config.master)
    elif not submitted:
        builder = builder.master("local[*]")
    # These are part of the results' meaning (INT96, Spark's default, has no time zone for other readers); the rest is
    # comfort that a cluster sets itself.
    fixed = (
        "spark.sql.session.timeZone",
        "spark.sql.ansi.enabled",
        "spark.sql.parquet.outputTimestampType",
        "spark.hadoop.parquet.page.verify-checksum.enabled",
    )
    for key, value in (DEFAULTS | config.conf).items():
        if not submitted or key in fixed or key in config.conf:
            builder = builder.config(key, value)
    with spark_failures():
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
