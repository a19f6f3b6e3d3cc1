"""A feature day at the paper's sizes, written as the ETL writes one."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.train.keys import ZIPF_KEYS
from benchmarks.train.world import ATTRIBUTES, BUCKETS, paper_spec
from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.store import Folder, Manifest, data_path, new_generation, publish
from training.scoring import write_parquet

ROW_GROUP = 4096


def write_day(folder: Path, *, files: int, rows: int) -> None:
    """Publish ``files`` files of ``rows`` rows in random order, with Zipf knowledge keys."""
    target, generation = Folder.at(folder), new_generation()
    schema = dataset_schema(paper_spec(), labels=False)
    entries = []
    for number in range(files):
        random = np.random.default_rng(number)
        tables = (_table(min(ROW_GROUP, rows - start), random, schema) for start in range(0, rows, ROW_GROUP))
        path = data_path(generation, f"part-{number}.parquet")
        entries.append(write_parquet(target, path, schema, tables, partition={}))
    publish(target, Manifest(kind="features", generation=generation, created_at="", files=tuple(entries)))


def _table(rows: int, random: np.random.Generator, schema: pa.Schema) -> pa.Table:
    spec = paper_spec()
    shares = 1 / np.arange(1, ZIPF_KEYS + 1)
    keys = random.choice(ZIPF_KEYS, size=rows, p=shares / shares.sum())
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
