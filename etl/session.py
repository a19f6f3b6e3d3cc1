"""The only builder of Spark sessions."""

import os
import sys

from pyspark.sql import SparkSession

from etl.config import SparkConfig

DEFAULTS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.shuffle.partitions": "8",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "4g",
    "spark.log.level": "ERROR",
}
"""What a laptop wants; ``--conf`` of spark-submit and a run's ``[spark.conf]`` win over it."""


def build_session(config: SparkConfig, app_name: str) -> SparkSession:
    """A session for one job. Under spark-submit its settings hold; else a local one is started."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName(app_name)
    if config.master:
        builder = builder.master(config.master)
    elif not submitted:
        builder = builder.master("local[*]")
    # Time zone and ANSI errors are part of the results' meaning; the rest is comfort that a cluster sets itself.
    fixed = ("spark.sql.session.timeZone", "spark.sql.ansi.enabled")
    for key, value in (DEFAULTS | config.conf).items():
        if not submitted or key in fixed or key in config.conf:
            builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session
