"""A tiny spec, random rows of it, and published folders that hold them."""

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from m2m_model.config import ModelConfig
from m2m_model.contracts.drift import HISTOGRAMS, Histograms
from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.spec import (
    ActivitySpec,
    BucketFeature,
    DatasetSpec,
    SequenceColumn,
    TaskSpec,
    VocabularyFeature,
)
from m2m_model.contracts.store import Folder, Manifest, data_path, new_generation, publish
from training.forecast import ForecastRules, PointRule, TaskRule
from training.scoring import write_parquet

COLUMN = SequenceColumn(name="sales", expr="sum(sales)", edges=(1.0, 5.0), table="performance", scope="own")
SPEC = DatasetSpec(
    timezone="UTC",
    sequence_length=4,
    horizon=7,
    availability_lag_days=0,
    history_weeks=5,
    advertiser_id_type="string",
    scenarios=("a", "b"),
    behavior=(COLUMN,),
    performance=(COLUMN,),
    profile=(VocabularyFeature(name="size", expr="size", values=("s", "m")),),
    scenario_attributes=(BucketFeature(name="share", expr="share", edges=(0.5,)),),
    tasks=(
        TaskSpec(name="units", unit="units", table="performance", expr="x", scale=0, mean_label=4.0, max_label=20.0),
        TaskSpec(name="days", unit="days", table="performance", expr="x", scale=0, mean_label=2.0, max_label=7.0),
    ),
    activity=ActivitySpec(table="performance", expr="count(*) > 0", min_active_days=1),
)
MODEL = ModelConfig(embedding_dim=2, experts=2, view_dim=4, knowledge_dim=4, meta_layers=1, tower_layers=1)
DAY = datetime.date(2017, 3, 1)


def same_rules(threshold: float, scale: float, cap: float | None = None) -> ForecastRules:
    """The same rule for every task and both aims."""
    rule = PointRule(tasks={name: TaskRule(threshold=threshold, scale=scale, cap=cap) for name in SPEC.task_names})
    return ForecastRules(point=rule, smape=rule)


def random_table(rows: int, *, seed: int, day: datetime.date = DAY, labels: bool) -> pa.Table:
    """Rows with distinct keys, as the schema of datasets or of feature days says."""
    random = np.random.default_rng(seed)
    active = random.integers(0, 4, rows)
    scenario = random.integers(0, 2, rows)
    lists = {"behavior_ids": 4, "performance_ids": 4, "profile_ids": 1, "attribute_ids": 1}
    columns: dict[str, Any] = {
        "advertiser_id": [f"{seed}-{number}" for number in range(rows)],
        "scenario_id": [SPEC.scenarios[index] for index in scenario],
        "as_of": [day] * rows,
        "scenario_index": scenario + 1,
        "eligible": active > 0,
        "active_days": active,
        **{name: random.integers(0, 4, (rows, length)).tolist() for name, length in lists.items()},
        "dense": random.random((rows, SPEC.dense_size)).tolist(),
    }
    for task in SPEC.task_names:
        columns[f"history_{task}"] = random.poisson(3.0, (rows, SPEC.history_size)).astype(float).tolist()
        if labels:
            columns[f"label_{task}"] = random.poisson(3.0, rows).astype(float)
    schema = dataset_schema(SPEC, labels=labels)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def publish_tables(
    location: str,
    kind: str,
    tables: Mapping[str, tuple[pa.Table, Mapping[str, str]]],
    spec: DatasetSpec = SPEC,
    histograms: Histograms | None = None,
) -> Manifest:
    """Publish tables, given by file name with their partitions, the spec, and histograms if given."""
    folder, generation = Folder.at(location), new_generation()
    entry = folder.write_bytes(data_path(generation, "spec.json"), spec.to_json().encode())
    files = [entry.model_copy(update={"partition": {"role": "spec"}})]
    if histograms:
        entry = folder.write_bytes(data_path(generation, HISTOGRAMS), histograms.model_dump_json().encode())
        files.append(entry.model_copy(update={"partition": {"role": "histograms"}}))
    for name, (table, partition) in tables.items():
        pieces = iter([table.slice(0, len(table) // 2), table.slice(len(table) // 2)])
        path = data_path(generation, f"{name}.parquet")
        files.append(write_parquet(folder, path, table.schema, pieces, partition=partition))
    manifest = Manifest(kind=kind, generation=generation, created_at="", files=tuple(files))
    publish(folder, manifest)
    return manifest
