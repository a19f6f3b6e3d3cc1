"""Thirty nights of a synthetic platform on which things go wrong, and what the keeper says of each.

``python -m tests.nightly.month FOLDER`` plays them (an hour) and prints the table of ``docs/operations.md``; the
same command goes on after a night that was cut off. What goes wrong is in :mod:`tests.nightly.disturbances`; the nights
see nothing but what has landed in the raw tables.
"""

import datetime
import json
import re
import sys
import time
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.etl.run_toml import toml_value
from tests.nightly.disturbances import DAY, DISTURBANCES, Disturbance
from tests.nightly.processes import ROOT, finish, ray_cluster, start_job

FIRST_DAY = datetime.date(2020, 3, 20)
HISTORY, NIGHTS = 134, 30
"""Days that are there before the first night, which is then August 1: no festival is near; nights."""
EVENTS, SNAPSHOTS = ("performance", "behavior"), ("profile", "scenarios")
SCENARIOS = ("sponsored_search", "news_feed", "brand_search")
"""In the two others, one of them new, a handful of so few advertisers are active."""
CHANGES: dict[str, dict[str, Any]] = {
    "synthetic": {"advertisers": 400, "seed": 7, "late_rate": 0.0, "bad_rate": 0.0},
    "split": {
        "train": [FIRST_DAY + 40 * DAY, FIRST_DAY + 97 * DAY],
        "validation": [FIRST_DAY + 105 * DAY, FIRST_DAY + 111 * DAY],
        "test": [FIRST_DAY + 119 * DAY, FIRST_DAY + 126 * DAY],
        "train_stride": 3,
        "validation_stride": 2,
        "test_stride": 2,
    },
    "model": {
        "embedding_dim": 4,
        "view_dim": 16,
        "knowledge_dim": 8,
        "meta_layers": 1,
        "pool": "mean",
        "transformer": False,
        "history_quartiles": True,
        "distribution": True,
    },
    "train": {
        "epochs": 6,
        "batch_size": 128,
        "learning_rate_decay": 0.6,
        "loss": {"likelihood": 0.0, "l1": 1.0, "l1_log": 1.0, "distribution": 0.3},
    },
    "cluster": {"workers": 1},
    "spark": {
        "master": "local[2]",
        "conf": {"spark.sql.shuffle.partitions": "1", "spark.driver.memory": "1g"},
    },
    "dataset": {"shards": 1, "grace_seconds": 0.0},
    "predict": {"grace_seconds": 0.0},
    "keeper": {"rows_ratio": [0.9, 1.1]},
    "monitor": {
        "days_behind": 0,
        "table_rows": [0.8, 1.25],
        "scenario_rows": [0.9, 1.1],
        "activity": [0.6, 1.6],
        "min_rows": 50,
        "nmae_over_naive": 1.4,
        "bias": 0.3,
        "calibration": 0.12,
        "psi": 0.3,
        "unseen": 0.05,
    },
    "registry": {"resamples": 500},
    "engagement": {"lists": {"fading": {"task": "active_days", "at_most": 2.0, "cool_down_days": 7}}},
}
"""What is other than in ``jobs/configs/synthetic.toml``."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A night, and what was said of it."""

    number: int
    happened: str
    """On the platform; empty: nothing."""
    status: int | None = None
    """Exit status of the night; None: it was not started."""
    said: list[str] = field(default_factory=list)
    """``check: message`` of an alert, ``error: message`` of a failure, nights caught up, and what other jobs say."""
    seconds: float = 0.0
    """That the night took."""

    @property
    def date(self) -> datetime.date:
        return Month.date(self.number)


@dataclass(frozen=True, kw_only=True)
class Month:
    folder: Path
    ray_address: str
    told: list[Told] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @staticmethod
    def date(number: int) -> datetime.date:
        """The as-of day of night ``number``, counted from 1."""
        return FIRST_DAY + (HISTORY - 1 + number) * DAY

    def rows(self, name: str, day: datetime.date) -> pa.Table:
        """All that happens on a day, of one table."""
        table = self._happening[name]
        return table.filter(pc.equal(table["dt"], pa.scalar(day)))

    def play(self) -> None:
        """All nights, from the first that has not been played in this folder."""
        record = self.folder / "told.jsonl"
        if not record.exists():
            self.prepare()
            record.touch()
        self.told.extend(Told(**json.loads(line)) for line in record.read_text().splitlines())
        for number in range(len(self.told) + 1, NIGHTS + 1):
            self.told.append(self.night(number))
            with record.open("a") as lines:
                lines.write(json.dumps(vars(self.told[-1])) + "\n")

    def prepare(self) -> None:
        """The platform's whole life, what has landed of it before the first night, and the first model, promoted."""
        platform = self.config(
            "platform",
            run={"name": "platform", "out": str(self.folder / "platform"), "raw": str(self.folder / "platform/raw")},
            raw={"last_day": self.date(NIGHTS)},
        )
        finish(start_job("make_synthetic", platform))
        self.config("run")
        for name in (*EVENTS, *SNAPSHOTS):
            for number in range(-HISTORY + 1, 1):
                self.land(name, self.rows(name, self.date(number)), "history")
        self.job("build_dataset")
        self.job("train")
        self.job("registry", "register", "--why", "the first")
        self.job("registry", "promote", self.registry()["versions"][0]["version"], "--why", "the first")

    def config(self, name: str, **sections: dict[str, Any]) -> Path:
        settings = tomllib.loads((ROOT / "jobs/configs/synthetic.toml").read_text())
        settings["raw"] |= {"first_day": FIRST_DAY, "last_day": self.date(0)}
        for event in EVENTS:
            settings["raw"]["facts"][event] |= {"partition": "dt", "partition_day": "local"}
        settings["run"] = {"name": "month", "out": str(self.out), "raw": str(self.folder / "raw")}
        for section, changes in (CHANGES | sections).items():
            settings[section] = settings.get(section, {}) | changes
        settings["registry"]["location"] = str(self.folder / "registry")
        path = self.folder / f"{name}.toml"
        path.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in settings.items()))
        return path

    def land(self, name: str, rows: pa.Table, part: str) -> None:
        """File the rows of a day as one more file of it."""
        column = "dt" if name in EVENTS else "day"
        for day in pc.unique(rows["dt"]).to_pylist():
            path = self.folder / f"raw/{name}/{column}={day}/{part}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows.drop_columns(list({"dt", column})), path)

    def job(self, name: str, *arguments: str, status: int = 0) -> str:
        return finish(self._start(name, *arguments), status=status)

    def registry(self) -> dict[str, Any]:
        listed: dict[str, Any] = json.JSONDecoder().raw_decode(self.job("registry", "list", "--json"))[0]
        return listed

    def night(self, number: int) -> Told:
        """Let the platform have its day, then run the night, and whatever somebody does after it."""
        disturbance, date = DISTURBANCES.get(number, Disturbance()), self.date(number)
        for name in (*EVENTS, *SNAPSHOTS):
            for rows, part in disturbance.deliver(self, name, date):
                self.land(name, rows, part)
        status, said, begun = None, list[str](), time.monotonic()
        if disturbance.started:
            process = self._start("daily", "--date", str(date), "--catch-up")
            output, errors = process.communicate(timeout=1200)
            status, said = process.returncode, _said(output, errors, date)
        seconds = round(time.monotonic() - begun, 1)
        for name, arguments, wanted in disturbance.jobs(date):
            output = self.job(name, *arguments, status=wanted)
            said.append(f"`{name}` ends with {int(wanted)}: {_summary(name, output)}")
        return Told(number=number, happened=disturbance.happened, status=status, said=said, seconds=seconds)

    @cached_property
    def _happening(self) -> dict[str, pa.Table]:
        """All that ever happens, with the day in ``dt``."""
        tables = {}
        for name in (*EVENTS, *SNAPSHOTS):
            table = pq.read_table(self.folder / "platform/raw" / name)
            if "scenario_id" in table.column_names:
                here = pc.is_in(table["scenario_id"], value_set=pa.array(SCENARIOS))
                table = table.filter(pc.or_(here, pc.is_null(table["scenario_id"])))
            day = table["day"] if name in SNAPSHOTS else _local_day(table["time"])
            tables[name] = table.append_column("dt", day)
        return tables

    def _start(self, name: str, *arguments: str) -> Any:
        return start_job(name, self.folder / "run.toml", *arguments, RAY_ADDRESS=self.ray_address)


def _local_day(time: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.local_timestamp(time.cast(pa.timestamp("us", tz="Asia/Shanghai"))).cast(pa.date32(), safe=False)


def _said(output: str, errors: str, date: datetime.date) -> list[str]:
    lines = output.splitlines()
    said = [
        line.replace("  report: done", " was caught up").partition(" in ")[0] for line in lines if "  report:" in line
    ]
    said = [line for line in said if not line.startswith(str(date))]
    for line in lines:
        of, found, alert = line.partition("  alert ")
        if found:
            said.append(alert if of == str(date) else f"{of}: {alert}")
    return said + [line for line in errors.splitlines() if line.startswith(("error: night of", "error: the dash"))]


def _summary(name: str, output: str) -> str:
    """What a line of the table says of a job."""
    if name == "status":
        days, _ = json.JSONDecoder().raw_decode(output)
        return (
            ", ".join(f"{day['date']} {day['state']}" for day in days if day["state"] != "complete") or "all complete"
        )
    mark = {"daily": "  features: ", "retrain": "interval ["}[name]
    line = next(line for line in output.splitlines() if mark in line)
    return line.partition(" in ")[0] if name == "daily" else line


def table(told: list[Told]) -> str:
    lines = ["| night | as of | on the platform | status | what the keeper says |", "|---|---|---|---|---|"]
    for night in told:
        status = "-" if night.status is None else str(night.status)
        said = "<br>".join(re.sub(r"/\S+/raw/", "raw/", line).replace("|", "\\|") for line in night.said)
        lines.append(f"| {night.number} | {night.date} | {night.happened} | {status} | {said} |")
    return "\n".join(lines)


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ray_cluster() as ray_address:
        month = Month(folder=folder, ray_address=ray_address)
        month.play()
    print(table(month.told))


if __name__ == "__main__":
    main()
