"""The vectorised kernel: fact rows of some advertisers in, dataset rows out.

Letters: A advertisers, S known scenarios, P = A * S pairs, C calendar days, K as-of days, N rows, F columns, M tasks.
Facts are bucketized once and scattered into dense calendars [P, C, F]; a sample's sequence is then one contiguous
block of T * F ids, whatever the overlap of windows.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from etl.calendars import Calendars, signed_log1p
from etl.chunk import Facts
from etl.plan import AsOf, WindowPlan
from etl.profile import ProfileIds
from etl.task_values import Window, history_windows, task_values, window_sums
from m2m_model.contracts.schema import dataset_schema

Columns = dict[str, pa.Array | np.ndarray]


def dataset_rows(facts: Facts, plan: WindowPlan) -> Iterator[tuple[AsOf, pa.RecordBatch]]:
    """Dataset rows of the chunk's advertisers, one batch per as-of day that has any, ordered by advertiser."""
    calendars, profile = Calendars(facts, plan), profile_ids(facts, plan)
    for index, as_of in enumerate(plan.as_of):
        p, _ = chosen_pairs(calendars, index)
        if not len(p):
            continue
        columns = feature_columns(calendars, profile, index, p)
        if plan.labels:
            columns |= label_columns(calendars, index, p)
        yield as_of, record_batch(columns, plan)


def profile_ids(facts: Facts, plan: WindowPlan) -> ProfileIds:
    spec = plan.spec
    return ProfileIds(facts.profile, len(facts.advertisers), spec.profile, snapshot_days=spec.snapshot_days)


def chosen_pairs(cal: Calendars, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs [N] of an as-of day's rows, and which pairs are eligible [P]."""
    plan, (begin, end) = cal.plan, cal.plan.window(index)
    active_days = (cal.active[:, end] - cal.active[:, begin]).reshape(-1, len(plan.scenarios))
    # A scenario exists from its first snapshot on, whatever facts it has before.
    eligible = (active_days >= plan.spec.activity.min_active_days) & plan.live[index]
    if plan.as_of[index].population == "own":
        chosen = eligible
    else:
        chosen = eligible.any(axis=1, keepdims=True) & plan.live[index]
    return np.flatnonzero(chosen), eligible.reshape(-1)


def feature_columns(cal: Calendars, profile: ProfileIds, index: int, p: np.ndarray) -> Columns:
    """All columns but the labels, of the pairs ``p`` on an as-of day."""
    plan, spec = cal.plan, cal.plan.spec
    as_of, (begin, end) = plan.as_of[index], plan.window(index)
    a, s = np.divmod(p, len(plan.scenarios))
    active_days = cal.active[p, end] - cal.active[p, begin]
    columns: Columns = {
        "advertiser_id": cal.facts.advertisers.take(pa.array(a)),
        "scenario_id": pa.array(plan.scenarios, pa.string()).take(pa.array(s)),
        "as_of": pa.repeat(pa.scalar(as_of.date, pa.date32()), len(p)),
        "scenario_index": np.array([spec.scenario_index(name) for name in plan.scenarios], np.int16)[s],
        "eligible": active_days >= spec.activity.min_active_days,
        "active_days": active_days.astype(np.int16),
        "behavior_ids": cal.ids["behavior"][p, begin:end],
        "performance_ids": cal.ids["performance"][p, begin:end],
        "profile_ids": profile.at(as_of.day)[a],
        "attribute_ids": plan.attribute_ids[index][s],
    }
    history = _task_values(cal, p, history_windows(spec, begin, end))
    dense = cal.dense[p, begin:end].transpose(0, 2, 1).reshape(len(p), -1)
    columns["dense"] = np.concatenate([dense, signed_log1p(history.reshape(len(p), -1))], axis=1)
    for position, task in enumerate(spec.tasks):
        columns[f"history_{task.name}"] = history[:, position]
    return columns


def label_columns(cal: Calendars, index: int, p: np.ndarray) -> Columns:
    """Labels, and exposures of rates, of the pairs ``p`` on an as-of day."""
    spec, today = cal.plan.spec, cal.plan.as_of[index].day - cal.plan.start + 1
    windows = [(today, today + spec.horizon)]
    labels = _task_values(cal, p, windows)
    columns: Columns = {}
    for position, task in enumerate(spec.tasks):
        columns[f"label_{task.name}"] = labels[:, position, 0]
        if task.exposure is not None:
            exposed = window_sums(cal.exposures[position], p, windows)[:, 0, 0]
            columns[f"exposure_{task.name}"] = exposed / 10**task.exposure.scale
    return columns


def record_batch(columns: Mapping[str, pa.Array | np.ndarray], plan: WindowPlan) -> pa.RecordBatch:
    schema = dataset_schema(plan.spec, labels=plan.labels)
    return pa.RecordBatch.from_arrays([_array(columns[f.name], f.type) for f in schema], schema=schema)


def _task_values(cal: Calendars, p: np.ndarray, windows: Sequence[Window]) -> np.ndarray:
    exposures = {task: window_sums(totals, p, windows)[:, 0] for task, totals in cal.exposures.items()}
    return task_values(window_sums(cal.totals, p, windows), exposures, cal.plan.spec)


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
