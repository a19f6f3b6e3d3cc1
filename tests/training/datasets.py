"""Small published datasets of random rows, for whatever spec a test has."""

import datetime
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.spec import DatasetSpec, exposure_columns, task_columns
from m2m_model.contracts.store import FileEntry, Folder, Manifest, data_path, new_generation, publish

FIRST_DAY = datetime.date(2017, 3, 1)
PAGE_CHECKSUM = {"write_page_checksum": True} if int(pa.__version__.partition(".")[0]) >= 15 else {}
"""What the ETL writes; petastorm's pyarrow can check page checksums but not write them."""


def random_rows(
    spec: DatasetSpec, rows: int, *, random: np.random.Generator, day: datetime.date = FIRST_DAY, labels: bool = True
) -> pa.Table:
    """Rows of the contracts' schema with ids in range and distinct keys; ``dense`` makes nearly all rows unlike."""
    active = random.integers(0, spec.sequence_length + 1, rows)
    scenario = random.integers(0, len(spec.scenarios), rows)
    steps = spec.sequence_length
    ids = {
        "behavior_ids": [column.size for column in spec.behavior] * steps,
        "performance_ids": [column.size for column in spec.performance] * steps,
        "profile_ids": [feature.size for feature in spec.profile],
        "attribute_ids": [feature.size for feature in spec.scenario_attributes],
    }
    number = spec.advertiser_id_type == "bigint"
    columns: dict[str, Any] = {
        "advertiser_id": [row if number else f"advertiser {row}" for row in range(rows)],
        "scenario_id": [spec.scenarios[index] for index in scenario],
        "as_of": [day] * rows,
        "scenario_index": scenario + 1,
        "eligible": active >= spec.activity.min_active_days,
        "active_days": active,
        **{name: random.integers(0, sizes, (rows, len(sizes))).tolist() for name, sizes in ids.items()},
        "dense": random.random((rows, spec.dense_size)).tolist(),
    }
    for name in task_columns(spec, "history"):
        columns[name] = random.poisson(3.0, (rows, spec.history_size)).astype(float).tolist()
    for task, name in zip(spec.tasks, task_columns(spec, "label"), strict=True):
        columns[name] = random.poisson(3.0, rows).astype(float)
        if task.kind == "binary":
            columns[name] = columns[name].clip(max=1.0)
    for name in exposure_columns(spec).values():
        columns[name] = random.integers(0, 4, rows).astype(float)
    schema = dataset_schema(spec, labels=labels)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def write_dataset(
    folder: Path,
    spec: DatasetSpec,
    *,
    rows_per_day: Sequence[int],
    row_group_rows: int,
    split: str = "train",
    seed: int = 0,
    other_splits: Mapping[str, Sequence[int]] | None = None,
) -> Manifest:
    """Publish a dataset at ``folder``.

    Args:
        rows_per_day: rows of each as-of day of ``split``, one file a day; a day may be empty.
        row_group_rows: the largest row group; the others of a file are of any size below.
        other_splits: rows per day of further splits, whose days follow.
    """
    random = np.random.default_rng(seed)
    published, generation = Folder.at(folder), new_generation()
    entry = published.write_bytes(data_path(generation, "spec.json"), spec.to_json().encode())
    files = [entry.model_copy(update={"partition": {"role": "spec"}})]
    day, by_scenario = FIRST_DAY, dict[str, Counter[str]]()
    for name, days in {split: rows_per_day, **(other_splits or {})}.items():
        for rows in days:
            table = random_rows(spec, rows, random=random, day=day)
            path = data_path(generation, f"split={name}", f"dt={day}", "part-0.parquet")
            by_scenario.setdefault(name, Counter()).update(table["scenario_id"].to_pylist())
            groups = _uneven(rows, row_group_rows, random)
            files.append(_write(published, path, table, groups, {"split": name, "dt": str(day)}))
            day += datetime.timedelta(days=1)
    content = {"rows_by_scenario": by_scenario}
    manifest = Manifest(kind="dataset", generation=generation, created_at="", files=tuple(files), content=content)
    publish(published, manifest)
    return manifest


def _uneven(rows: int, largest: int, random: np.random.Generator) -> list[int]:
    groups: list[int] = []
    while rows:
        groups.append(min(rows, int(random.integers(1, largest + 1))))
        rows -= groups[-1]
    return groups


def _write(folder: Folder, path: str, table: pa.Table, groups: list[int], partition: dict[str, str]) -> FileEntry:
    folder.make_parents(path)
    with pq.ParquetWriter(folder.join(path), table.schema, **PAGE_CHECKSUM) as writer:
        start = 0
        for rows in groups:
            writer.write_table(table.slice(start, rows), row_group_size=rows)
            start += rows
    content = folder.read_bytes(path)
    return FileEntry(
        path=path,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        rows=len(table),
        row_groups=tuple(groups),
        partition=partition,
    )
