"""One contender, in a process of its own: ``python -m benchmarks.etl.contender NAME RAW OUT SHAPE [EVENT_LOGS]``."""

import importlib
import sys
from pathlib import Path

from benchmarks.etl.world import Shape, make_config

CONTENDERS = {
    "ours": "benchmarks.etl.ours",
    "plain_spark": "benchmarks.etl.plain_spark",
    "naive_spark": "benchmarks.etl.naive_spark",
    "polars": "benchmarks.etl.polars_build",
}
CORES = 2
SPARK = {
    "spark.driver.memory": "3g",
    "spark.sql.shuffle.partitions": "4",
    "spark.eventLog.compress": "false",
    "spark.eventLog.rolling.enabled": "false",
}
"""All Spark contenders run with these, and with the project's session defaults."""


def main(name: str, raw: str, out: str, shape: str, event_logs: str = "") -> None:
    # Nobody pays for the imports of another.
    module = importlib.import_module(CONTENDERS[name])
    config = make_config(Shape.model_validate_json(shape))
    if name == "polars":
        module.build(config, raw, out)
        return
    from etl.config import SparkConfig
    from etl.session import build_session

    logs = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": Path(event_logs).absolute().as_uri()}
    conf = SPARK | (logs if event_logs else {})
    spark = build_session(SparkConfig(master=f"local[{CORES}]", conf=conf), f"bench-etl {name}")
    try:
        module.build(spark, config, raw, out)
    finally:
        spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
