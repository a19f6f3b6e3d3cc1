"""The Complete Journey's files to canonical raw tables under ``<out>/raw``."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyspark.sql import DataFrame

from etl.session import build_session
from etl.sources.complete_journey import left_out, raw_tables, read_package, shared_facings
from jobs.config import RunConfig, argument_parser, run_job
from jobs.raw_folder import make_once

FILES_PER_TABLE = 4


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--force", action="store_true", help="make them again although they are complete")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    make_once(config, lambda folder: _make(config, folder), force=arguments.force)
    return 0


def _make(config: RunConfig, folder: Path) -> dict[str, dict[str, int]]:
    spark = build_session(config.spark, app_name=f"{config.run.name}: raw tables")
    try:
        return _write(read_package(spark), folder)
    finally:
        spark.stop()


def _write(package: Mapping[str, DataFrame], folder: Path) -> dict[str, dict[str, int]]:
    """Write the raw tables under ``folder``; how many rows each has, and how many rows of the package are not in."""
    facings = shared_facings(package)
    rows = {}
    for name, frame in raw_tables(package, facings).items():
        started = time.monotonic()
        frame.coalesce(FILES_PER_TABLE).write.parquet(str(folder / name))
        rows[name] = frame.sparkSession.read.parquet(str(folder / name)).count()
        print(f"  {name}: {rows[name]:,} rows ({time.monotonic() - started:.0f} s)", flush=True)
    dropped = left_out(package, facings)
    for reason, count in dropped.items():
        print(f"  left out: {count:,} {reason}", flush=True)
    return {"rows": rows, "left_out": dropped}


if __name__ == "__main__":
    sys.exit(run_job(main))
