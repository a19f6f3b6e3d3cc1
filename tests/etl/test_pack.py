"""Packing a shard's fact rows, without Spark."""

import numpy as np
import pyarrow as pa
import pytest

from etl.chunk import Facts
from etl.discretize import quantile_edges
from etl.edges import Answers, EdgeRequest, Questions, answer_partition, exact_edges
from etl.facts import NO_SCENARIO, PROFILE_SOURCE, Source, Value
from etl.pack import ADVERTISERS_PER_CHUNK, PackJob, Summary, pack_partition, unpack

SOURCES = (
    Source("performance", True, (Value("sum(cost)"), Value("sum(cost)", 0, True))),
    Source("behavior", False, (Value("count(*)"),)),
)
JOB = PackJob(sources=SOURCES, buckets=1, vocabularies=1, first_fact_day=0, last_fact_day=20, last_profile_day=20)


def fact_batch(seed: int, rows: int, advertisers: int) -> pa.RecordBatch:
    """Facts of both sources and profile rows, in no order, values with zeros and nulls."""
    random = np.random.default_rng(seed)
    source = random.integers(-1, 2, rows).astype(np.int32)
    cost = np.where(random.random(rows) < 0.1, 0.0, random.lognormal(12, 2, rows).round())
    missing = random.random(rows) < 0.05
    columns = {
        "advertiser_id": pa.array([f"a{n:05d}" for n in random.integers(0, advertisers, rows)]),
        "source": source,
        "scenario": np.where(source == 0, random.integers(-1, 2, rows), NO_SCENARIO).astype(np.int32),
        "day": random.integers(-5, 30, rows).astype(np.int32),
        "problem": np.where(random.random(rows) < 0.02, random.integers(1, 3, rows), 0).astype(np.int32),
        "rows": random.integers(1, 3, rows),
        "keys": np.ones(rows, np.int64),
        "value_0": pa.array(cost, mask=missing),
        "value_1": pa.array(np.where(source == 0, cost, 0.0), mask=source != 0),
        "word_0": pa.array(random.choice(["x", "y", "z"], rows), mask=source != PROFILE_SOURCE),
    }
    return pa.record_batch(columns)


SHARDS = [[fact_batch(seed, 60_000, 700)] for seed in range(3)]


@pytest.fixture(scope="module")
def packed() -> list[list[pa.RecordBatch]]:
    return [list(pack_partition(shard, JOB)) for shard in SHARDS]


def test_chunks_hold_every_fact_once(packed: list[list[pa.RecordBatch]]) -> None:
    raw = SHARDS[0][0].to_pandas()
    chunks: list[Facts] = list(unpack(packed[0], "facts"))
    assert [len(chunk.advertisers) for chunk in chunks[:-1]] == [ADVERTISERS_PER_CHUNK] * (len(chunks) - 1)
    ids = [name for chunk in chunks for name in chunk.advertisers.to_pylist()]
    assert ids == sorted(set(raw[raw.problem == 0].advertiser_id))
    found = [
        (chunk.advertisers[int(a)].as_py(), int(s), int(d), float(value))
        for chunk in chunks
        for a, s, d, value in zip(
            chunk.sources[0].advertiser,
            chunk.sources[0].scenario,
            chunk.sources[0].day,
            np.nan_to_num(chunk.sources[0].values[0], nan=-1.0),
            strict=True,
        )
    ]
    kept = raw[(raw.source == 0) & (raw.problem == 0) & (raw.scenario >= 0)]
    columns = (kept.advertiser_id, kept.scenario, kept.day, kept.value_0.fillna(-1.0))
    assert sorted(found) == sorted(zip(*columns, strict=True))


def test_rows_are_counted_by_problem(packed: list[list[pa.RecordBatch]]) -> None:
    raw = SHARDS[0][0].to_pandas()
    (summary,) = unpack(packed[0], "summary")
    sums = raw.groupby(["source", "problem"])[["rows", "keys"]].sum()
    assert summary.rows == {key: tuple(row) for key, row in zip(sums.index, sums.to_numpy().tolist(), strict=True)}


def test_a_shard_of_nothing_but_problems() -> None:
    batch = fact_batch(0, 50, 10)
    broken = batch.set_column(batch.schema.get_field_index("problem"), "problem", pa.array(np.ones(50, np.int32)))
    packed = list(pack_partition([broken], JOB))
    (summary,) = unpack(packed, "summary")
    assert not list(unpack(packed, "facts"))
    assert sum(rows for rows, _ in summary.rows.values()) == sum(batch["rows"].to_pylist())


@pytest.mark.parametrize("scenario", [None, 1])
def test_edges_are_those_of_all_shards_together(packed: list[list[pa.RecordBatch]], scenario: int | None) -> None:
    raw = pa.Table.from_batches([batch for shard in SHARDS for batch in shard]).to_pandas()
    summaries: list[Summary] = [summary for shard in packed for summary in unpack(shard, "summary")]
    asked: list[Questions] = []

    def ask(questions: Questions) -> list[Answers]:
        asked.append(questions)
        return [answers for shard in packed for answers in unpack(answer_partition(shard, questions), "answers")]

    request = EdgeRequest(source=0, position=0, buckets=7, scenario=scenario)
    found = exact_edges([request], summaries, ask)[request]
    rows = raw[(raw.source == 0) & (raw.problem == 0) & raw.day.between(0, 20)]
    rows = rows[rows.scenario >= 0] if scenario is None else rows[rows.scenario == scenario]
    values = rows.value_0.dropna()
    values = values[values != 0].to_numpy()
    assert found == quantile_edges(values, np.ones(len(values), int), 7)
    assert asked, "or the second round was not tried"


def test_small_columns_are_settled_without_asking() -> None:
    packed = [list(pack_partition([fact_batch(seed, 900, 50)], JOB)) for seed in range(2)]
    summaries: list[Summary] = [summary for shard in packed for summary in unpack(shard, "summary")]

    def ask(questions: Questions) -> list[Answers]:
        raise AssertionError("nothing is open")

    request = EdgeRequest(source=0, position=0, buckets=3)
    assert len(exact_edges([request], summaries, ask)[request]) == 2
