"""Thirty nights of a synthetic platform on which things go wrong, and what the keeper says of each.

``python -m tests.nightly.month FOLDER`` plays them (half an hour) and prints the table of ``docs/operations.md``.
What happens on the platform is in :data:`DISTURBANCES`; the nights only see what has landed in the raw tables.
"""

import datetime
import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.exit_codes import ExitCode
from tests.etl.run_toml import toml_value
from tests.nightly.processes import ROOT, finish, start_job

DAY = datetime.timedelta(days=1)
FIRST_DAY = datetime.date(2020, 1, 1)
HISTORY, NIGHTS = 134, 30
"""Days that are there before the first night; nights."""
CLOSING = datetime.timedelta(hours=6)
"""After midnight; what lands later is seen by the next night."""
EVENTS, SNAPSHOTS = ("performance", "behavior"), ("profile", "scenarios")
CHANGES: dict[str, dict[str, Any]] = {
    "synthetic": {"advertisers": 400, "seed": 7, "late_rate": 0.02, "bad_rate": 0.0},
    "split": {
        "train": [FIRST_DAY + 40 * DAY, FIRST_DAY + 97 * DAY],
        "validation": [FIRST_DAY + 105 * DAY, FIRST_DAY + 111 * DAY],
        "test": [FIRST_DAY + 119 * DAY, FIRST_DAY + 126 * DAY],
        "train_stride": 5,
        "validation_stride": 2,
        "test_stride": 2,
    },
    "model": {"embedding_dim": 4, "view_dim": 16, "knowledge_dim": 8, "meta_layers": 1},
    "train": {"epochs": 4, "batch_size": 128},
    "cluster": {"workers": 1},
    "spark": {"master": "local[2]", "conf": {"spark.sql.shuffle.partitions": "2", "spark.driver.memory": "1g"}},
    "dataset": {"grace_seconds": 0.0},
    "predict": {"grace_seconds": 0.0},
    "keeper": {"rows_ratio": [0.8, 1.25]},
    "monitor": {"days_behind": 0, "scenario_rows": [0.8, 1.25], "activity": [0.4, 2.5], "nmae_over_naive": 1.25},
    "registry": {"resamples": 500},
    "engagement": {"lists": {"fading": {"task": "active_days", "at_most": 2.0, "cool_down_days": 7}}},
}
"""What is other than in ``jobs/configs/synthetic.toml``."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A night, and what was said of it."""

    number: int
    date: datetime.date
    happened: str
    """On the platform; empty: nothing."""
    status: int | None
    """Exit status of the night; None: it was not started."""
    said: list[str]
    """Alerts, failures and lines of other jobs."""


@dataclass(kw_only=True)
class Month:
    folder: Path
    told: list[Told] = field(default_factory=list)

    # --- the platform ---

    @cached_property
    def arriving(self) -> dict[str, pa.Table]:
        """All that ever lands, with its day of landing in ``landed`` and the partition in ``dt``."""
        zone = ZoneInfo("Asia/Shanghai")
        tables = {}
        for name in EVENTS:
            table = pq.read_table(self.folder / "platform/raw" / name)
            landed = [(at.astimezone(zone) - CLOSING).date() for at in table["arrived_at"].to_pylist()]
            times = table["time"].to_pylist()
            tables[name] = table.append_column("landed", pa.array(landed)).append_column(
                "dt", pa.array([time.date() for time in times])
            )
        for name in SNAPSHOTS:
            table = pq.read_table(self.folder / "platform/raw" / name)
            tables[name] = table.append_column("landed", table["day"]).append_column("dt", table["day"])
        return tables

    def land(self, name: str, rows: pa.Table, part: str) -> None:
        """File rows by day, each day's as one more file."""
        column = "dt" if name in EVENTS else "day"
        for day in pc.unique(rows["dt"]).to_pylist():
            of_day = rows.filter(pc.equal(rows["dt"], day)).drop_columns(["dt", "landed", *({column} - {"dt"})])
            path = self.folder / "raw" / name / f"{column}={day}" / f"{part}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(of_day, path)

    def landing(self, name: str, first: datetime.date, last: datetime.date) -> pa.Table:
        table = self.arriving[name]
        return table.filter(pc.and_(pc.greater_equal(table["landed"], first), pc.less_equal(table["landed"], last)))

    def config(self, name: str, **sections: dict[str, Any]) -> Path:
        settings = tomllib.loads((ROOT / "jobs/configs/synthetic.toml").read_text())
        settings["raw"]["last_day"] = FIRST_DAY + (HISTORY - 1) * DAY
        settings["raw"]["first_day"] = FIRST_DAY
        for event in EVENTS:
            settings["raw"]["facts"][event]["partition"] = "dt"
        settings["run"] = {"name": "month", "out": str(self.folder / "out"), "raw": str(self.folder / "raw")}
        for section, changes in (CHANGES | sections).items():
            settings[section] = settings.get(section, {}) | changes
        settings["registry"]["location"] = str(self.folder / "registry")
        path = self.folder / f"{name}.toml"
        path.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in settings.items()))
        return path

    # --- the nights ---

    def job(self, name: str, *arguments: str, status: int = 0) -> str:
        return finish(start_job(name, self.folder / "run.toml", *arguments), status=status)

    def prepare(self) -> None:
        """The platform's whole life, what has landed of it by the first night, and the first model, promoted."""
        platform = self.config(
            "platform",
            run={"name": "platform", "out": str(self.folder / "platform"), "raw": str(self.folder / "platform/raw")},
            raw={"last_day": FIRST_DAY + (HISTORY + NIGHTS) * DAY},
        )
        finish(start_job("make_synthetic", platform))
        self.config("run")
        for name in (*EVENTS, *SNAPSHOTS):
            self.land(name, self.landing(name, FIRST_DAY, self.date(0)), "history")
        self.job("build_dataset")
        self.job("train")
        self.job("registry", "register", "--why", "the first")
        self.job("registry", "promote", self.versions()[0], "--why", "the first")

    @staticmethod
    def date(number: int) -> datetime.date:
        """The as-of day of night ``number``, counted from 1."""
        return FIRST_DAY + (HISTORY - 1 + number) * DAY

    def versions(self) -> list[str]:
        listed, _ = json.JSONDecoder().raw_decode(self.job("registry", "list", "--json"))
        return [version["version"] for version in listed["versions"]]

    def night(self, number: int) -> Told:
        """Let the platform have its day, then run the night, with whatever else was planned for it."""
        disturbance = DISTURBANCES.get(number, Disturbance())
        date = self.date(number)
        for name in (*EVENTS, *SNAPSHOTS):
            for rows, part in disturbance.deliver(self, name, date):
                self.land(name, rows, part)
        told = Told(number=number, date=date, happened=disturbance.happened, status=None, said=[])
        if disturbance.started:
            process = start_job("daily", self.folder / "run.toml", "--date", str(date), "--catch-up")
            output, errors = process.communicate(timeout=1200)
            told = Told(**{**vars(told), "status": process.returncode, "said": _said(output, errors)})
        for name, arguments, status in disturbance.jobs(date):
            output = self.job(name, *arguments, status=status)
            told.said.append(f"`{name} {' '.join(arguments)}` ends with {status}: {_summary(name, output)}")
        self.told.append(told)
        return told


def _said(output: str, errors: str) -> list[str]:
    alerts = [line.replace("  alert ", " alert: ", 1) for line in output.splitlines() if "  alert " in line]
    return alerts + [line for line in errors.splitlines() if line.startswith("error: ")]


def _summary(name: str, output: str) -> str:
    if name == "status":
        found, _ = json.JSONDecoder().raw_decode(output)
        return ", ".join(f"{day['date']} {day['state']}" for day in found if day["state"] != "complete")
    if name == "daily":
        return ", ".join(line.split("  ")[1] for line in output.splitlines() if "features: " in line)
    return next((line.strip() for line in output.splitlines() if "interval" in line), output.splitlines()[-1])


# --- what goes wrong --------------------------------------------------------------------------------------------------

Delivery = list[tuple[pa.Table, str]]


def whole(month: Month, name: str, date: datetime.date) -> Delivery:
    return [(month.landing(name, date, date), f"landed-{date}")]


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    happened: str = ""
    started: bool = True
    deliver: Callable[[Month, str, datetime.date], Delivery] = whole
    jobs: Callable[[datetime.date], list[tuple[str, list[str], int]]] = lambda date: []
    """After the night: name, arguments and exit status."""


def _odd(rows: pa.Table, remainder: int) -> pa.Table:
    ids = rows["advertiser_id"].to_numpy()
    return rows.filter(pa.array(ids % 2 == remainder))


def half(month: Month, name: str, date: datetime.date) -> Delivery:
    rows = month.landing(name, date, date)
    return [(_odd(rows, 0) if name == "performance" else rows, f"landed-{date}")]


def with_the_other_half(month: Month, name: str, date: datetime.date) -> Delivery:
    late = date - 2 * DAY
    rows = [(_odd(month.landing(name, late, late), 1), f"late-{date}")] if name == "performance" else []
    return [*whole(month, name, date), *rows]


def no_performance(month: Month, name: str, date: datetime.date) -> Delivery:
    return [] if name == "performance" else whole(month, name, date)


def with_yesterdays(month: Month, name: str, date: datetime.date) -> Delivery:
    rows = [(month.landing(name, date - DAY, date - DAY), f"late-{date}")] if name == "performance" else []
    return [*whole(month, name, date), *rows]


def renamed(month: Month, name: str, date: datetime.date) -> Delivery:
    rows = month.landing(name, date, date)
    if name == "performance":
        rows = rows.rename_columns(["cost" if column == "spend" else column for column in rows.column_names])
    return [(rows, f"landed-{date}")]


def named_again(month: Month, name: str, date: datetime.date) -> Delivery:
    """Yesterday's files are replaced by what they should have been."""
    before = [(rows, part) for rows, part in whole(month, name, date - DAY) if name == "performance"]
    return [*before, *whole(month, name, date)]


def bids_twentyfold(month: Month, name: str, date: datetime.date) -> Delivery:
    rows = month.landing(name, date, date)
    if name == "behavior":
        bids = pc.equal(rows["event"], "bid_change")
        counts = pc.if_else(bids, pc.multiply(rows["count"], 20), rows["count"])
        rows = rows.set_column(rows.column_names.index("count"), "count", counts.cast(rows["count"].type))
    return [(rows, f"landed-{date}")]


BAD_MODEL = ["--set", "train.epochs=1", "--set", "train.learning_rate=1e-9", "--set", "model.offset=none"]
DISTURBANCES = {
    6: Disturbance(happened="half of the advertisers' performance rows do not land", deliver=half),
    8: Disturbance(
        happened="the other half of night 6 lands, two days late",
        deliver=with_the_other_half,
        jobs=lambda date: [
            ("status", ["--from", str(date - 3 * DAY), "--to", str(date), "--json"], ExitCode.NOT_COMPLETE),
            *(("daily", ["--date", str(date - days * DAY)], ExitCode.OK) for days in (2, 1)),
            ("status", ["--from", str(date - 3 * DAY), "--to", str(date), "--json"], ExitCode.OK),
        ],
    ),
    10: Disturbance(happened="no performance rows land at all", deliver=no_performance),
    11: Disturbance(happened="they land with the next day's", deliver=with_yesterdays),
    13: Disturbance(happened="the scheduler is down: no night", started=False),
    14: Disturbance(happened="the scheduler is back"),
    17: Disturbance(happened="performance has a column `cost` instead of `spend`", deliver=renamed),
    18: Disturbance(happened="the files of night 17 are written again, as they were before", deliver=named_again),
    **{
        number: Disturbance(
            happened="a bidding tool counts every bid change twentyfold" if number == 20 else "it still does",
            deliver=bids_twentyfold,
        )
        for number in (20, 21, 22, 23)
    },
    25: Disturbance(
        happened="a model that learned nothing is trained and offered",
        jobs=lambda date: [("retrain", ["--date", str(date), *BAD_MODEL], ExitCode.WORSE)],
    ),
}


def table(told: list[Told]) -> str:
    lines = ["| night | as of | on the platform | status | what the keeper says |", "|---|---|---|---|---|"]
    for night in told:
        status = "-" if night.status is None else str(night.status)
        said = "<br>".join(line.replace("|", "\\|") for line in night.said)
        lines.append(f"| {night.number} | {night.date} | {night.happened} | {status} | {said} |")
    return "\n".join(lines)


def main() -> None:
    month = Month(folder=Path(sys.argv[1]).resolve())
    month.prepare()
    for number in range(1, NIGHTS + 1):
        print(month.night(number), file=sys.stderr, flush=True)
    print(table(month.told))


if __name__ == "__main__":
    main()
