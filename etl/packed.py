"""The packed facts of a build as one cached frame, and what is asked of it before rows are made."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.arrivals import Arrivals
from etl.config import EtlConfig
from etl.edges import Answers, Questions, answer_partition
from etl.facts import fact_rows
from etl.pack import PACKED_SCHEMA, PackJob, Summary, pack_partition, unpack
from etl.raw import RawFrames
from m2m_model.contracts.spec import AttributeFeature

COUNTS_SCHEMA = "source int, scenario int, position int, value double, count bigint"


def packed_facts(
    tables: RawFrames,
    profile: Sequence[AttributeFeature],
    job: PackJob,
    config: EtlConfig,
    arrivals: Arrivals | None = None,
) -> DataFrame:
    """Packed facts, cached: they are asked for their summaries, then for their windows. The caller unpersists them."""
    rows = fact_rows(
        tables.facts,
        tables.profile,
        job.sources,
        profile,
        tables.scenario_ids,
        config.raw,
        shards=config.dataset.shards,
        arrivals=arrivals,
    )
    packed = rows.mapInArrow(partial(pack_partition, job=job), PACKED_SCHEMA)
    return packed.persist(StorageLevel.MEMORY_AND_DISK)


def summaries(packed: DataFrame) -> list[Summary]:
    """Those of all shards."""
    rows = packed.where(F.col("summary").isNotNull()).select("summary")
    return list(unpack([rows.toArrow()], "summary"))


def answers(questions: Questions, packed: DataFrame) -> list[Answers]:
    """What every shard answers to the fit's questions."""
    rows = packed.where(F.col("counts").isNotNull()).select("counts")
    found = rows.mapInArrow(partial(answer_partition, questions=questions), "answers binary")
    return list(unpack([found.toArrow()], "answers"))


def value_counts(packed: DataFrame) -> DataFrame:
    """How often each non-zero value occurs on the counted days, shard by shard: rows of :data:`COUNTS_SCHEMA`."""
    rows = packed.where(F.col("counts").isNotNull()).select("counts")
    return rows.mapInArrow(_count_rows, COUNTS_SCHEMA)


def _count_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for counts in unpack(batches, "counts"):
        for column, counted in counts.items():
            keys = {
                name: np.full(len(counted.values), number, np.int32)
                for name, number in zip(("source", "scenario", "position"), column, strict=True)
            }
            values = {"value": counted.values, "count": np.diff(counted.up_to, prepend=0)}
            yield pa.record_batch(keys | values)
