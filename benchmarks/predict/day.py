"""A feature day at the paper's sizes, written as the ETL writes one."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.train.world import ATTRIBUTES, BUCKETS, paper_spec
from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.store import Folder, Manifest, data_path, new_generation, publish
from training.scoring import write_parquet

ROW_GROUP = 4096
KEYS = Path(__file__).with_name("day_keys.json")
"""Knowledge keys by their number of rows, of a day of the synthetic platform (:mod:`benchmarks.train.histogram`)."""


def write_day(folder: Path, *, files: int, rows: int) -> None:
    """Publish ``files`` files of ``rows`` rows in random order, whose keys repeat as on the synthetic platform: where
    there are more rows, there are more advertisers, with keys of their own; fewer rows are a part of its, and repeat
    less."""
    target, generation = Folder.at(folder), new_generation()
    schema = dataset_schema(paper_spec(), labels=False)
    entries = []
    for number in range(files):
        random, keys = np.random.default_rng(number), day_keys(rows, part=number, parts=files)
        tables = (_table(keys[start : start + ROW_GROUP], random, schema) for start in range(0, rows, ROW_GROUP))
        path = data_path(generation, f"part-{number}.parquet")
        entries.append(write_parquet(target, path, schema, tables, partition={}))
    publish(target, Manifest(kind="features", generation=generation, created_at="", files=tuple(entries)))


def day_keys(rows: int, *, part: int, parts: int) -> np.ndarray:
    """The keys of one of ``parts`` files of a day, ``rows`` of them: a random part of one platform's rows after the
    other's, each with keys of its own."""
    histogram = json.loads(KEYS.read_text())
    of_platform = np.repeat([int(size) for size in histogram["keys_by_rows"]], list(histogram["keys_by_rows"].values()))
    rows_of_platform = np.repeat(np.arange(len(of_platform)), of_platform)
    found, platform = np.zeros(0, int), 0
    while len(found) < rows:
        mine = np.random.default_rng(platform).permutation(rows_of_platform)[part::parts]
        found, platform = np.concatenate([found, platform * len(of_platform) + mine]), platform + 1
    return np.random.default_rng(part).permutation(found[:rows])


def _table(keys: np.ndarray, random: np.random.Generator, schema: pa.Schema) -> pa.Table:
    spec, rows = paper_spec(), len(keys)
    digits = keys[:, None] // BUCKETS ** np.arange(ATTRIBUTES) % BUCKETS
    steps = spec.sequence_length
    lists = {
        "behavior_ids": random.integers(0, BUCKETS, (rows, steps * len(spec.behavior))),
        "performance_ids": random.integers(0, BUCKETS, (rows, steps * len(spec.performance))),
        "profile_ids": digits[:, : ATTRIBUTES // 2],
        "attribute_ids": digits[:, ATTRIBUTES // 2 :],
        "dense": random.random((rows, spec.dense_size)),
        **{f"history_{task}": random.poisson(3.0, (rows, spec.history_size)) for task in spec.task_names},
    }
    columns: dict[str, Any] = {
        "advertiser_id": [f"advertiser {number}" for number in random.integers(0, 10**9, rows)],
        "scenario_id": ["a"] * rows,
        "as_of": [datetime.date(2017, 3, 1)] * rows,
        "scenario_index": np.ones(rows, np.int16),
        "eligible": np.ones(rows, bool),
        "active_days": np.full(rows, 5),
    }
    for name, values in lists.items():
        kind = schema.field(name).type
        offsets = np.arange(0, values.size + 1, max(values.shape[1], 1), dtype=np.int32)
        flat = pa.array(values.ravel()).cast(kind.value_type)
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets), flat, type=kind)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
