"""What a dataset must hold, row by row, worked out by plain loops over the raw rows of a :mod:`raw_world`.

Written from the contract alone (``m2m_model.contracts`` and the design), never from the Spark code, to be compared with
it. The Spark SQL expressions of the world's config have Python twins here.
"""

import datetime
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import numpy as np

from etl.config import AttributeConfig, EtlConfig, SequenceFeature
from tests.etl.raw_world import DAY, ZONE, Row, World

Number = int | float | Decimal
Key = tuple[Any, str, datetime.date]
"""Advertiser, scenario, as-of day."""
Split = Literal["train", "validation", "test"]


def _total(column: str) -> Callable[[list[Row]], Number | None]:
    def add(rows: list[Row]) -> Number | None:
        values = [row[column] for row in rows if row[column] is not None]
        return sum(values[1:], values[0]) if values else None

    return add


def _rate(rows: list[Row]) -> float | None:
    views = _total("views")(rows)
    clicks = _total("clicks")(rows)
    return clicks / views if views and clicks is not None else None  # type: ignore[operator,return-value]


AGGREGATES: dict[str, Callable[[list[Row]], Number | bool | None]] = {
    "count_if(event = 'bid_change')": lambda rows: sum(row["event"] == "bid_change" for row in rows),
    "count_if(event = 'login')": lambda rows: sum(row["event"] == "login" for row in rows),
    "count(distinct item)": lambda rows: len({row["item"] for row in rows} - {None}),
    "sum(amount)": _total("amount"),
    "sum(clicks)": _total("clicks"),
    "sum(spend)": _total("spend"),
    "sum(gmv)": _total("gmv"),
    "max(quality)": lambda rows: max((row["quality"] for row in rows if row["quality"] is not None), default=None),
    "try_divide(sum(clicks), sum(views))": _rate,
    "cast(count(*) > 0 as int)": lambda rows: int(bool(rows)),
    "count(*) > 0": bool,
    "sum(clicks) > 0": lambda rows: sum(row["clicks"] for row in rows) > 0,
}

ATTRIBUTES: dict[str, Callable[[Row, datetime.date], Any]] = {
    "industry": lambda row, as_of: row["industry"],
    "tier": lambda row, as_of: row["tier"],
    "wallet * 2": lambda row, as_of: None if row["wallet"] is None else row["wallet"] * 2,
    "medium": lambda row, as_of: row["medium"],
    "traffic": lambda row, as_of: row["traffic"],
    "dayofweek(as_of)": lambda row, as_of: as_of.isoweekday() % 7 + 1,
    "datediff(as_of, day)": lambda row, as_of: (as_of - row["day"]).days,
}


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
    """Expected splits, keys, spec and rows of ``world``."""

    def __init__(self, world: World, as_known_at: datetime.datetime | None = None) -> None:
        self.config: EtlConfig = world.config
        self.tables = world.tables
        self.raw, self.steps = world.config.raw, world.config.sequence
        self.facts: dict[str, dict[tuple[Any, str | None, datetime.date], list[Row]]] = {}
        for name, table in self.raw.facts.items():
            by_key: dict[tuple[Any, str | None, datetime.date], list[Row]] = defaultdict(list)
            for row in world.tables[name]:
                if table.arrived_at and as_known_at is not None and row[table.arrived_at] > as_known_at:
                    continue
                moment = row[table.time]
                day = moment.astimezone(ZONE).date() if table.kind == "events" else moment
                by_key[row[table.advertiser], row[table.scenario], day].append(row)
            self.facts[name] = dict(by_key)
        self.advertisers = sorted({key[0] for facts in self.facts.values() for key in facts})

    # Splits

    @cached_property
    def as_of_days(self) -> dict[Split, list[datetime.date]]:
        split, gap = self.config.split, self.steps.horizon + self.steps.availability_lag_days
        first = self.raw.first_day + (self.steps.availability_lag_days + self.steps.length - 1) * DAY
        count = (self.raw.last_day - self.steps.horizon * DAY - first).days + 1
        if split.train and split.validation and split.test:
            spans = [split.train, split.validation, split.test]
        else:
            # The worlds' day count divides evenly, so that rounding is no question here.
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

    # Daily values

    def rows(self, table: str, advertiser: Any, scenario: str | None, day: datetime.date) -> list[Row]:
        """Rows of one advertiser and day, in one scenario, or with ``None`` in all and in none."""
        facts = self.facts[table]
        if scenario is not None:
            return facts.get((advertiser, scenario, day), [])
        return [row for (a, _, d), rows in self._by_advertiser[table].get((advertiser, day), []) for row in rows]

    @cached_property
    def _by_advertiser(self) -> dict[str, dict[tuple[Any, datetime.date], list[Any]]]:
        index: dict[str, dict[tuple[Any, datetime.date], list[Any]]] = {}
        for name, facts in self.facts.items():
            index[name] = defaultdict(list)
            for key, rows in facts.items():
                index[name][key[0], key[2]].append((key, rows))
        return index

    def value(self, table: str, expr: str, advertiser: Any, scenario: str | None, day: datetime.date) -> Number | None:
        """None is missing: a day outside the raw range, or a null. A day without rows is zero."""
        if not self.raw.first_day <= day <= self.raw.last_day:
            return None
        rows = self.rows(table, advertiser, scenario, day)
        return AGGREGATES[expr](rows) if rows else 0

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
        return self.live(self.last_train_day)

    def live(self, day: datetime.date) -> list[str]:
        key = self.raw.scenarios.key
        return sorted({row[key] for row in self.tables["scenarios"] if row[self.raw.scenarios.day] <= day})

    def snapshot(self, table: Literal["profile", "scenarios"], key: Any, day: datetime.date) -> Row | None:
        config = getattr(self.raw, table)
        rows = [row for row in self.tables[table] if row[config.key] == key and row[config.day] <= day]
        return max(rows, key=lambda row: row[config.day], default=None)

    @cached_property
    def edges(self) -> dict[str, tuple[float, ...]]:
        """Bucket edges of every sequence column."""
        last = self.last_train_day - self.steps.availability_lag_days * DAY
        edges = {}
        for sequence in ("behavior", "performance"):
            for name, feature, scenario in self.columns(sequence):
                table = feature.table or sequence
                facts = [key for key in self.facts[table] if self.raw.first_day <= key[2] <= last]
                scopes: set[tuple[Any, str | None, datetime.date]]
                if feature.scope == "advertiser":
                    scopes = {(a, None, d) for a, _, d in facts}
                else:
                    scopes = {(a, s, d) for a, s, d in facts if s is not None and scenario in (None, s)}
                values = [self.value(table, feature.expr, *scope) for scope in scopes]
                edges[name] = fit_edges(values, feature.buckets)
        return edges

    @cached_property
    def attributes(self) -> dict[str, dict[str, tuple[Any, ...]]]:
        """Edges or vocabulary of every attribute, by ``profile`` and ``scenario``."""
        seen = [row for row in self.tables["profile"] if row[self.raw.profile.day] <= self.last_train_day]
        profile = [(row, self.last_train_day) for row in seen]
        scenario = [
            (row, day)
            for day in self.as_of_days["train"]
            for name in self.live(day)
            if (row := self.snapshot("scenarios", name, day)) is not None
        ]
        return {
            "profile": {n: self._fit(a, profile) for n, a in self.config.features.profile.items()},
            "scenario": {n: self._fit(a, scenario) for n, a in self.config.features.scenario.items()},
        }

    @staticmethod
    def _fit(attribute: AttributeConfig, rows: list[tuple[Row, datetime.date]]) -> tuple[Any, ...]:
        values = [ATTRIBUTES[attribute.expr](row, day) for row, day in rows]
        if attribute.kind == "bucket":
            return fit_edges(values, attribute.buckets)
        return tuple(sorted({str(value) for value in values if value is not None}))

    # Keys

    def window(self, as_of: datetime.date) -> list[datetime.date]:
        last = as_of - self.steps.availability_lag_days * DAY
        return [last - back * DAY for back in reversed(range(self.steps.length))]

    def active_days(self, advertiser: Any, scenario: str, as_of: datetime.date) -> int:
        population = self.config.population
        days = (self.rows(population.table, advertiser, scenario, day) for day in self.window(as_of))
        return sum(bool(AGGREGATES[population.activity](rows)) for rows in days if rows)

    def eligible(self, advertiser: Any, scenario: str, as_of: datetime.date) -> bool:
        return self.active_days(advertiser, scenario, as_of) >= self.config.population.min_active_days

    def keys(self, population: Literal["own", "live"], as_of: datetime.date) -> list[Key]:
        live = self.live(as_of)
        pairs = [(a, s) for a in self.advertisers for s in live if self.eligible(a, s, as_of)]
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
                values = [self.value(table, feature.expr, advertiser, scope, day) for day in self.window(as_of)]
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
        daily = (self.value(config.table, config.expr, key[0], key[1], first + day * DAY) for day in range(days))
        return float(sum((Decimal(value) for value in daily if value is not None), Decimal(0)))

    def _history(self, task: str, key: Key) -> list[float]:
        last = key[2] - self.steps.availability_lag_days * DAY
        weeks = [self.task_sum(task, key, last - (7 * week - 1) * DAY, 7) for week in self._weeks]
        return [*weeks, self.task_sum(task, key, self.window(key[2])[0], self.steps.length)]

    @property
    def _weeks(self) -> range:
        return range(1, self.steps.history_weeks + 1)

    def _attribute_ids(self, kind: Literal["profile", "scenario"], key: Any, as_of: datetime.date) -> list[int]:
        row = self.snapshot("profile" if kind == "profile" else "scenarios", key, as_of)
        ids = []
        for name, attribute in getattr(self.config.features, kind).items():
            value = None if row is None else ATTRIBUTES[attribute.expr](row, as_of)
            fitted = self.attributes[kind][name]
            if attribute.kind == "bucket":
                ids.append(bucket_id(value, fitted))
            elif value is None:
                ids.append(0)
            else:
                ids.append(2 + fitted.index(str(value)) if str(value) in fitted else 1)
        return ids
