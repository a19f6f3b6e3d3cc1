"""Published datasets of made-up rows at a chosen shape, for benchmarks that must not depend on any raw data.

Ids are drawn with a long tail, as bucketized activity has, and labels are Poisson draws whose rates follow from the
row's own ids, so that training has something to learn. The same seed gives the same files.
"""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.spec import ActivitySpec, BucketFeature, DatasetSpec, SequenceColumn, TaskSpec, task_columns
from m2m_model.contracts.store import FileEntry, Folder, Manifest, data_path, new_generation, publish

FIRST_DAY = datetime.date(2024, 2, 10)
TASKS = ("pv", "clicks", "spend", "gmv", "active")
TAIL = 4.0
"""Ids are ``size * u ** TAIL`` for a uniform u: most are small."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a row holds. The defaults are the paper's: two 40-day sequences of five features."""

    behavior: int = 5
    performance: int = 5
    dense_columns: int = 0
    buckets: int = 100
    profile: tuple[int, ...] = (10, 30, 6, 3, 12)
    attributes: tuple[int, ...] = (2, 2, 2, 8, 8, 8, 8, 4, 9)
    scenarios: int = 5


def make_spec(shape: Shape) -> DatasetSpec:
    """The spec of a shape's rows."""

    def sequence(table: str, columns: int) -> tuple[SequenceColumn, ...]:
        return tuple(
            SequenceColumn(
                name=f"{table}_{index}",
                expr=f"sum(x{index})",
                edges=_edges(shape.buckets),
                table=table,
                scope="own",
                dense=index < shape.dense_columns,
            )
            for index in range(columns)
        )

    return DatasetSpec(
        timezone="UTC",
        sequence_length=40,
        horizon=7,
        availability_lag_days=0,
        history_weeks=5,
        advertiser_id_type="bigint",
        scenarios=tuple(f"scenario_{index}" for index in range(shape.scenarios)),
        behavior=sequence("behavior", shape.behavior),
        performance=sequence("performance", shape.performance),
        profile=tuple(_attribute("profile", *pair) for pair in enumerate(shape.profile)),
        scenario_attributes=tuple(_attribute("attribute", *pair) for pair in enumerate(shape.attributes)),
        tasks=tuple(
            TaskSpec(name=name, unit="units", table="performance", expr=name, scale=0, mean_label=8.0, max_label=500.0)
            for name in TASKS
        ),
        activity=ActivitySpec(table="performance", expr="count(*) > 0", min_active_days=1),
    )


def write_dataset(
    location: str, spec: DatasetSpec, *, rows: Mapping[str, int], rows_per_file: int, row_group_rows: int, seed: int = 0
) -> Manifest:
    """Publish a dataset with ``rows[split]`` rows of each split, a file per as-of day."""
    folder, generation = Folder.at(location), new_generation()
    entry = folder.write_bytes(data_path(generation, "spec.json"), spec.to_json().encode())
    files = [entry.model_copy(update={"partition": {"role": "spec"}})]
    random, day = np.random.default_rng(seed), FIRST_DAY
    effects = _effects(spec, np.random.default_rng(0))
    for split, total in rows.items():
        for start in range(0, total, rows_per_file):
            table = random_rows(spec, min(rows_per_file, total - start), effects=effects, random=random, day=day)
            path = data_path(generation, f"split={split}", f"dt={day}", "part-0.parquet")
            files.append(_write(folder, path, table, row_group_rows, {"split": split, "dt": str(day)}))
            day += datetime.timedelta(days=1)
    manifest = Manifest(kind="dataset", generation=generation, created_at="", files=tuple(files))
    publish(folder, manifest)
    return manifest


def random_rows(
    spec: DatasetSpec, rows: int, *, effects: Mapping[str, np.ndarray], random: np.random.Generator, day: datetime.date
) -> pa.Table:
    """Rows in the contracts' schema."""
    steps = spec.sequence_length
    ids = {
        "behavior_ids": _ids([column.size for column in spec.behavior] * steps, rows, random),
        "performance_ids": _ids([column.size for column in spec.performance] * steps, rows, random),
        "profile_ids": _ids([feature.size for feature in spec.profile], rows, random),
        "attribute_ids": _ids([feature.size for feature in spec.scenario_attributes], rows, random),
    }
    scenario = random.integers(0, len(spec.scenarios), rows)
    rates = np.exp(sum(_scaled(array) @ effects[name] for name, array in ids.items()) + effects["scenario"][scenario])
    columns: dict[str, np.ndarray] = {
        "advertiser_id": np.arange(rows),
        "scenario_id": np.array(spec.scenarios)[scenario],
        "as_of": np.full(rows, np.datetime64(day)),
        "scenario_index": scenario + 1,
        "eligible": np.ones(rows, bool),
        "active_days": np.full(rows, steps),
        **ids,
        "dense": random.random((rows, spec.dense_size), np.float32),
    }
    for task, name in enumerate(task_columns(spec, "history")):
        columns[name] = random.poisson(rates[:, task, None], (rows, spec.history_size)).astype(float)
    for task, name in enumerate(task_columns(spec, "label")):
        columns[name] = random.poisson(rates[:, task]).astype(float)
    schema = dataset_schema(spec, labels=True)
    return pa.table({field.name: _arrow(columns[field.name], field.type) for field in schema}, schema=schema)


def _edges(buckets: int) -> tuple[float, ...]:
    return tuple(float(edge) for edge in range(buckets - 1))


def _attribute(kind: str, index: int, buckets: int) -> BucketFeature:
    return BucketFeature(name=f"{kind}_{index}", expr="x", edges=_edges(buckets))


def _ids(sizes: list[int], rows: int, random: np.random.Generator) -> np.ndarray:
    return (np.array(sizes) * random.random((rows, len(sizes)), np.float32) ** TAIL).astype(np.int16)


def _scaled(ids: np.ndarray) -> np.ndarray:
    return np.log1p(ids.astype(np.float32)) / np.float32(np.sqrt(ids.shape[1]))


def _effects(spec: DatasetSpec, random: np.random.Generator) -> dict[str, np.ndarray]:
    lengths = {
        "behavior_ids": spec.sequence_length * len(spec.behavior),
        "performance_ids": spec.sequence_length * len(spec.performance),
        "profile_ids": len(spec.profile),
        "attribute_ids": len(spec.scenario_attributes),
    }
    effects = {name: random.normal(0, 0.3, (length, len(spec.tasks))) for name, length in lengths.items()}
    return effects | {"scenario": random.normal(1.5, 0.5, (len(spec.scenarios), len(spec.tasks)))}


def _arrow(values: np.ndarray, type_: pa.DataType) -> pa.Array:
    if not pa.types.is_list(type_):
        return pa.array(values, type_)
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()).cast(type_.value_type)).cast(type_)


def _write(folder: Folder, path: str, table: pa.Table, row_group_rows: int, partition: Mapping[str, str]) -> FileEntry:
    folder.make_parents(path)
    with folder.filesystem.open_output_stream(folder.join(path)) as stream:
        pq.write_table(table, stream, compression="zstd", row_group_size=row_group_rows, write_page_checksum=True)
    content = folder.read_bytes(path)
    full, rest = divmod(len(table), row_group_rows)
    return FileEntry(
        path=path,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(table),
        row_groups=(row_group_rows,) * full + ((rest,) if rest else ()),
        partition=dict(partition),
    )
