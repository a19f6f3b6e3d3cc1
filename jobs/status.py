"""The days of daily features in a range: missing, complete, stale (inputs changed since), or failed.

Exit status: 0 if every day is complete, 3 if some day is not, 2 if the question could not be answered.
"""

import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from etl.days import DayStatus, FeatureDays, each_day
from etl.inputs import list_inputs
from etl.session import build_session
from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.spec import DatasetSpec

NOT_COMPLETE = 3
COLORS = {"complete": "green", "stale": "yellow", "missing": "dim", "failed": "red"}
NAMED = 4
"""How many changed days of a table a line names."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--from", type=datetime.date.fromisoformat, required=True, dest="first", metavar="FROM")
    parser.add_argument("--to", type=datetime.date.fromisoformat, required=True, dest="last", metavar="TO")
    parser.add_argument("--spec", help="the spec the days should have; default: the dataset's")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    arguments = parser.parse_args(argv)
    dates = list(each_day(arguments.first, arguments.last))
    config = RunConfig.read(arguments.config, arguments.overrides)
    spec = DatasetSpec.read(arguments.spec or config.run.path("dataset", "spec.json"))
    days = FeatureDays(location=config.run.path("features"), raw=config.run.path("raw"), config=config, spec=spec)
    spark = build_session(config.spark, app_name=f"{config.run.name}: status")
    try:
        inputs = list_inputs(spark, config.raw, root=days.raw)
    finally:
        spark.stop()
    statuses = [days.status(date, inputs) for date in dates]
    if arguments.json:
        print(json.dumps([dataclasses.asdict(status) for status in statuses], indent=1, default=str))
    else:
        _show(statuses)
    return 0 if all(status.state == "complete" for status in statuses) else NOT_COMPLETE


def _show(statuses: Sequence[DayStatus]) -> None:
    rows = [(str(s.date), s.state, f"{s.rows:,}" if s.rows else "", _detail(s)) for s in statuses]
    console = Console()
    if not console.is_terminal:
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for row in rows:
            aligned = (row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]), row[3])
            print("  ".join(aligned).rstrip())
        return
    table = Table("as-of day", "state", "rows", "detail", box=None)
    table.columns[2].justify = "right"
    for date, state, count, detail in rows:
        table.add_row(date, f"[{COLORS[state]}]{state}[/]", count, detail)
    console.print(table)


def _detail(status: DayStatus) -> str:
    parts = []
    for table, days in (status.changed or {}).items():
        named = ", ".join(days[:NAMED]) + (f" and {len(days) - NAMED} more" if len(days) > NAMED else "")
        parts.append(f"{table} ({named})")
    return status.reason + (f": {'; '.join(parts)}" if parts else "")


if __name__ == "__main__":
    sys.exit(run_job(main))
