"""The raw tables of a world of any size, written in parallel: Spark hands out blocks, each task writes files itself.

A block's files are a function of (parameters, calendar, seed, block): neither the number of partitions nor a retried
task changes a byte, and memory holds one block at a time.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from etl.config import EtlConfig, RawConfig, SyntheticConfig
from etl.sources.synthetic.dirt import with_bad_rows
from etl.sources.synthetic.events import TIMEZONE, raw_tables
from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.simulate import block_sizes, simulate
from etl.sources.synthetic.snapshots import scenario_snapshots
from etl.sources.synthetic.statistics import add_sums, block_sums, correlations, shares
from etl.sources.synthetic.world import World
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder

MOST_PARTITIONS = 4096
RESULT_SCHEMA = "result string"
Made = dict[str, dict[str, Any]]
"""Rows, bytes, late rows, bad rows and sums of some blocks; all of it adds up."""


@dataclass(frozen=True)
class Job:
    """What a task needs to write its blocks."""

    world: World
    config: SyntheticConfig
    folder: str


def synthetic_config(config: EtlConfig) -> SyntheticConfig:
    """The run's ``[synthetic]`` section.

    Raises:
        UserError: there is none.
    """
    if config.synthetic is None:
        raise UserError("the config must have a section [synthetic], as jobs/configs/synthetic.toml has, however: none")
    return config.synthetic


def make_world(raw: RawConfig) -> World:
    """The frozen world on the calendar of ``raw``.

    Raises:
        UserError: the calendar is not in the world's time zone.
    """
    if raw.timezone != TIMEZONE:
        raise UserError(f"raw.timezone must be {TIMEZONE!r} for the synthetic world, however: {raw.timezone!r}")
    return World(Parameters(), raw.first_day, (raw.last_day - raw.first_day).days + 1)


def generate(spark: SparkSession, config: EtlConfig, *, folder: str, partitions: int | None = None) -> dict[str, Any]:
    """Write performance, behavior, profile and scenarios under ``folder``, an empty one; returns what was made.

    ``partitions`` defaults to one per block; it changes no file.
    """
    world, synthetic = make_world(config.raw), synthetic_config(config)
    job = Job(world, synthetic, folder)
    blocks = len(block_sizes(synthetic.advertisers))
    rows = map_blocks(spark, partial(write_blocks, job=job), blocks, partitions=partitions)
    made = json.loads(rows[0])
    for row in rows[1:]:
        made = _add(made, json.loads(row))
    snapshots = scenario_snapshots(world, made["sums"])
    _write(Folder.at(folder), "scenarios/scenarios.parquet", snapshots)
    return {
        "parameters": world.parameters.digest,
        "synthetic": synthetic.model_dump(),
        "calendar": [str(config.raw.first_day), str(config.raw.last_day)],
        "rows": made["rows"] | {"scenarios": len(snapshots)},
        "bytes": made["bytes"],
        "late": made["late"],
        "bad": made["bad"],
        "shares": [asdict(share) for share in shares(world, made["sums"])],
        "correlations": [asdict(correlation) for correlation in correlations(made["sums"])],
    }


def map_blocks(
    spark: SparkSession,
    function: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    blocks: int,
    *,
    partitions: int | None = None,
) -> list[str]:
    """The ``result`` strings that ``function`` makes of batches of block numbers, partition by partition."""
    numbers = spark.range(0, blocks, 1, partitions or min(blocks, MOST_PARTITIONS))
    return [row.result for row in numbers.mapInArrow(function, RESULT_SCHEMA).collect()]


def write_blocks(batches: Iterator[pa.RecordBatch], job: Job) -> Iterator[pa.RecordBatch]:
    """Write the blocks of one partition; yields one JSON text with the sums over them."""
    made: Made | None = None
    for batch in batches:
        for number in batch.column(0).to_pylist():
            one = _write_block(job, number)
            made = one if made is None else _add(made, one)
    if made is not None:
        yield pa.RecordBatch.from_pydict({"result": [json.dumps(made)]})


def _write_block(job: Job, number: int) -> Made:
    world, config = job.world, job.config
    block = simulate(world, seed=config.seed, block=number, count=block_sizes(config.advertisers)[number])
    tables = raw_tables(world, block, seed=config.seed, late_rate=config.late_rate)
    tables, bad = with_bad_rows(world, block, tables, seed=config.seed, rate=config.bad_rate)
    folder = Folder.at(job.folder)
    named = {"performance": tables.performance, "behavior": tables.behavior, "profile": tables.profile}
    return {
        "rows": {name: len(table) for name, table in named.items()},
        "bytes": {name: _write(folder, f"{name}/block-{number:06d}.parquet", table) for name, table in named.items()},
        "late": tables.late,
        "bad": bad,
        "sums": block_sums(world, block),
    }


def _write(folder: Folder, path: str, table: pa.Table) -> int:
    """Write one file, whole or not at all; returns its size."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", store_decimal_as_integer=True)
    content = sink.getvalue().to_pybytes()
    folder.make_parents(path)
    folder.replace_bytes(path, content)
    return len(content)


def _add(one: Made, other: Made) -> Made:
    added = {
        part: {name: count + other[part][name] for name, count in one[part].items()}
        for part in ("rows", "bytes", "late", "bad")
    }
    return added | {"sums": add_sums(one["sums"], other["sums"])}
