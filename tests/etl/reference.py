"""What a dataset must hold, row by row, worked out by plain loops over raw rows.

Written from the contract alone (``m2m_model.contracts`` and the design), never from the Spark code, to be compared with
it. Takes a made world, or any config with the raw tables it describes (:meth:`Reference.of_folder`), as long as their
rows fit into memory as Python objects (a few million) and :mod:`tests.etl.twins` knows the config's expressions.
"""

import datetime
import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow.parquet as pq

from etl.config import AttributeConfig, EtlConfig, SequenceFeature
from tests.etl.raw_rows import FactKey, RawRows
from tests.etl.raw_world import DAY, Row, World
from tests.etl.twins import Number, aggregate, scalar, text

Key = tuple[Any, str, datetime.date]
"""Advertiser, scenario, as-of day."""
Split = Literal["train", "validation", "test"]


def fit_edges(values: Sequence[Number | None], buckets: int) -> tuple[float, ...]:
    """Distinct values at ranks ceil(k n / buckets), k = 1 .. buckets - 1, of the non-zero ones sorted."""
    ordered = sorted(float(value) for value in values if value is not None and value != 0)
    ranks = [math.ceil(k * len(ordered) / buckets) for k in range(1, buckets)] if ordered else []
    return tuple(sorted({ordered[rank - 1] for rank in ranks}))


def bucket_id(value: Number | None, edges: Sequence[float]) -> int:
    if value is None:
        return 0
    return 1 if value == 0 else 2 + sum(edge < float(value) for edge in edges)


class Reference:
    """Expected splits, keys, spec and rows of raw ``tables`` under ``config``, see :class:`RawRows`."""

    def __init__(
        self, config: EtlConfig, tables: dict[str, list[Row]], as_known_at: datetime.datetime | None = None
    ) -> None:
        self.config, self.raw, self.steps = config, config.raw, config.sequence
        self.rows = RawRows(config, tables, as_known_at)

    @classmethod
    def of_world(cls, world: World, as_known_at: datetime.datetime | None = None) -> Self:
        return cls(world.config, world.tables, as_known_at)

    @classmethod
    def of_folder(cls, config: EtlConfig, raw: Path, as_known_at: datetime.datetime | None = None) -> Self:
        """Of the Parquet tables that ``config`` describes in the folder ``raw``."""
        paths = {name: table.path for name, table in config.raw.facts.items()}
        paths |= {"profile": config.raw.profile.path, "scenarios": config.raw.scenarios.path}
        tables = {name: pq.read_table(path or raw / name).to_pylist() for name, path in paths.items()}
        return cls(config, tables, as_known_at)

    # Splits

    @cached_property
    def as_of_days(self) -> dict[Split, list[datetime.date]]:
        split, gap = self.config.split, self.steps.horizon + self.steps.availability_lag_days
        first = self.raw.first_day + (self.steps.availability_lag_days + self.steps.length - 1) * DAY
        count = (self.raw.last_day - self.steps.horizon * DAY - first).days + 1
        if split.train and split.validation and split.test:
            spans = [split.train, split.validation, split.test]
        else:
            cuts = [count * sum(split.ratio[:part]) // sum(split.ratio) for part in range(4)]
            days = [first + cut * DAY for cut in cuts]
            train_end = days[1] - DAY
            validation = (max(days[1], train_end + gap * DAY), days[2] - DAY)
            spans = [(days[0], train_end), validation, (max(days[2], validation[1] + gap * DAY), days[3] - DAY)]
        strides = (split.train_stride, split.validation_stride, split.test_stride)
        names: tuple[Split, ...] = ("train", "validation", "test")
        return {
            name: sorted(span[1] - back * DAY for back in range(0, (span[1] - span[0]).days + 1, stride))
            for name, span, stride in zip(names, spans, strides, strict=True)
        }

    @property
    def last_train_day(self) -> datetime.date:
        return self.as_of_days["train"][-1]

    # Spec

    def columns(
        self, sequence: Literal["behavior", "performance"]
    ) -> Iterator[tuple[str, SequenceFeature, str | None]]:
        """(column name, feature, scenario of an expanded column) in the order of the ids."""
        for name, feature in getattr(self.config.features, sequence).items():
            if feature.scope == "each_scenario":
                yield from ((f"{name}@{scenario}", feature, scenario) for scenario in self.scenarios)
            else:
                yield name, feature, None

    @cached_property
    def scenarios(self) -> list[str]:
        return sorted({name for day in self.as_of_days["train"] for name in self.rows.live(day)})

    @cached_property
    def edges(self) -> dict[str, tuple[float, ...]]:
        """Bucket edges of every sequence column."""
        last = self.last_train_day - self.steps.availability_lag_days * DAY
        edges = {}
        for sequence in ("behavior", "performance"):
            for name, feature, scenario in self.columns(sequence):
                table = feature.table or sequence
                facts = [key for key in self.rows.facts[table] if self.raw.first_day <= key[2] <= last]
                scopes: set[FactKey]
                if feature.scope == "advertiser":
                    scopes = {(a, None, d) for a, _, d in facts}
                else:
                    scopes = {(a, s, d) for a, s, d in facts if s is not None and scenario in (None, s)}
                values = [self.rows.value(table, feature.expr, *scope) for scope in scopes]
                edges[name] = fit_edges(values, feature.buckets)
        return edges

    @cached_property
    def attributes(self) -> dict[str, dict[str, tuple[Any, ...]]]:
        """Edges or vocabulary of every attribute, by ``profile`` and ``scenario``."""
        profiles = [row for rows in self.rows.snapshots["profile"].values() for row in rows]
        seen = [row for row in profiles if row[self.raw.profile.day] <= self.last_train_day]
        profile = [(row, self.last_train_day) for row in seen]
        scenario = [
            (row, day)
            for day in self.as_of_days["train"]
            for name in self.rows.live(day)
            if (row := self.rows.snapshot("scenarios", name, day)) is not None
        ]
        return {
            "profile": {n: self._fit(a, profile) for n, a in self.config.features.profile.items()},
            "scenario": {n: self._fit(a, scenario) for n, a in self.config.features.scenario.items()},
        }

    @staticmethod
    def _fit(attribute: AttributeConfig, rows: list[tuple[Row, datetime.date]]) -> tuple[Any, ...]:
        values = [scalar(attribute.expr)(row, day) for row, day in rows]
        if attribute.kind == "bucket":
            return fit_edges(values, attribute.buckets)
        return tuple(sorted({text(value) for value in values if value is not None}))

    # Keys

    def window(self, as_of: datetime.date) -> list[datetime.date]:
        last = as_of - self.steps.availability_lag_days * DAY
        return [last - back * DAY for back in reversed(range(self.steps.length))]

    def active_days(self, advertiser: Any, scenario: str, as_of: datetime.date) -> int:
        population = self.config.population
        days = (self.rows.of(population.table, advertiser, scenario, day) for day in self.window(as_of))
        return sum(bool(aggregate(population.activity)(rows)) for rows in days if rows)

    def eligible(self, advertiser: Any, scenario: str, as_of: datetime.date) -> bool:
        return self.active_days(advertiser, scenario, as_of) >= self.config.population.min_active_days

    def keys(self, population: Literal["own", "live"], as_of: datetime.date) -> list[Key]:
        live = self.rows.live(as_of)
        pairs = [(a, s) for a in self.rows.advertisers for s in live if self.eligible(a, s, as_of)]
        if population == "live":
            pairs = [(a, s) for a in sorted({a for a, _ in pairs}) for s in live]
        return [(a, s, as_of) for a, s in pairs]

    @cached_property
    def split_keys(self) -> dict[Split, list[Key]]:
        who = self.config.population
        return {
            name: [key for day in days for key in self.keys(who.train if name == "train" else who.evaluate, day)]
            for name, days in self.as_of_days.items()
        }

    # Rows

    def row(self, key: Key) -> Row:
        """One whole row, labels included, as ``pyarrow`` would give it to Python."""
        advertiser, scenario, as_of = key
        active = self.active_days(*key)
        row: Row = {
            "advertiser_id": advertiser,
            "scenario_id": scenario,
            "as_of": as_of,
            "scenario_index": self.scenarios.index(scenario) + 1 if scenario in self.scenarios else 0,
            "eligible": active >= self.config.population.min_active_days,
            "active_days": active,
            "profile_ids": self._attribute_ids("profile", advertiser, as_of),
            "attribute_ids": self._attribute_ids("scenario", scenario, as_of),
        }
        dense: list[Number] = []
        for sequence in ("behavior", "performance"):
            ids: list[list[int]] = []
            for name, feature, column_scenario in self.columns(sequence):
                scope = {"own": scenario, "each_scenario": column_scenario, "advertiser": None}[feature.scope]
                table = feature.table or sequence
                values = [self.rows.value(table, feature.expr, advertiser, scope, day) for day in self.window(as_of)]
                ids.append([bucket_id(value, self.edges[name]) for value in values])
                dense += [value or 0 for value in values] if feature.dense else []
            row[f"{sequence}_ids"] = [step for steps in zip(*ids, strict=True) for step in steps]
        for name in self.config.tasks:
            row[f"history_{name}"] = self._history(name, key)
            row[f"label_{name}"] = self.task_sum(name, key, as_of + DAY, self.steps.horizon)
            dense += row[f"history_{name}"]
        signed = [math.copysign(np.log1p(abs(float(value))), float(value)) for value in dense]
        row["dense"] = np.array(signed, dtype=np.float64).astype(np.float32).tolist()
        return row

    def task_sum(self, task: str, key: Key, first: datetime.date, days: int) -> float:
        """Sum over ``days`` days from ``first`` on in the own scenario, exact."""
        config = self.config.tasks[task]
        daily = (self.rows.value(config.table, config.expr, key[0], key[1], first + day * DAY) for day in range(days))
        return float(sum((Decimal(value) for value in daily if value is not None), Decimal(0)))

    def _history(self, task: str, key: Key) -> list[float]:
        last = key[2] - self.steps.availability_lag_days * DAY
        weeks = [self.task_sum(task, key, last - (7 * week - 1) * DAY, 7) for week in self._weeks]
        return [*weeks, self.task_sum(task, key, self.window(key[2])[0], self.steps.length)]

    @property
    def _weeks(self) -> range:
        return range(1, self.steps.history_weeks + 1)

    def _attribute_ids(self, kind: Literal["profile", "scenario"], key: Any, as_of: datetime.date) -> list[int]:
        row = self.rows.snapshot("profile" if kind == "profile" else "scenarios", key, as_of)
        ids = []
        for name, attribute in getattr(self.config.features, kind).items():
            value = None if row is None else scalar(attribute.expr)(row, as_of)
            fitted = self.attributes[kind][name]
            if attribute.kind == "bucket":
                ids.append(bucket_id(value, fitted))
            elif value is None:
                ids.append(0)
            else:
                ids.append(2 + fitted.index(text(value)) if text(value) in fitted else 1)
        return ids
