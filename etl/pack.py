"""Inside a Spark task: the fact rows of one shard, packed once for the kernel, and a summary of them for the fit.

Rows leave the JVM here and only here. A shard's facts become chunks of whole advertisers, as arrays of each source;
beside them go the exact value counts that bucket edges are fitted from, the words of the profile's vocabularies, and
what the checks of aggregated facts found. Chunks stay on the executors, summaries go to the driver.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.chunk import Facts, SourceFacts
from etl.facts import NO_SCENARIO, PROFILE_SOURCE, Source, value_columns, word_columns
from etl.quantiles import Distribution
from etl.task_values import LARGEST_EXACT
from m2m_model.contracts.spec import AttributeFeature

ADVERTISERS_PER_CHUNK = 512
PACKED_SCHEMA = "facts binary, counts binary, summary binary"

Column = tuple[int, int, int]
"""A column of facts: source (or PROFILE_SOURCE), scenario, position among the source's values."""


@dataclass(frozen=True)
class Summary:
    """What the driver needs to know of a shard."""

    counts: dict[Column, Distribution]
    """Of the non-zero values on the counted days, thinned where there are many; all of them stay in the shard."""
    words: tuple[pa.Array, ...]
    """Distinct words of each vocabulary column of the profile on training days."""
    rows: dict[tuple[int, int], tuple[int, int]]
    """Raw rows and their different keys, by source and problem; 0 keys where rows may share one."""
    days: dict[tuple[int, int], int]
    """Raw rows without a problem, by source and day."""
    negative: dict[int, int]
    """Facts with a negative task value, by source."""
    huge: int
    """Facts with a task value that a double does not hold exactly."""


@dataclass(frozen=True)
class PackJob:
    sources: tuple[Source, ...]
    buckets: int
    """Bucket columns of the profile."""
    vocabularies: int
    first_fact_day: int
    last_fact_day: int
    """Days whose facts are counted, from the first to the last; none by default."""
    last_profile_day: int

    @classmethod
    def of(
        cls,
        sources: Sequence[Source],
        profile: Sequence[AttributeFeature],
        *,
        first_fact_day: int = 0,
        last_fact_day: int = -1,
        last_profile_day: int = -1,
    ) -> "PackJob":
        """Without last days nothing is counted."""
        words = sum(feature.kind == "vocabulary" for feature in profile)
        buckets = len(profile) - words
        return cls(tuple(sources), buckets, words, first_fact_day, last_fact_day, last_profile_day)


def pack_partition(batches: Iterable[pa.RecordBatch], job: PackJob) -> Iterator[pa.RecordBatch]:
    """Pack the fact rows of one shard: a row per chunk of advertisers, one of value counts, one of the summary."""
    received = [batch for batch in batches if batch.num_rows]
    if not received:
        return
    table = pa.Table.from_batches(received)
    del received
    rows = _rows_by_problem(table)
    if any(problem for _, problem in rows):
        table = table.filter(pc.equal(table["problem"], 0))
    days = _rows_by_day(table)
    advertisers, rank = _ranked(table["advertiser_id"])
    sources, negative, huge = [], dict[int, int](), 0
    for index, source in enumerate(job.sources):
        facts = _of_source(table, rank, index, len(source.values), 0)
        if source.by_scenario:
            facts = facts.take(facts.scenario != NO_SCENARIO)
        is_negative, is_huge = np.zeros((2, len(facts.day)), bool)
        for column in (facts.values[i] for i, value in enumerate(source.values) if value.exact):
            is_negative |= column < 0.0
            is_huge |= column > LARGEST_EXACT
        negative[index] = int(is_negative.sum())
        huge += int(is_huge.sum())
        sources.append(facts.take(~is_negative) if is_negative.any() else facts)
    profile = _of_source(table, rank, PROFILE_SOURCE, job.buckets, job.vocabularies)
    del table
    for first in range(0, len(advertisers), ADVERTISERS_PER_CHUNK):
        last = min(first + ADVERTISERS_PER_CHUNK, len(advertisers))
        chunk = Facts(
            advertisers=pa.concat_arrays([advertisers.slice(first, last - first)]),
            sources=tuple(_between(facts, first, last) for facts in sources),
            profile=_between(profile, first, last),
        )
        yield _row(facts=chunk)
    counts = dict(_value_counts(job, sources, profile))
    yield _row(counts=counts)
    summary = Summary(
        counts={column: counted.thinned() for column, counted in counts.items()},
        words=_words(profile, job.last_profile_day),
        rows=rows,
        days=days,
        negative=negative,
        huge=huge,
    )
    yield _row(summary=summary)


def packed_row(**content: object) -> pa.RecordBatch:
    """A row that holds one thing, under its name; :func:`unpack` takes it out again."""
    ((name, value),) = content.items()
    return pa.record_batch({name: pa.array([pickle.dumps(value, protocol=5)], pa.binary())})


def _row(**content: object) -> pa.RecordBatch:
    """A row of PACKED_SCHEMA that holds one thing."""
    row = packed_row(**content)
    names = [name.split()[0] for name in PACKED_SCHEMA.split(", ")]
    lacking = pa.nulls(1, pa.binary())
    return pa.record_batch({name: row[name] if name in row.schema.names else lacking for name in names})


def unpack(batches: Iterable[pa.RecordBatch | pa.Table], column: str) -> Iterator[Any]:
    """What packed rows hold in ``column``."""
    for batch in batches:
        for content in batch[column]:
            if content.is_valid:
                yield pickle.loads(content.as_buffer())


def _rows_by_problem(table: pa.Table) -> dict[tuple[int, int], tuple[int, int]]:
    counted = table.group_by(["source", "problem"]).aggregate([("rows", "sum"), ("keys", "sum")]).to_pylist()
    return {(row["source"], row["problem"]): (row["rows_sum"], row["keys_sum"]) for row in counted}


def _rows_by_day(table: pa.Table) -> dict[tuple[int, int], int]:
    counted = table.group_by(["source", "day"]).aggregate([("rows", "sum")]).to_pylist()
    return {(row["source"], row["day"]): row["rows_sum"] for row in counted}


def _ranked(ids: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Distinct ids, ascending, and each row's position among them."""
    encoded = ids.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return encoded.dictionary.take(order), rank[encoded.indices.to_numpy(zero_copy_only=False)]


def _of_source(table: pa.Table, rank: np.ndarray, source: int, width: int, words: int) -> SourceFacts:
    rows = np.flatnonzero(table["source"].to_numpy() == source)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    take = pa.array(rows)
    return SourceFacts(
        advertiser=rank[rows],
        scenario=table["scenario"].to_numpy()[rows],
        day=table["day"].to_numpy()[rows],
        values=tuple(table[name].to_numpy()[rows] for name in value_columns(width)),
        words=tuple(table[name].take(take).combine_chunks() for name in word_columns(words)),
        seen=table["seen"].to_numpy()[rows] if "seen" in table.column_names else None,
    )


def _between(facts: SourceFacts, first: int, last: int) -> SourceFacts:
    """Facts of advertisers ``first`` .. ``last - 1``, numbered from 0."""
    start, stop = np.searchsorted(facts.advertiser, [first, last])
    part = facts.take(slice(start, stop))
    return replace(part, advertiser=part.advertiser - first)


def _value_counts(
    job: PackJob, sources: Sequence[SourceFacts], profile: SourceFacts
) -> Iterator[tuple[Column, Distribution]]:
    for index, facts in enumerate(sources):
        facts = facts.matured()
        trained = (facts.day >= job.first_fact_day) & (facts.day <= job.last_fact_day)
        for scenario in np.unique(facts.scenario[trained]):
            rows = trained & (facts.scenario == scenario)
            for position, column in enumerate(facts.values):
                yield (index, int(scenario), position), _counted(column[rows])
    for position, column in enumerate(profile.values):
        yield (PROFILE_SOURCE, NO_SCENARIO, position), _counted(column[profile.day <= job.last_profile_day])


def _counted(values: np.ndarray) -> Distribution:
    return Distribution.of(values[(values != 0.0) & ~np.isnan(values)])


def _words(profile: SourceFacts, last_day: int) -> tuple[pa.Array, ...]:
    trained = pa.array(profile.day <= last_day)
    return tuple(pc.unique(column.filter(trained)).drop_null() for column in profile.words)
