"""Inside a Spark task: fact rows in, immutable Parquet files out, file entries back to the driver.

Files are written natively with pyarrow and carry a name of their own per task attempt. Only the entries of attempts
that Spark accepts come back, so a failed or speculative attempt leaves at most an orphan that no manifest lists.
"""

import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext

from etl.chunk import Facts
from etl.pack import unpack
from etl.parquet import ParquetWriter
from etl.plan import AsOf, WindowPlan
from etl.replay import compared_features, replayed_rows
from etl.statistics import Statistics
from etl.windows import dataset_rows
from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.store import FileEntry, Folder, data_path

BUFFERED_BYTES = 512 << 20
"""Rows wait in memory until a row group is full; above this much in all, the fullest day is written early."""

RESULT_SCHEMA = (
    "entry string, scenario_rows string, label_sums string, label_maxima string, differences string, statistics string"
)
"""A row per written file; the task's statistics stand in its first row."""


@dataclass(frozen=True)
class WriteJob:
    plan: WindowPlan
    folder: str
    generation: str
    row_group_rows: int
    compression: str


def write_partition(batches: Iterable[pa.RecordBatch], job: WriteJob) -> Iterator[pa.RecordBatch]:
    """Write all dataset rows of one shard, from its packed facts."""
    writers: dict[AsOf, _DayWriter] = {}
    statistics = Statistics(job.plan.spec)
    try:
        for facts in unpack(batches, "facts"):
            for as_of, rows, differences in _rows(facts, job.plan):
                if as_of not in writers:
                    writers[as_of] = _DayWriter(job, as_of)
                writers[as_of].add(rows)
                writers[as_of].differences += differences
                statistics.add(as_of.split, rows)
                while sum(writer.buffered_bytes for writer in writers.values()) > BUFFERED_BYTES:
                    max(writers.values(), key=lambda writer: writer.buffered_bytes).flush()
        results = [writer.close() for writer in writers.values()]
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise
    if results:
        results[0]["statistics"] = statistics.to_json()
    schema = pa.schema([(name.split()[0], pa.string()) for name in RESULT_SCHEMA.split(", ")])
    yield pa.RecordBatch.from_pylist(results, schema=schema)


def _rows(facts: Facts, plan: WindowPlan) -> Iterator[tuple[AsOf, pa.RecordBatch, np.ndarray]]:
    """Rows of each as-of day, with the counts of replay's differences (none without replay)."""
    if plan.replay:
        yield from replayed_rows(facts, plan)
    else:
        yield from ((as_of, rows, _no_differences(plan)) for as_of, rows in dataset_rows(facts, plan))


def _no_differences(plan: WindowPlan) -> np.ndarray:
    return np.zeros((len(compared_features(plan.spec)) if plan.replay else 0, 4), np.int64)


class _HashingSink:
    """Counts and hashes what passes through to a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.sha256, self.bytes = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.sha256.update(data)
        self.bytes += len(data)
        self._stream.write(data)

    def close(self) -> None:
        self._stream.close()


@dataclass
class _DayWriter:
    """One file: the rows of one as-of day from one Spark partition."""

    job: WriteJob
    as_of: AsOf
    buffer: list[pa.RecordBatch] = field(default_factory=list)
    buffered_bytes: int = 0
    row_groups: list[int] = field(default_factory=list)
    scenario_rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        spec, plan = self.job.plan.spec, self.job.plan
        day = [f"dt={self.as_of.date}"]
        folders = [f"split={self.as_of.split}", *day] if plan.labels else day
        # The number orders files the same way in every rerun, and with them training; the rest tells attempts apart.
        task = TaskContext.get()
        number = task.partitionId() if task else 0
        self.path = data_path(self.job.generation, *folders, f"part-{number:05d}-{uuid.uuid4().hex[:12]}.parquet")
        folder = Folder.at(self.job.folder)
        folder.make_parents(self.path)
        self.sink = _HashingSink(folder.filesystem.open_output_stream(folder.join(self.path)))
        self.writer = ParquetWriter(self.sink, dataset_schema(spec, labels=plan.labels), self.job.compression)
        self.label_sums = np.zeros(len(spec.tasks) if plan.labels else 0)
        self.label_maxima = np.zeros_like(self.label_sums)
        self.differences = _no_differences(plan)

    def add(self, rows: pa.RecordBatch) -> None:
        self.buffer.append(rows)
        self.buffered_bytes += rows.nbytes
        while sum(batch.num_rows for batch in self.buffer) >= self.job.row_group_rows:
            self._write(self.job.row_group_rows)

    def flush(self) -> None:
        """Write what waits as a row group of its own."""
        self._write(sum(batch.num_rows for batch in self.buffer))

    def _write(self, rows: int) -> None:
        table = pa.Table.from_batches(self.buffer)
        self._write_row_group(table.slice(0, rows))
        rest = table.slice(rows)
        self.buffer = rest.to_batches() if rest.num_rows else []
        self.buffered_bytes = rest.nbytes if rest.num_rows else 0

    def _write_row_group(self, rows: pa.Table) -> None:
        self.writer.write_row_group(rows)
        self.row_groups.append(rows.num_rows)
        for count in pc.value_counts(rows["scenario_id"]).to_pylist():
            self.scenario_rows[count["values"]] += count["counts"]
        for position, task in enumerate(self.job.plan.spec.task_names if self.job.plan.labels else ()):
            labels = rows[f"label_{task}"].to_numpy()
            self.label_sums[position] += labels.sum()
            self.label_maxima[position] = max(self.label_maxima[position], labels.max())

    def close(self) -> dict[str, str]:
        if self.buffer:
            self.flush()
        self.writer.close()
        self.sink.close()
        dt = {"dt": str(self.as_of.date)}
        entry = FileEntry(
            path=self.path,
            bytes=self.sink.bytes,
            sha256=self.sink.sha256.hexdigest(),
            rows=sum(self.row_groups),
            row_groups=tuple(self.row_groups),
            partition={"split": self.as_of.split, **dt} if self.job.plan.labels else dt,
        )
        return {
            "entry": entry.model_dump_json(),
            "scenario_rows": json.dumps(self.scenario_rows),
            "label_sums": json.dumps(self.label_sums.tolist()),
            "label_maxima": json.dumps(self.label_maxima.tolist()),
            "differences": json.dumps(self.differences.tolist()),
        }

    def abandon(self) -> None:
        self.sink.close()
