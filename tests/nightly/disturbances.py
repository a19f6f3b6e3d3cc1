"""What goes wrong on the platform in the month of ``tests/nightly/month.py``: what lands of each day, and who acts."""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from jobs.exit_codes import ExitCode

DAY = datetime.timedelta(days=1)
FACTOR = 20
"""Logins that one login is counted as."""
Delivery = list[tuple[pa.Table, str]]
"""Rows that land, each with the name of its file."""


class Platform(Protocol):
    def rows(self, name: str, day: datetime.date) -> pa.Table:
        """All that happened on a day, of one table."""


def whole(platform: Platform, name: str, date: datetime.date) -> Delivery:
    return [(platform.rows(name, date), f"landed-{date}")]


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    happened: str = ""
    started: bool = True
    """Whether the scheduler starts the night."""
    deliver: Callable[[Platform, str, datetime.date], Delivery] = whole
    jobs: Callable[[datetime.date], list[tuple[str, list[str], int]]] = lambda date: []
    """After the night: name, arguments and exit status of what somebody starts."""


def half(platform: Platform, name: str, date: datetime.date) -> Delivery:
    rows = platform.rows(name, date)
    return [(_every_second(rows, 0) if name == "performance" else rows, f"landed-{date}")]


def with_the_other_half(platform: Platform, name: str, date: datetime.date) -> Delivery:
    late = [(_every_second(platform.rows(name, date - 2 * DAY), 1), f"landed-{date}")] if name == "performance" else []
    return [*whole(platform, name, date), *late]


def no_performance(platform: Platform, name: str, date: datetime.date) -> Delivery:
    return [] if name == "performance" else whole(platform, name, date)


def with_yesterdays(platform: Platform, name: str, date: datetime.date) -> Delivery:
    return [*(whole(platform, name, date - DAY) if name == "performance" else []), *whole(platform, name, date)]


def renamed(platform: Platform, name: str, date: datetime.date) -> Delivery:
    rows = platform.rows(name, date)
    if name == "performance":
        rows = rows.rename_columns(["cost" if column == "spend" else column for column in rows.column_names])
    return [(rows, f"landed-{date}")]


def many_logins(platform: Platform, name: str, date: datetime.date) -> Delivery:
    rows = platform.rows(name, date)
    if name == "behavior":
        counted = pc.if_else(pc.equal(rows["event"], "login"), pc.multiply(rows["count"], FACTOR), rows["count"])
        rows = rows.set_column(rows.column_names.index("count"), "count", counted)
    return [(rows, f"landed-{date}")]


def _every_second(rows: pa.Table, remainder: int) -> pa.Table:
    """Those of the advertisers whose ids leave ``remainder``."""
    return rows.filter(pa.array(rows["advertiser_id"].to_numpy() % 2 == remainder))


def _days(first: datetime.date, last: datetime.date) -> list[str]:
    return ["--from", str(first), "--to", str(last), "--json"]


BAD_MODEL = ["--set", "train.epochs=1", "--set", "train.learning_rate=1e-9", "--set", "model.offset=none"]
DRIFTING = (19, 20, 21)
STILL_DRIFTED = range(22, 27)
"""Nights on which the newest week holds at least two days of it."""
DISTURBANCES = {
    6: Disturbance(happened="performance lacks every second advertiser", deliver=half),
    8: Disturbance(
        happened="the rest of night 6 lands, two days late; the days are made again by hand",
        deliver=with_the_other_half,
        jobs=lambda date: [
            ("status", _days(date - 3 * DAY, date), ExitCode.NOT_COMPLETE),
            ("daily", ["--date", str(date - 2 * DAY)], ExitCode.OK),
            ("daily", ["--date", str(date - DAY)], ExitCode.OK),
            ("status", _days(date - 3 * DAY, date), ExitCode.OK),
        ],
    ),
    10: Disturbance(happened="no performance lands", deliver=no_performance),
    11: Disturbance(happened="it lands with the next day's", deliver=with_yesterdays),
    13: Disturbance(happened="the scheduler is down: no night is started", started=False),
    14: Disturbance(happened="it is back"),
    16: Disturbance(happened="performance has a column `cost` instead of `spend`", deliver=renamed),
    17: Disturbance(happened="its file is written again, with `spend`", deliver=with_yesterdays),
    **{number: Disturbance(happened=f"a login is counted as {FACTOR}", deliver=many_logins) for number in DRIFTING},
    28: Disturbance(
        happened="a model that learned nothing is trained and offered",
        jobs=lambda date: [("retrain", ["--date", str(date), *BAD_MODEL], ExitCode.WORSE)],
    ),
    30: Disturbance(
        happened="somebody asks for the whole month",
        jobs=lambda date: [("status", _days(date - 29 * DAY, date), ExitCode.NOT_COMPLETE)],
    ),
}
"""By night."""
