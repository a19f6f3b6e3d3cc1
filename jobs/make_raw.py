"""The Complete Journey's files to canonical raw tables under ``<out>/raw``."""

import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from etl.session import build_session
from etl.sources.complete_journey import raw_tables, read_package
from jobs.config import RunConfig, argument_parser, run_job

COMPLETE = "_complete.json"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--force", action="store_true", help="make them again although they are complete")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    target = Path(config.run.path("raw"))
    if (target / COMPLETE).exists() and not arguments.force:
        print(f"raw tables in {target} are complete (--force makes them again)")
        return 0
    staging = target.with_name("raw.staging")
    shutil.rmtree(staging, ignore_errors=True)
    spark = build_session(config.spark, app_name=f"{config.run.name}: raw tables")
    try:
        rows = {}
        for name, frame in raw_tables(read_package(spark)).items():
            started = time.monotonic()
            frame.coalesce(4).write.parquet(str(staging / name))
            rows[name] = spark.read.parquet(str(staging / name)).count()
            print(f"  {name}: {rows[name]:,} rows ({time.monotonic() - started:.0f} s)", flush=True)
    finally:
        spark.stop()
    (staging / COMPLETE).write_text(json.dumps(rows))
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)
    print(f"raw tables are in {target}")
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))
