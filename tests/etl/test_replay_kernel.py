"""The replaying kernel against a slow twin: a day's facts picked one by one and put through the plain kernel."""

import datetime
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa

from etl.chunk import Facts, SourceFacts
from etl.facts import NO_SCENARIO, PROFILE_SOURCE, Source, Value
from etl.plan import AsOf, WindowPlan
from etl.replay import compared_features, difference_table, replayed_rows
from etl.windows import dataset_rows
from m2m_model.contracts.spec import SequenceColumn
from tests.training.tiny import SPEC

DAYS, LAG, SCENARIOS, ADVERTISERS = 40, 1, ("a", "b"), 5
COLUMN = SequenceColumn(name="x", expr="sum(x)", edges=(2.0, 5.0), table="performance", scope="own", dense=True)
TASK = SPEC.tasks[0].model_copy(update={"expr": "sum(x)"})
ACTIVITY = SPEC.activity.model_copy(update={"expr": "count(*) > 0", "min_active_days": 2})
PLAN_SPEC = SPEC.model_copy(
    update={
        "behavior": (),
        "performance": (COLUMN,),
        "scenario_attributes": (),
        "tasks": (TASK,),
        "activity": ACTIVITY,
        "availability_lag_days": LAG,
        "history_weeks": 1,
        "horizon": 3,
    }
)
SOURCES = (Source("performance", True, (Value("sum(x)", 0, True), Value("count(*) > 0"))),)
Row = tuple[int, int, int, int, list[float], list[str], int]
"""Advertiser, source, scenario, day, values, words, seen."""


def random_rows(seed: int) -> list[Row]:
    """Facts of which every third has a late version or two, and profiles."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for advertiser in range(ADVERTISERS):
        rows.append((advertiser, PROFILE_SOURCE, NO_SCENARIO, 9 * advertiser, [], ["sm"[advertiser % 2]], 0))
        for scenario in range(len(SCENARIOS)):
            for day in np.flatnonzero(random.random(DAYS) < 0.5):
                late = sorted(random.choice(np.arange(1, 12), random.integers(0, 3), replace=False))
                value = 0.0
                for after in [0, *late] if random.random() < 0.9 else late:  # a tenth is not there on time
                    value += random.integers(1, 4)
                    seen = int(day) + LAG + int(after)
                    rows.append((advertiser, 0, scenario, int(day), [value, 1.0], [], seen))
    return rows


def facts(rows: list[Row], *, versions: bool) -> Facts:
    def of(source: int, width: int, words: int) -> SourceFacts:
        own = sorted((row for row in rows if row[1] == source), key=lambda row: row[0])
        numbers = np.array([row[:4] for row in own], np.int64).reshape(-1, 4)
        return SourceFacts(
            advertiser=numbers[:, 0],
            scenario=numbers[:, 2],
            day=numbers[:, 3],
            values=tuple(np.array([row[4][position] for row in own]) for position in range(width)),
            words=tuple(pa.array([row[5][position] for row in own], pa.string()) for position in range(words)),
            seen=np.array([row[6] for row in own]) if versions else None,
        )

    ids = pa.array([f"adv{number}" for number in range(ADVERTISERS)])
    return Facts(advertisers=ids, sources=(of(0, len(SOURCES[0].values), 0),), profile=of(PROFILE_SOURCE, 0, 1))


def plan(as_of: range) -> WindowPlan:
    days = tuple(
        AsOf(datetime.date(2017, 1, 1) + datetime.timedelta(days=day), day, "train", "own" if day % 2 else "live")
        for day in as_of
    )
    shape = (len(days), len(SCENARIOS))
    return WindowPlan(
        spec=PLAN_SPEC,
        sources=SOURCES,
        scenarios=SCENARIOS,
        as_of=days,
        last_day=DAYS - 1,
        attribute_ids=np.zeros((*shape, 0), np.int32),
        live=np.ones(shape, bool),
        labels=True,
        replay=True,
    )


def known_by(rows: list[Row], day: int | None) -> list[Row]:
    """The last version of each key that is known by ``day``, or of all."""
    versions: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if day is None or row[6] <= day:
            versions[row[:4]].append(row)
    return [max(candidates, key=lambda row: row[6]) for candidates in versions.values()]


def test_every_day_is_the_plain_kernel_over_what_was_known() -> None:
    rows, whole = random_rows(0), plan(range(8, DAYS - 3))
    matured = dict(dataset_rows(facts(known_by(rows, None), versions=False), whole))
    found = {as_of: batch for as_of, batch, _ in replayed_rows(facts(rows, versions=True), whole)}
    changed = 0
    for index, as_of in enumerate(whole.as_of):
        day = replace(whole, as_of=(as_of,), live=whole.live[index : index + 1])
        day = replace(day, attribute_ids=whole.attribute_ids[index : index + 1])
        ((_, expected),) = dataset_rows(facts(known_by(rows, as_of.day), versions=False), day)
        names = [name for name in expected.schema.names if not name.startswith("label_")]
        assert found[as_of].select(names).equals(expected.select(names))
        changed += not expected.select(names).equals(matured[as_of].select(names))
        labels = _labels(matured[as_of])
        assert all(labels.get(key, label) == label for key, label in _labels(found[as_of]).items())
    assert changed > len(whole.as_of) / 2


def _labels(batch: pa.RecordBatch) -> dict[tuple[str, str], float]:
    columns = (batch[name].to_pylist() for name in ("advertiser_id", "scenario_id", "label_units"))
    return {(advertiser, scenario): label for advertiser, scenario, label in zip(*columns, strict=True)}


def test_differences_are_counted_per_feature() -> None:
    rows, one = random_rows(1), plan(range(20, 21))
    ((as_of, batch, counts),) = replayed_rows(facts(rows, versions=True), one)
    ((_, matured),) = dataset_rows(facts(known_by(rows, None), versions=False), one)
    keys = list(_labels(batch))
    assert keys == list(_labels(matured)), "the day was chosen so that the same pairs are in both"
    ids = [np.array(table["performance_ids"].to_pylist()) for table in (batch, matured)]
    history = [np.array(table["history_units"].to_pylist()) for table in (batch, matured)]
    differs = ids[0] != ids[1]
    table = {entry["feature"]: entry for entry in difference_table(PLAN_SPEC, counts)}
    assert list(table) == compared_features(PLAN_SPEC) == ["performance.x", "history_units", "eligible"]
    assert table["performance.x"]["ids_differing"] == round(differs.mean(), 6) > 0
    assert table["performance.x"]["rows_differing"] == round(differs.any(axis=1).mean(), 6)
    assert table["history_units"]["rows_differing"] == round((history[0] != history[1]).any(axis=1).mean(), 6)
    assert table["history_units"]["ids_differing"] is None
    assert as_of.day == 20
