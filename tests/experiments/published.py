"""A platform's published days as tables: what the nightly job leaves, without Spark or Ray."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs import enrol, read_experiment, select_rewarded
from jobs.config import run_job
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, Manifest, publish, read_manifest
from tests.training.run_toml import write_run
from tests.training.tiny import DAY as DAY
from tests.training.tiny import SPEC as TINY
from tests.training.tiny import publish_tables, random_table
from training.published import parquet_files

UNITS, DAYS = TINY.tasks
SPEC = TINY.model_copy(update={"tasks": (UNITS, DAYS.model_copy(update={"daily_max": 1}))})
NEXT = DAY + datetime.timedelta(days=1)
SETTINGS = f"""
[engagement.lists.fading]
task = "days"
budget = 20
[experiments.spring]
design = "holdout"
list = "fading"
salt = "spring"
first = {DAY}
last = {NEXT}
active = "days"
spend = "units"
cap = 12.0
[experiments.better]
design = "arms"
list = "fading"
arms = [{{ name = "current" }}, {{ name = "challenger", predictions = "OUT/challenger" }}]
salt = "better"
first = {DAY}
last = {NEXT}
active = "days"
spend = "units"
cap = 12.0
"""


@dataclass(frozen=True)
class Platform:
    """Advertisers ``0, 1, ...`` in scenarios a and b; the forecasts are random, and nothing is published at first."""

    out: Path
    spec: DatasetSpec = SPEC

    @classmethod
    def at(cls, out: Path, spec: DatasetSpec = SPEC) -> "Platform":
        write_run(out / "config.toml", out=out, more=SETTINGS.replace("OUT", str(out)))
        return cls(out, spec)

    def rows(self, advertisers: Sequence[int], date: datetime.date, *, labels: bool) -> pa.Table:
        """All of them are eligible in a, the even ones in b."""
        table = random_table(2 * len(advertisers), seed=date.day, day=date, labels=labels)
        ids: list[int] | list[str] = [number for number in advertisers for _ in "ab"]
        identifier = pa.int64() if self.spec.advertiser_id_type == "bigint" else pa.string()
        columns = {
            "advertiser_id": pa.array(ids).cast(identifier),
            "scenario_id": pa.array(["a", "b"] * len(advertisers)),
            "eligible": pa.array([scenario == "a" or number % 2 == 0 for number in advertisers for scenario in "ab"]),
        }
        return with_columns(table, columns)

    def publish_features(self, table: pa.Table, date: datetime.date = DAY) -> None:
        publish_tables(str(self.out / f"features/dt={date}"), "features", {"part-0": (table, {})}, spec=self.spec)

    def publish_predictions(
        self,
        rows: pa.Table,
        forecasts: Mapping[str, Sequence[float]],
        date: datetime.date = DAY,
        to: str = "predictions",
    ) -> None:
        table = rows.select(list(KEYS))
        for task, values in forecasts.items():
            table = table.append_column(f"{task}_mean", pa.array(values, pa.float64()))
        table = table.append_column("model_version", pa.array([to] * len(rows)))
        location = str(self.out / f"{to}/dt={date}")
        manifest = publish_tables(location, "predictions", {"part-0": (table, {})}, spec=self.spec)
        features = read_manifest(Folder.at(self.out / f"features/dt={date}"), kind="features", build_hint="")
        content = {"features_generation": features.generation, "model_version": to}
        publish(Folder.at(location), manifest.model_copy(update={"content": content}))

    def publish_day(self, advertisers: Sequence[int], date: datetime.date = DAY) -> pa.Table:
        """Features, predictions of both models, and the lists of a day; returns its rows with labels."""
        rows = self.rows(advertisers, date, labels=True)
        self.publish_features(rows.drop_columns(["label_units", "label_days"]), date)
        for model in ("predictions", "challenger"):
            random = np.random.default_rng([date.day, len(model)])
            forecasts = {"days": 7 * random.random(len(rows)), "units": 20 * random.random(len(rows))}
            self.publish_predictions(rows, forecasts, date, to=model)
        self.run(select_rewarded, "--date", str(date))
        return rows

    def publish_labels(self, rows: pa.Table, date: datetime.date = DAY) -> None:
        publish_tables(str(self.out / f"labels/dt={date}"), "labels", {"part-0": (rows, {})}, spec=self.spec)

    def run(self, job: ModuleType, *arguments: str) -> int:
        return run_job(lambda: job.main(["--config", str(self.out / "config.toml"), *arguments]))

    def enrol(self, name: str, date: datetime.date = DAY, *more: str) -> int:
        return self.run(enrol, "--experiment", name, "--date", str(date), *more)

    def read(self, name: str, *more: str) -> int:
        return self.run(read_experiment, "--experiment", name, *more)

    def manifest(self, place: str, kind: str) -> Manifest:
        return read_manifest(Folder.at(self.out / place), kind=kind, build_hint="")

    def table(self, place: str, kind: str) -> pa.Table:
        (entry,) = parquet_files(self.manifest(place, kind))
        return pq.read_table(self.out / place / entry.path, partitioning=None)

    def assignment(self, name: str) -> dict[str, dict[str, object]]:
        """By advertiser."""
        rows = self.table(f"experiments/{name}/assignment", "assignment").to_pylist()
        return {row["advertiser_id"]: row for row in rows}

    def arms(self, name: str) -> dict[str, object]:
        return {advertiser: row["arm"] for advertiser, row in self.assignment(name).items()}

    def listed(self, name: str, arm: str, date: datetime.date = DAY) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = self.table(f"experiments/{name}/lists/{arm}/dt={date}", "list").to_pylist()
        return rows

    def reading(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.out / f"experiments/{name}/reading/experiment.json").read_text())
        return found

    def published(self, name: str) -> dict[str, bytes]:
        """Every manifest of an experiment, by path."""
        root = self.out / "experiments" / name
        return {str(path): path.read_bytes() for path in sorted(root.rglob("manifest.json"))}


def with_columns(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """The table with some columns replaced."""
    for name, column in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, pa.field(name, column.type), column)
    return table
