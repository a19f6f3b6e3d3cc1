"""Id histograms, drift and key counts against slow twins."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import statistics
from etl.statistics import KeyCounts, Statistics
from m2m_model.contracts.drift import Histograms, feature_sizes, population_stability_index
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from tests.etl.slow_counts import slow_counts
from tests.etl.specs import small_spec

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=6)


@pytest.fixture
def spec() -> DatasetSpec:
    return small_spec()


def rows_of(spec: DatasetSpec, seed: int, count: int) -> pa.RecordBatch:
    """Rows with the columns that are counted, of random ids."""
    random = np.random.default_rng(seed)
    widths = {"behavior_ids": spec.behavior, "performance_ids": spec.performance}
    columns = {
        name: random.integers(0, [f.size for f in features] * spec.sequence_length, (count, 10 * len(features)))
        for name, features in widths.items()
    }
    for name, features in (("profile_ids", spec.profile), ("attribute_ids", spec.scenario_attributes)):
        columns[name] = random.integers(0, [f.size for f in features], (count, len(features)))
    lists = {name: pa.array(ids.tolist(), pa.list_(pa.int16())) for name, ids in columns.items()}
    return pa.RecordBatch.from_pydict(lists | {"eligible": pa.array(random.random(count) < 0.7)})


def test_histograms_count_the_newest_week_of_every_eligible_row(spec: DatasetSpec) -> None:
    batches = {"train": [rows_of(spec, seed, 40) for seed in range(3)], "test": [rows_of(spec, 9, 25)]}
    tasks = [Statistics(spec), Statistics(spec)]
    for split, of_split in batches.items():
        for number, batch in enumerate(of_split):
            tasks[number % 2].add(split, batch.slice(5) if number == 2 else batch)
    batches["train"][2] = batches["train"][2].slice(5)
    merged = Statistics.merged(spec, [task.to_json() for task in tasks])
    rows = {split: [row for batch in of_split for row in batch.to_pylist()] for split, of_split in batches.items()}
    assert merged.histograms().splits == {split: slow_counts(spec, of_split) for split, of_split in rows.items()}
    keys = Counter((*row["attribute_ids"], *row["profile_ids"]) for row in rows["train"])
    found = merged.keys.summary()
    assert (found["rows"], found["distinct_keys"], found["exact"]) == (115, len(keys), True)
    assert found["keys_by_rows"] == {
        str(power): n for power, n in sorted(Counter(1 << int(math.log2(n)) for n in keys.values()).items())
    }


def test_expected_distinct_keys_are_those_of_random_batches() -> None:
    random = np.random.default_rng(0)
    keys = random.zipf(1.3, 20_000)[:, None] % 5_000
    counts = KeyCounts()
    for part in np.array_split(keys, 7):
        counts.add(part)
    drawn = [len(np.unique(keys[random.integers(0, len(keys), statistics.BATCH)])) for _ in range(400)]
    assert counts.summary()["expected_distinct_in_256"] == pytest.approx(np.mean(drawn), rel=0.02)


def test_above_the_largest_sample_key_counts_are_close_and_do_not_depend_on_the_split_of_rows() -> None:
    random = np.random.default_rng(1)
    keys = np.stack([random.integers(0, 400, 300_000), random.integers(0, 500, 300_000)], axis=1)
    whole, parts = KeyCounts(), [KeyCounts() for _ in range(3)]
    whole.add(keys)
    for part, rows in zip(parts, np.array_split(keys, 3), strict=True):
        part.add(rows)
    merged = KeyCounts()
    for part in parts:
        merged.merge(part)
    assert merged.summary() == whole.summary()
    truth, found = len(np.unique(keys, axis=0)), whole.summary()
    assert not found["exact"]
    assert len(whole.hashes) <= statistics.LARGEST_SAMPLE
    assert found["distinct_keys"] == pytest.approx(truth, rel=0.03)
    assert sum(found["keys_by_rows"].values()) == found["distinct_keys"]
    assert found["expected_distinct_in_256"] == pytest.approx(256, rel=0.03)


@given(expected=COUNTS, actual=COUNTS)
def test_psi_against_its_formula(expected: list[int], actual: list[int]) -> None:
    size = min(len(expected), len(actual))
    expected, actual = expected[:size], actual[:size]
    found = population_stability_index(expected, actual)
    if not sum(expected) or not sum(actual):
        assert math.isnan(found)
        return
    slow = 0.0
    for n, m in zip(expected, actual, strict=True):
        p, q = (n + 0.5) / (sum(expected) + size / 2), (m + 0.5) / (sum(actual) + size / 2)
        slow += (q - p) * math.log(q / p)
    assert found == pytest.approx(slow, rel=1e-9, abs=1e-12)
    assert found >= 0
    assert found == pytest.approx(population_stability_index(actual, expected), rel=1e-9, abs=1e-12)
    assert population_stability_index(expected, expected) == 0


def test_drift_is_against_training_and_worst_first(spec: DatasetSpec) -> None:
    task = Statistics(spec)
    task.add("train", rows_of(spec, 0, 200))
    task.add("test", rows_of(spec, 1, 200))
    dataset = task.histograms()
    day = Statistics(spec)
    day.add("features", rows_of(spec, 2, 10))
    assert dataset.drift().keys() == {"test"}
    assert day.histograms().drift() == {}
    drift = day.histograms().drift(dataset)["features"]
    assert drift.keys() == feature_sizes(spec).keys()
    assert list(drift.values()) == sorted(drift.values(), reverse=True)
    counts = (dataset.splits["train"]["profile.tier"], day.histograms().splits["features"]["profile.tier"])
    assert drift["profile.tier"] == pytest.approx(population_stability_index(*counts), abs=1e-4)


def test_histograms_of_other_features_are_refused(spec: DatasetSpec, tmp_path: Path) -> None:
    task = Statistics(spec)
    task.add("train", rows_of(spec, 0, 5))
    path = tmp_path / "histograms.json"
    assert Histograms.beside(tmp_path / "spec.json", spec) is None
    path.write_text(task.histograms().model_dump_json())
    assert Histograms.beside(tmp_path / "spec.json", spec) == task.histograms()
    with pytest.raises(UserError, match="keep the two files"):
        Histograms.beside(tmp_path / "spec.json", spec.model_copy(update={"horizon": 6}))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="holds no id histograms"):
        Histograms.beside(tmp_path / "spec.json", spec)
