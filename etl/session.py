"""The only builder of Spark sessions."""

import logging
import os
import shutil
import sys

from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from etl.config import RESULTS_DEPEND_ON, SparkConfig
from etl.failures import spark_failures
from m2m_model.contracts.errors import UserError

DEFAULTS = {
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # No limit: else Spark sums up a batch's size again for every row of it. Its rows are limited, at 10,000.
    "spark.sql.execution.arrow.maxBytesPerBatch": "2147483647",
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
    # Under spark-submit the rest is comfort that a cluster sets itself.
    for key, value in (DEFAULTS | config.conf | RESULTS_DEPEND_ON).items():
        if not submitted or key in RESULTS_DEPEND_ON or key in config.conf:
            builder = builder.config(key, value)
    with spark_failures():
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    for repeats_errors in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):  # as JSON with a stack trace each
        PySparkLogger.getLogger(repeats_errors).setLevel(logging.CRITICAL)
    return session
