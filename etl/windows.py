"""The vectorised kernel: fact rows of some advertisers in, dataset rows out.

Letters: A advertisers, S known scenarios, C calendar days, K as-of days, N rows, F columns, M tasks.
Facts are bucketized once and scattered into dense calendars [A, S, C, F]; a sample's sequence is then one contiguous
block of T * F ids, whatever the overlap of windows.
"""

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from etl.discretize import bucket_ids, word_ids
from etl.facts import PROFILE_SOURCE, Source
from etl.quality import refuse_inexact
from etl.task_values import Window, history_windows, running_totals, task_values, window_sums
from m2m_model.contracts.schema import dataset_schema, sequence_type
from m2m_model.contracts.spec import MISSING_ID, ZERO_ID, DatasetSpec, SequenceColumn


@dataclass(frozen=True)
class Facts:
    """Fact rows as arrays; ``advertiser`` numbers the chunk's advertisers."""

    advertisers: pa.Array
    advertiser: np.ndarray
    source: np.ndarray
    scenario: np.ndarray
    day: np.ndarray
    values: pa.ListArray
    words: pa.ListArray
    seen: np.ndarray | None = None
    """As-of day from which a version is known, see :mod:`etl.replay`; None: every row always was."""

    def take(self, rows: np.ndarray) -> "Facts":
        """The given fact rows; advertisers keep their numbers."""
        return Facts(
            advertisers=self.advertisers,
            advertiser=self.advertiser[rows],
            source=self.source[rows],
            scenario=self.scenario[rows],
            day=self.day[rows],
            values=self.values.take(pa.array(rows)),
            words=self.words.take(pa.array(rows)),
        )

    def of(self, source: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advertiser [n], scenario [n], day [n] and values [n, width] of one source, null as NaN."""
        rows = np.flatnonzero(self.source == source)
        values = self.values.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False).astype(np.float64)
        return self.advertiser[rows], self.scenario[rows], self.day[rows], values.reshape(len(rows), width)


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
    replay: bool = False
    """Whether features are of what was known on each as-of day, see :mod:`etl.replay`."""

    @property
    def start(self) -> int:
        """First calendar day that any window needs."""
        return min(a.day for a in self.as_of) - self.spec.availability_lag_days - self.spec.history_days + 1

    @property
    def days(self) -> int:
        """C: calendar days from ``start`` to the end of the last label window."""
        return max(a.day for a in self.as_of) + self.spec.horizon - self.start + 1

    def window(self, index: int) -> tuple[int, int]:
        """First calendar day of an as-of day's T days, and the first after them."""
        end = self.as_of[index].day - self.spec.availability_lag_days - self.start + 1
        return end - self.spec.sequence_length, end


def dataset_rows(facts: Facts, plan: WindowPlan) -> Iterator[tuple[AsOf, pa.RecordBatch]]:
    """Dataset rows of the chunk's advertisers, one batch per as-of day that has any, ordered by advertiser."""
    calendars = Calendars(facts, plan)
    for index, as_of in enumerate(plan.as_of):
        batch = _rows_of_day(calendars, facts, plan, index)
        if batch is not None:
            yield as_of, batch


class Calendars:
    """Dense calendars of a chunk."""

    def __init__(self, facts: Facts, plan: WindowPlan) -> None:
        self.facts, self.plan, spec = facts, plan, plan.spec
        self.shape = (len(facts.advertisers), len(plan.scenarios), plan.days)
        calendar_days = np.arange(plan.start, plan.start + plan.days)
        self.observed = (calendar_days >= 0) & (calendar_days <= plan.last_day)
        self.sources = [facts.of(index, len(source.values)) for index, source in enumerate(plan.sources)]
        self.ids = {name: self._ids(spec.sequence(name)) for name in ("behavior", "performance")}
        self.dense = self._dense([c for c in (*spec.behavior, *spec.performance) if c.dense])
        tasks = [self._exact(task.table, task.expr, exact=True) for task in spec.tasks]
        self.totals = running_totals(np.stack(tasks, axis=-1))
        refuse_inexact(self.totals[:, :, -1], spec)
        per = {i: self._exact(t.table, t.exposure.expr, exact=True) for i, t in enumerate(spec.tasks) if t.exposure}
        self.exposures = {task: running_totals(calendar) for task, calendar in per.items()}
        active = self._exact(spec.activity.table, spec.activity.expr, exact=False) > 0
        self.active = running_totals(active.astype(np.int64))

    def _column(
        self, table: str, by_scenario: bool, expr: str, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advertiser, scenario, calendar day and value of the facts that fall into the calendar."""
        index = next(i for i, s in enumerate(self.plan.sources) if (s.table, s.by_scenario) == (table, by_scenario))
        advertiser, scenario, day, values = self.sources[index]
        day = day - self.plan.start
        inside = (day >= 0) & (day < self.plan.days)
        position = self.plan.sources[index].position(expr, exact=exact)
        return advertiser[inside], scenario[inside], day[inside], values[inside, position]

    def _ids(self, columns: Sequence[SequenceColumn]) -> np.ndarray:
        """Bucket ids [A, S, C, F]: zero on observed days without a row, missing outside the raw calendar."""
        dtype = sequence_type(tuple(columns)).to_pandas_dtype()
        ids = np.empty((*self.shape, len(columns)), dtype)
        ids[...] = np.where(self.observed, ZERO_ID, MISSING_ID)[:, None]
        for position, column in enumerate(columns):
            self._scatter(ids[..., position], column, lambda x, edges=column.edges: bucket_ids(x, edges))
        return ids

    def _dense(self, columns: Sequence[SequenceColumn]) -> np.ndarray:
        """Signed log1p values [A, S, C, F]; zero where there is no row or the value is missing."""
        dense = np.zeros((*self.shape, len(columns)), np.float32)
        for position, column in enumerate(columns):
            self._scatter(dense[..., position], column, signed_log1p)
        return dense

    def _scatter(self, target: np.ndarray, column: SequenceColumn, encode) -> None:  # type: ignore[no-untyped-def]
        """Write a column's encoded facts into ``target`` [A, S, C], for all S where its scope is not ``own``."""
        by_scenario = column.scope != "advertiser"
        advertiser, scenario, day, values = self._column(column.table, by_scenario, column.expr)
        if column.scope == "each_scenario":
            rows = scenario == self.plan.scenarios.index(str(column.scenario))
            advertiser, day, values = advertiser[rows], day[rows], values[rows]
        if column.scope == "own":
            target[advertiser, scenario, day] = encode(values)
        else:
            target[advertiser, :, day] = encode(values)[:, None]

    def _exact(self, table: str, expr: str, *, exact: bool) -> np.ndarray:
        """Daily values [A, S, C] of a task or the activity rule, 0 without a row."""
        calendar = np.zeros(self.shape, np.float64)
        advertiser, scenario, day, values = self._column(table, True, expr, exact=exact)
        calendar[advertiser, scenario, day] = np.nan_to_num(values)
        return calendar


def signed_log1p(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|) as float32, 0 for NaN."""
    values = np.nan_to_num(values)
    result: np.ndarray = (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    return result


def _rows_of_day(cal: Calendars, facts: Facts, plan: WindowPlan, index: int) -> pa.RecordBatch | None:
    a, s, _ = chosen_pairs(cal, plan, index)
    if not len(a):
        return None
    columns = feature_columns(cal, facts, plan, index, a, s)
    if plan.labels:
        columns |= label_columns(cal, plan, index, a, s)
    return record_batch(columns, plan)


def chosen_pairs(cal: Calendars, plan: WindowPlan, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Advertiser and scenario numbers [N] of an as-of day's rows, and who is eligible [A, S]."""
    as_of, begin, end = plan.as_of[index], *plan.window(index)
    active_days = cal.active[:, :, end] - cal.active[:, :, begin]
    # A scenario exists from its first snapshot on, whatever facts it has before.
    eligible = (active_days >= plan.spec.activity.min_active_days) & plan.live[index]
    if as_of.population == "own":
        chosen = eligible
    else:
        chosen = eligible.any(axis=1, keepdims=True) & plan.live[index][None, :]
    a, s = np.nonzero(chosen)
    return a, s, eligible


def feature_columns(
    cal: Calendars, facts: Facts, plan: WindowPlan, index: int, a: np.ndarray, s: np.ndarray
) -> dict[str, pa.Array | np.ndarray]:
    """All columns but the labels, of the pairs (a, s) on an as-of day."""
    spec, as_of, (begin, end) = plan.spec, plan.as_of[index], plan.window(index)
    active_days = cal.active[a, s, end] - cal.active[a, s, begin]
    columns: dict[str, pa.Array | np.ndarray] = {
        "advertiser_id": facts.advertisers.take(pa.array(a)),
        "scenario_id": pa.array(plan.scenarios, pa.string()).take(pa.array(s)),
        "as_of": pa.array([as_of.date] * len(a), pa.date32()),
        "scenario_index": np.array([spec.scenario_index(name) for name in plan.scenarios], np.int16)[s],
        "eligible": active_days >= spec.activity.min_active_days,
        "active_days": active_days.astype(np.int16),
        "behavior_ids": cal.ids["behavior"][a, s, begin:end],
        "performance_ids": cal.ids["performance"][a, s, begin:end],
        "profile_ids": _profile_ids(facts, plan, as_of)[a],
        "attribute_ids": plan.attribute_ids[index][s],
    }
    history = _task_values(cal, a, s, history_windows(spec, begin, end), spec)
    dense = cal.dense[a, s, begin:end].transpose(0, 2, 1).reshape(len(a), -1)
    columns["dense"] = np.concatenate([dense, signed_log1p(history.reshape(len(a), -1))], axis=1)
    for position, task in enumerate(spec.tasks):
        columns[f"history_{task.name}"] = history[:, position]
    return columns


def label_columns(
    cal: Calendars, plan: WindowPlan, index: int, a: np.ndarray, s: np.ndarray
) -> dict[str, pa.Array | np.ndarray]:
    """Labels, and exposures of rates, of the pairs (a, s) on an as-of day."""
    spec, today = plan.spec, plan.as_of[index].day - plan.start + 1
    windows = [(today, today + spec.horizon)]
    labels = _task_values(cal, a, s, windows, spec)
    columns: dict[str, pa.Array | np.ndarray] = {}
    for position, task in enumerate(spec.tasks):
        columns[f"label_{task.name}"] = labels[:, position, 0]
        if task.exposure is not None:
            exposed = window_sums(cal.exposures[position], a, s, windows)[:, 0]
            columns[f"exposure_{task.name}"] = exposed / 10**task.exposure.scale
    return columns


def record_batch(columns: Mapping[str, pa.Array | np.ndarray], plan: WindowPlan) -> pa.RecordBatch:
    schema = dataset_schema(plan.spec, labels=plan.labels)
    return pa.RecordBatch.from_arrays([_array(columns[f.name], f.type) for f in schema], schema=schema)


def _task_values(
    cal: Calendars, a: np.ndarray, s: np.ndarray, windows: Sequence[Window], spec: DatasetSpec
) -> np.ndarray:
    exposures = {task: window_sums(totals, a, s, windows) for task, totals in cal.exposures.items()}
    return task_values(window_sums(cal.totals, a, s, windows), exposures, spec)


def _profile_ids(facts: Facts, plan: WindowPlan, as_of: AsOf) -> np.ndarray:
    """[A, profile features]: ids of each advertiser's latest snapshot not after the as-of day, missing if none."""
    features = plan.spec.profile
    ids = np.zeros((len(facts.advertisers), len(features)), np.int32)
    holds = (facts.source == PROFILE_SOURCE) & (facts.day <= as_of.day)
    if plan.spec.snapshot_days is not None:
        holds &= facts.day > as_of.day - plan.spec.snapshot_days
    rows = np.flatnonzero(holds)
    if not len(rows) or not features:
        return ids
    rows = rows[np.lexsort((facts.day[rows], facts.advertiser[rows]))]
    owner = facts.advertiser[rows]
    latest = rows[np.append(owner[1:] != owner[:-1], True)]
    take = pa.array(latest)
    counts = {"bucket": 0, "vocabulary": 0}
    lists = {"bucket": facts.values.take(take), "vocabulary": facts.words.take(take)}
    widths = {kind: sum(f.kind == kind for f in features) for kind in counts}
    for position, feature in enumerate(features):
        offset, width = counts[feature.kind], widths[feature.kind]
        counts[feature.kind] += 1
        column = lists[feature.kind].flatten().take(pa.array(np.arange(len(latest)) * width + offset))
        if feature.kind == "bucket":
            encoded = bucket_ids(column.to_numpy(zero_copy_only=False).astype(np.float64), feature.edges)
        else:
            encoded = word_ids(column, feature.values)
        ids[facts.advertiser[latest], position] = encoded
    return ids


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
