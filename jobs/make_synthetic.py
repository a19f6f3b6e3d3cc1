"""A synthetic advertising platform's raw tables under ``<out>/raw``, of the size that ``[synthetic]`` says."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.session import build_session
from etl.sources.synthetic.generate import generate
from jobs.config import RunConfig, argument_parser, run_job
from jobs.raw_folder import make_once


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--force", action="store_true", help="make them again although they are complete")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    started = time.monotonic()
    made = make_once(config, lambda folder: _generate(config, folder), force=arguments.force)
    if made is not None:
        _describe(made, time.monotonic() - started)
    return 0


def _generate(config: RunConfig, folder: Path) -> dict[str, Any]:
    spark = build_session(config.spark, app_name=f"{config.run.name}: raw tables")
    try:
        return generate(spark, config, folder=str(folder))
    finally:
        spark.stop()


def _describe(made: dict[str, Any], seconds: float) -> None:
    rows, size = sum(made["rows"].values()), sum(made["bytes"].values())
    print(f"  parameters {made['parameters']}: {rows:,} rows, {size / 1e6:,.0f} MB in {seconds:.0f} s")
    print("  " + ", ".join(f"{name} {count:,}" for name, count in made["rows"].items()))
    print(f"  late rows: {made['late']}; bad rows by check: {made['bad']}")
    for title, lines in (
        ("part of active days", made["shares"]),
        ("correlation of log weekly values", made["correlations"]),
    ):
        print(f"  {title:<58}{'paper':>8}{'here':>8}")
        for line in lines:
            measured = "-" if line["measured"] is None else f"{line['measured']:.3f}"
            print(f"    {line['name']:<56}{line['target']:>8.3f}{measured:>8}")


if __name__ == "__main__":
    sys.exit(run_job(main))
