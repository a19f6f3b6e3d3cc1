"""KLL sketches of daily values: kept beside each feature day, merged to propose new bucket edges without a full build.

A sketch holds the non-zero values of one newest day of facts, per daily value and scenario. Merged over a range of
days, its quantiles are within about half a percent of the exact ranks (KLL with k = 1024).
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from etl.config import EtlConfig
from etl.facts import Source
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, SequenceColumn, SequenceName

K = 1024
ROLE = "sketches"
FILE = "sketches.arrow"
SEQUENCES: tuple[SequenceName, ...] = ("behavior", "performance")
SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("by_scenario", pa.bool_(), nullable=False),
        pa.field("expr", pa.string(), nullable=False),
        pa.field("scenario", pa.string()),
        pa.field("sketch", pa.binary(), nullable=False),
    ]
)


@dataclass(frozen=True)
class EdgeShift:
    """How one sequence column's proposed edges compare to the parent's."""

    sequence: SequenceName
    column: str
    values: int
    """Non-zero values that were sketched."""
    edges: tuple[float, ...]
    parent_edges: tuple[float, ...]
    moved: float
    """Share of values that get another bucket id."""


def day_sketches(counts: DataFrame, sources: Sequence[Source], scenarios: Sequence[str]) -> bytes:
    """Sketches of the values of one day, given as :func:`etl.packed.value_counts`; an Arrow file of :data:`SCHEMA`."""
    rows = (
        counts.where(F.col("source") >= 0)
        .select("source", "scenario", "position", "value", F.explode(F.sequence(F.lit(1), "count")))
        .groupBy("source", "scenario", "position")
        .agg(F.kll_sketch_agg_double("value", K).alias("sketch"))
        .orderBy("source", "scenario", "position")
        .collect()
    )
    table = pa.Table.from_pylist(
        [
            {
                "table": sources[row.source].table,
                "by_scenario": sources[row.source].by_scenario,
                "expr": sources[row.source].values[row.position].expr,
                "scenario": scenarios[row.scenario] if sources[row.source].by_scenario else None,
                "sketch": bytes(row.sketch),
            }
            for row in rows
            # Values that are scaled to integers are tasks alone, and have no buckets.
            if not sources[row.source].values[row.position].scale
        ],
        schema=SCHEMA,
    )
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, SCHEMA) as writer:
        writer.write_table(table)
    return stream.getvalue()


def propose_edges(
    spark: SparkSession, config: EtlConfig, parent: DatasetSpec, days: Sequence[bytes]
) -> tuple[DatasetSpec, list[EdgeShift]]:
    """``parent`` with the bucket edges of its sequence columns taken from the sketches of ``days``.

    Profile, scenario attributes, vocabularies and scenarios stay the parent's; so do the edges of a column that had
    no non-zero value.

    Raises:
        UserError: the configuration no longer declares one of the parent's features.
    """
    sketches = pa.concat_tables([pa.ipc.open_file(io.BytesIO(day)).read_all() for day in days]).to_pylist()
    columns = [(name, column) for name in SEQUENCES for column in parent.sequence(name)]
    ranks = [_ranks(config, name, column) for name, column in columns]
    merged = _merged(spark, [[row["sketch"] for row in sketches if _is_of(row, c)] for _, c in columns], ranks)
    edges = [
        tuple(sorted(set(merged[i].quantiles))) if i in merged else column.edges
        for i, (_, column) in enumerate(columns)
    ]
    points = {i: sorted({*edges[i], *columns[i][1].edges}) for i in merged}
    below = _ranks_of(spark, {i: merged[i].sketch for i in merged}, points)
    shifts = [
        EdgeShift(
            sequence=name,
            column=column.name,
            values=merged[i].n if i in merged else 0,
            edges=edges[i],
            parent_edges=column.edges,
            moved=_moved(column.edges, edges[i], points[i], below[i]) if i in merged else 0.0,
        )
        for i, (name, column) in enumerate(columns)
    ]
    proposed = {
        str(name): tuple(c.model_copy(update={"edges": edges[i]}) for i, (n, c) in enumerate(columns) if n == name)
        for name in SEQUENCES
    }
    return parent.model_copy(update={**proposed, "parent": parent.feature_fingerprint}), shifts


def _ranks(config: EtlConfig, name: SequenceName, column: SequenceColumn) -> list[float]:
    """The ranks whose values are edges, see :func:`etl.discretize.quantile_edges`."""
    declared = config.features.behavior if name == "behavior" else config.features.performance
    feature = declared.get(column.name.partition("@")[0])
    if feature is None:
        raise UserError(f"features.{name} must declare {column.name!r} as the spec does, however: {sorted(declared)}")
    return [k / feature.buckets for k in range(1, feature.buckets)]


def _is_of(row: Mapping[str, object], column: SequenceColumn) -> bool:
    """Whether a sketch is of the values that the column's edges are fitted on."""
    key = (row["table"], row["by_scenario"], row["expr"])
    same = key == (column.table, column.scope != "advertiser", column.expr)
    return same and column.scenario in (None, row["scenario"])


def _merged(spark: SparkSession, sketches: Sequence[Sequence[bytes]], ranks: Sequence[list[float]]) -> dict[int, Row]:
    """Per column that has values: the merged ``sketch``, its ``n`` values and its ``quantiles`` at the ranks."""
    rows = [(i, bytearray(sketch)) for i, of_column in enumerate(sketches) for sketch in of_column]
    frame = spark.createDataFrame(rows, "column int, sketch binary").groupBy("column")
    merged = {row.column: row.sketch for row in frame.agg(F.kll_merge_agg_double("sketch").alias("sketch")).collect()}

    def of_column(frame: DataFrame, column: int) -> DataFrame:
        quantiles = F.kll_sketch_get_quantile_double("sketch", _literals(ranks[column]))
        count = F.kll_sketch_get_n_double("sketch").alias("n")
        return frame.select("column", "sketch", count, quantiles.alias("quantiles"))

    return {row.column: row for row in _each(spark, merged, of_column)}


def _ranks_of(
    spark: SparkSession, sketches: Mapping[int, bytes], points: Mapping[int, list[float]]
) -> dict[int, list[float]]:
    """Share of each column's values that are not above each point."""

    def of_column(frame: DataFrame, column: int) -> DataFrame:
        ranks = F.kll_sketch_get_rank_double("sketch", _literals(points[column]))
        return frame.select("column", ranks.alias("ranks"))

    return {row.column: list(row.ranks) for row in _each(spark, sketches, of_column)}


def _each(
    spark: SparkSession, sketches: Mapping[int, bytes], select: Callable[[DataFrame, int], DataFrame]
) -> list[Row]:
    """One row per sketch, in one job. Spark takes ranks and points as literals alone, so each has its own frame."""
    frame = spark.createDataFrame([(i, bytearray(s)) for i, s in sketches.items()], "column int, sketch binary")
    parts = [select(frame.where(F.col("column") == column), column) for column in sketches]
    return reduce(DataFrame.unionAll, parts).collect() if parts else []


def _literals(values: Sequence[float]) -> Column:
    return F.array(*(F.lit(float(value)) for value in values))


def _moved(old: Sequence[float], new: Sequence[float], points: Sequence[float], below: Sequence[float]) -> float:
    """Share of values whose bucket differs: ``points`` are all edges, between which both buckets are constant."""
    shares = np.diff([0.0, *below, 1.0])
    at = np.array([*points, np.inf])
    differs = np.searchsorted(old, at) != np.searchsorted(new, at)
    return float(shares[differs].sum())
