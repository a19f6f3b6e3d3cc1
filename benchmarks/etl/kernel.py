"""Processor time of the real build's Python part, without Spark: packing, fitting, cutting, writing.

``python -m benchmarks.etl.kernel`` hands one shard's daily facts to the code that runs in a Spark task and prints
microseconds per sample of each step, on one core, beside what Polars takes for everything.
"""

import argparse
import datetime
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.etl import polars_build
from benchmarks.etl.rows import written
from benchmarks.etl.world import Shape, make_config, write_world
from etl.config import EtlConfig
from etl.edges import Answers, EdgeRequest, Questions, answer_partition, exact_edges
from etl.facts import Source, TaskScales, declared_sources
from etl.pack import PackJob, pack_partition, unpack
from etl.plan import AsOf, WindowPlan
from etl.split import SPLITS, as_of_days
from etl.windows import dataset_rows
from etl.writer import WriteJob, write_partition
from m2m_model.contracts.spec import ActivitySpec, DatasetSpec, SequenceColumn, TaskSpec, VocabularyFeature
from m2m_model.contracts.store import new_generation

Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--advertisers", type=int, default=1_000)
    parser.add_argument("--folder", type=Path, default=Path("out/bench-kernel"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    shape = Shape(advertisers=arguments.advertisers)
    config, raw, out = make_config(shape), arguments.folder / "raw", arguments.folder / "out"
    facts = write_world(shape, raw)
    (source,) = declared_sources(config, dict.fromkeys(config.tasks, TaskScales(value=0, exposure=0)))
    batches = fact_batches(raw, shape, config, source)
    last = (as_of_days(config)["train"][-1] - config.raw.first_day).days
    pack = PackJob.of((source,), (), last_fact_day=last, last_profile_day=last)
    seconds: dict[str, float] = {}
    packed = timed(seconds, "pack", lambda: list(pack_partition(batches, pack)))
    plan = timed(seconds, "fit", lambda: window_plan(packed, source, shape, config))
    cut = sum(
        timed(
            seconds,
            "cut",
            lambda: [rows.num_rows for f in unpack(packed, "facts") for _, rows in dataset_rows(f, plan)],
        )
    )
    job = WriteJob(plan, str(out), new_generation(), shape.row_group_rows, config.dataset.compression)
    timed(seconds, "cut and write", lambda: list(write_partition(packed, job)))
    polars_out = arguments.folder / "polars"
    timed(seconds, "Polars, all of it", lambda: polars_build.build(config, str(raw), str(polars_out)))
    assert written(out).digest == written(polars_out).digest, "rows must be equal"
    print(f"{facts:,} facts, {cut:,} samples; equal rows\n\n| step | cpu s | us per sample |\n|---|---|---|")
    for step, spent in seconds.items():
        print(f"| {step} | {spent:.2f} | {spent / cut * 1e6:.1f} |")


def timed(seconds: dict[str, float], step: str, work: Callable[[], Result]) -> Result:
    started = time.process_time()
    result = work()
    seconds[step] = time.process_time() - started
    return result


def fact_batches(raw: Path, shape: Shape, config: EtlConfig, source: Source) -> list[pa.RecordBatch]:
    """The daily facts as Spark hands them over."""
    daily = pa.concat_tables(pq.read_table(path) for path in sorted((raw / "daily").iterdir()))
    rows = daily.num_rows
    epoch = (config.raw.first_day - datetime.date(1970, 1, 1)).days
    values = [
        np.ones(rows) if v.expr == "count(*) > 0" else daily[v.expr[4:-1]].cast(pa.float64()) for v in source.values
    ]
    table = pa.table(
        {
            "advertiser_id": daily["advertiser_id"],
            "source": np.zeros(rows, np.int32),
            "scenario": pc.index_in(daily["scenario_id"], pa.array(shape.scenarios)),
            "day": pc.subtract(daily["day"].cast(pa.int32()), pa.scalar(epoch, pa.int32())),
            "problem": np.zeros(rows, np.int32),
            "rows": np.ones(rows, np.int64),
            "keys": np.ones(rows, np.int64),
            **{f"value_{i}": column for i, column in enumerate(values)},
        }
    )
    return list(table.to_batches(max_chunksize=10_000))


def window_plan(packed: list[pa.RecordBatch], source: Source, shape: Shape, config: EtlConfig) -> WindowPlan:
    """The plan of a whole build, with edges fitted and no attributes."""

    def ask(questions: Questions) -> list[Answers]:
        return list(unpack(answer_partition(packed, questions), "answers"))

    requests = {
        name: [EdgeRequest(0, source.position(f.expr), f.buckets) for f in getattr(config.features, name).values()]
        for name in ("behavior", "performance")
    }
    edges = exact_edges([r for wanted in requests.values() for r in wanted], list(unpack(packed, "summary")), ask)
    column = partial(SequenceColumn, table="daily", scope="own")
    sequences = {
        name: tuple(
            column(name=feature, expr=declared.expr, edges=edges[request])
            for (feature, declared), request in zip(getattr(config.features, name).items(), requests[name], strict=True)
        )
        for name in requests
    }
    tasks = (
        TaskSpec(name=name, unit=t.unit, table=t.table, expr=t.expr, scale=0, mean_label=0.0, max_label=0.0)
        for name, t in config.tasks.items()
    )
    sequence, population = config.sequence, config.population
    spec = DatasetSpec(
        timezone="UTC",
        sequence_length=sequence.length,
        horizon=sequence.horizon,
        availability_lag_days=0,
        history_weeks=sequence.history_weeks,
        advertiser_id_type="bigint",
        scenarios=shape.scenarios,
        profile=(),
        scenario_attributes=(VocabularyFeature(name="kind", expr="kind", values=shape.scenarios),),
        tasks=tuple(tasks),
        activity=ActivitySpec(table="daily", expr=population.activity, min_active_days=population.min_active_days),
        **sequences,
    )
    days = as_of_days(config)
    as_of = [AsOf(day, (day - config.raw.first_day).days, split, "own") for split in SPLITS for day in days[split]]
    count = (len(as_of), len(shape.scenarios))
    ids = np.broadcast_to(np.arange(2, 2 + count[1], dtype=np.int32)[:, None], (*count, 1))
    return WindowPlan(spec, (source,), shape.scenarios, tuple(as_of), shape.days - 1, ids, np.ones(count, bool), True)


if __name__ == "__main__":
    main()
