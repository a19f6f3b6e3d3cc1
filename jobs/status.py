"""The nights of a range of days: features, predictions and the run itself, each missing, complete, stale or failed.

Features are stale where their inputs changed since, predictions where their features did. Exit status: 0 if every day
is complete (alerts do not count), 3 if some day is not, 2 if the question could not be answered.
"""

import dataclasses
import datetime
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from etl.days import DayStatus, FeatureDays, each_day
from etl.inputs import list_inputs
from etl.session import build_session
from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.spec import DatasetSpec
from training.nightly.status import PartStatus, night_status, predictions_status

COLORS = {
    "complete": "green",
    "stale": "yellow",
    "alert": "yellow",
    "running": "cyan",
    "missing": "dim",
    "failed": "red",
}
NAMED = 4
"""How many changed days of a table a line names."""


@dataclass(frozen=True)
class NightStatus:
    features: DayStatus
    predictions: PartStatus | None = None
    night: PartStatus | None = None
    """Neither where features alone are asked for."""

    @property
    def complete(self) -> bool:
        parts = (self.features, self.predictions, self.night)
        return all(part is None or part.state in ("complete", "alert") for part in parts)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--from", type=datetime.date.fromisoformat, required=True, dest="first", metavar="FROM")
    parser.add_argument("--to", type=datetime.date.fromisoformat, required=True, dest="last", metavar="TO")
    parser.add_argument("--spec", help="the spec the days should have; default: that of the nightly job")
    parser.add_argument("--features", action="store_true", help="features alone: these days were never predicted")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    spec = DatasetSpec.read(arguments.spec or config.nightly_spec())
    statuses = [
        NightStatus(day)
        if arguments.features
        else NightStatus(
            day,
            predictions_status(config.run.path("features"), config.run.path("predictions"), day.date),
            night_status(config.run.path("daily"), day.date),
        )
        for day in _feature_days(config, spec, (arguments.first, arguments.last))
    ]
    if arguments.json:
        print(json.dumps([_flat(status) for status in statuses], indent=1, default=str))
    else:
        _show(statuses)
    return ExitCode.OK if all(status.complete for status in statuses) else ExitCode.NOT_COMPLETE


def _feature_days(config: RunConfig, spec: DatasetSpec, dates: tuple[datetime.date, datetime.date]) -> list[DayStatus]:
    wanted = list(each_day(*dates))
    days = FeatureDays(location=config.run.path("features"), raw=config.run.path("raw"), config=config, spec=spec)
    spark = build_session(config.spark, app_name=f"{config.run.name}: status")
    try:
        inputs = list_inputs(spark, config.raw, root=days.raw)
    finally:
        spark.stop()
    return [days.status(date, inputs) for date in wanted]


def _flat(status: NightStatus) -> dict[str, object]:
    """A day's features as ever, and the later parts by name."""
    parts = {"predictions": status.predictions, "night": status.night}
    later = {name: dataclasses.asdict(part) for name, part in parts.items() if part is not None}
    return dataclasses.asdict(status.features) | later


def _show(statuses: Sequence[NightStatus]) -> None:
    heads = ["as-of day", "features", "predictions", "night", "rows", "detail"]
    rows = [_row(status) for status in statuses]
    if statuses[0].night is None:
        heads, rows = [heads[0], *heads[1:2], *heads[4:]], [(*row[:2], *row[4:]) for row in rows]
    console = Console()
    if not console.is_terminal:
        rows = [tuple(heads), *rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(*heads, box=None)
    for row in rows:
        table.add_row(*(f"[{COLORS[text]}]{text}[/]" if text in COLORS else text for text in row))
    console.print(table)


def _row(status: NightStatus) -> tuple[str, ...]:
    day, predictions, night = status.features, status.predictions, status.night
    details = [_detail(day)]
    details += [f"{name}: {part.reason}" for name, part in (("predictions", predictions), ("night", night)) if part]
    return (
        str(day.date),
        day.state,
        predictions.state if predictions else "",
        night.state if night else "",
        f"{day.rows:,}" if day.rows else "",
        "; ".join(detail for detail in details if detail and not detail.endswith(": ")),
    )


def _detail(status: DayStatus) -> str:
    parts = []
    for table, days in (status.changed or {}).items():
        named = ", ".join(days[:NAMED]) + (f" and {len(days) - NAMED} more" if len(days) > NAMED else "")
        parts.append(f"{table} ({named})")
    return status.reason + (f": {'; '.join(parts)}" if parts else "")


if __name__ == "__main__":
    sys.exit(run_job(main))
