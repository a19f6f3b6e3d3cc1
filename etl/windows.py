"""The vectorised kernel: fact rows of some advertisers in, dataset rows out.

Letters: A advertisers, S known scenarios, P = A * S pairs, C calendar days, K as-of days, N rows, F columns, M tasks.
Facts are bucketized once and scattered into dense calendars [P, C, F]; a sample's sequence is then one contiguous
block of T * F ids, whatever the overlap of windows.
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from etl.discretize import bucket_ids
from etl.facts import Source
from etl.pack import Facts, SourceFacts
from etl.profile import ProfileIds
from m2m_model.contracts.schema import dataset_schema, sequence_type
from m2m_model.contracts.spec import MISSING_ID, ZERO_ID, DatasetSpec, SequenceColumn

Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class AsOf:
    """One as-of day of the build."""

    date: datetime.date
    day: int
    """Days since ``raw.first_day``."""
    split: str
    population: str
    """``own`` or ``live``, see ``PopulationConfig``."""


@dataclass(frozen=True)
class WindowPlan:
    """Everything the kernel needs beside the facts; small, sent to every task."""

    spec: DatasetSpec
    sources: tuple[Source, ...]
    scenarios: tuple[str, ...]
    as_of: tuple[AsOf, ...]
    last_day: int
    """Last day of the raw calendar, counted from its first."""
    attribute_ids: np.ndarray
    """[K, S, attributes]"""
    live: np.ndarray
    """[K, S]"""
    labels: bool

    @property
    def start(self) -> int:
        """First calendar day that any window needs."""
        return min(a.day for a in self.as_of) - self.spec.availability_lag_days - self.spec.history_days + 1

    @property
    def days(self) -> int:
        """C: calendar days from ``start`` to the end of the last label window."""
        return max(a.day for a in self.as_of) + self.spec.horizon - self.start + 1


def dataset_rows(facts: Facts, plan: WindowPlan) -> Iterator[tuple[AsOf, pa.RecordBatch]]:
    """Dataset rows of the chunk's advertisers, one batch per as-of day that has any, ordered by advertiser."""
    calendars, profile = _Calendars(facts, plan), ProfileIds(facts.profile, len(facts.advertisers), plan.spec.profile)
    for index, as_of in enumerate(plan.as_of):
        batch = _rows_of_day(calendars, profile, index, as_of)
        if batch is not None:
            yield as_of, batch


class _Calendars:
    """Dense calendars of a chunk; a pair p = a * S + s is an advertiser in a scenario."""

    def __init__(self, facts: Facts, plan: WindowPlan) -> None:
        self.facts, self.plan, spec = facts, plan, plan.spec
        self.pairs = len(facts.advertisers) * len(plan.scenarios)
        calendar_days = np.arange(plan.start, plan.start + plan.days)
        observed = (calendar_days >= 0) & (calendar_days <= plan.last_day)
        self.sources = [self._inside(source) for source in facts.sources]
        self.ids = {name: self._ids(spec.sequence(name), observed) for name in ("behavior", "performance")}
        self.dense = self._dense([c for c in (*spec.behavior, *spec.performance) if c.dense])
        self.totals = self._running_totals(
            [self._daily(task.table, task.expr, task.scale) for task in spec.tasks], np.float64
        )
        where, activity = self._daily(spec.activity.table, spec.activity.expr)
        self.active = self._running_totals([(where, activity > 0)], np.int32)[..., 0]

    def _inside(self, source: SourceFacts) -> SourceFacts:
        """Facts that fall into the calendar, with days counted from its start."""
        day = source.day - self.plan.start
        inside = (day >= 0) & (day < self.plan.days)
        return replace(source, day=day) if inside.all() else replace(source, day=day).take(inside)

    def _source(self, table: str, by_scenario: bool) -> tuple[Source, SourceFacts]:
        index = next(i for i, s in enumerate(self.plan.sources) if (s.table, s.by_scenario) == (table, by_scenario))
        return self.plan.sources[index], self.sources[index]

    def _ids(self, columns: Sequence[SequenceColumn], observed: np.ndarray) -> np.ndarray:
        """Bucket ids [P, C, F]: zero on observed days without a row, missing outside the raw calendar."""
        dtype = sequence_type(tuple(columns)).to_pandas_dtype()
        ids = np.empty((self.pairs, self.plan.days, len(columns)), dtype)
        ids[...] = np.where(observed, ZERO_ID, MISSING_ID)[:, None]
        for position, column in enumerate(columns):
            self._scatter(ids, position, column, partial(bucket_ids, edges=column.edges))
        return ids

    def _dense(self, columns: Sequence[SequenceColumn]) -> np.ndarray:
        """Signed log1p values [P, C, F]; zero where there is no row or the value is missing."""
        dense = np.zeros((self.pairs, self.plan.days, len(columns)), np.float32)
        for position, column in enumerate(columns):
            self._scatter(dense, position, column, signed_log1p)
        return dense

    def _scatter(self, target: np.ndarray, position: int, column: SequenceColumn, encode: Encode) -> None:
        """Write a column's encoded facts into ``target`` [P, C, F], for all scenarios where its scope is not own."""
        source, facts = self._source(column.table, column.scope != "advertiser")
        values, advertiser, scenario, day = (
            facts.values[source.position(column.expr)],
            facts.advertiser,
            facts.scenario,
            facts.day,
        )
        if column.scope == "each_scenario":
            rows = scenario == self.plan.scenarios.index(str(column.scenario))
            values, advertiser, day = values[rows], advertiser[rows], day[rows]
        encoded, scenarios = encode(values), len(self.plan.scenarios)
        for s in [scenario] if column.scope == "own" else range(scenarios):
            target[advertiser * scenarios + s, day, position] = encoded

    def _daily(self, table: str, expr: str, scale: int = 0) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Pairs and days of a task or the activity rule, and its values there, 0 for null."""
        source, facts = self._source(table, True)
        pair = facts.advertiser * len(self.plan.scenarios) + facts.scenario
        return (pair, facts.day), np.nan_to_num(facts.values[source.position(expr, scale)])

    def _running_totals(self, columns: Sequence[tuple[Any, np.ndarray]], dtype: type) -> np.ndarray:
        """[P, C + 1, M]: entry c is the sum of the days before c. Exact on integers."""
        totals: np.ndarray = np.zeros((self.pairs, self.plan.days + 1, len(columns)), dtype)
        for position, ((pair, day), values) in enumerate(columns):
            totals[pair, day + 1, position] = values
        np.cumsum(totals, axis=1, out=totals)
        return totals


def signed_log1p(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|) as float32, 0 for NaN."""
    values = np.nan_to_num(values)
    result: np.ndarray = (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    return result


def _rows_of_day(cal: _Calendars, profile: ProfileIds, index: int, as_of: AsOf) -> pa.RecordBatch | None:
    plan, spec = cal.plan, cal.plan.spec
    end = as_of.day - spec.availability_lag_days - plan.start + 1
    begin = end - spec.sequence_length
    active_days = cal.active[:, end] - cal.active[:, begin]
    eligible = active_days >= spec.activity.min_active_days
    if as_of.population == "own":
        chosen = eligible
    else:
        by_advertiser = eligible.reshape(-1, len(plan.scenarios))
        chosen = (by_advertiser.any(axis=1, keepdims=True) & plan.live[index]).reshape(-1)
    p = np.flatnonzero(chosen)
    if not len(p):
        return None
    a, s = np.divmod(p, len(plan.scenarios))
    columns: dict[str, pa.Array | np.ndarray] = {
        "advertiser_id": cal.facts.advertisers.take(pa.array(a)),
        "scenario_id": pa.array(plan.scenarios, pa.string()).take(pa.array(s)),
        "as_of": pa.repeat(pa.scalar(as_of.date, pa.date32()), len(p)),
        "scenario_index": np.array([spec.scenario_index(name) for name in plan.scenarios], np.int16)[s],
        "eligible": eligible[p],
        "active_days": active_days[p].astype(np.int16),
        "behavior_ids": cal.ids["behavior"][p, begin:end],
        "performance_ids": cal.ids["performance"][p, begin:end],
        "profile_ids": profile.at(as_of.day)[a],
        "attribute_ids": plan.attribute_ids[index][s],
    }
    history, labels = _sums(cal, p, begin, end, as_of.day - plan.start + 1)
    dense = cal.dense[p, begin:end].transpose(0, 2, 1).reshape(len(p), -1)
    columns["dense"] = np.concatenate([dense, signed_log1p(history.reshape(len(p), -1))], axis=1)
    for position, task in enumerate(spec.tasks):
        columns[f"history_{task.name}"] = history[:, position]
        columns[f"label_{task.name}"] = labels[:, position]
    schema = dataset_schema(spec, labels=plan.labels)
    return pa.RecordBatch.from_arrays([_array(columns[f.name], f.type) for f in schema], schema=schema)


def _sums(cal: _Calendars, p: np.ndarray, begin: int, end: int, today: int) -> tuple[np.ndarray, np.ndarray]:
    """History [N, M, weeks + 1] (weekly sums, most recent first, then the T-day sum) and labels [N, M]."""
    spec = cal.plan.spec
    weeks = end - 7 * np.arange(spec.history_weeks)
    starts, stops = [*(weeks - 7), begin, today], [*weeks, end, today + spec.horizon]
    totals = cal.totals[p[:, None], np.array([starts, stops]).reshape(1, -1)]
    before, after = np.split(totals, 2, axis=1)
    sums = (after - before).transpose(0, 2, 1) / 10.0 ** np.array([task.scale for task in spec.tasks])[None, :, None]
    return sums[..., :-1], sums[..., -1]


def _array(column: pa.Array | np.ndarray, kind: pa.DataType) -> pa.Array:
    if not isinstance(column, np.ndarray):
        return column
    if not pa.types.is_list(kind):
        return pa.array(column, kind)
    rows = len(column)
    flat = np.ascontiguousarray(column).reshape(-1)
    length = len(flat) // rows if rows else 0
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * length)
    return pa.ListArray.from_arrays(offsets, pa.array(flat, kind.value_type))
