"""Exact bucket edges of columns whose values lie in many shards, in two rounds; see :mod:`etl.quantiles`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from etl.pack import Column, Summary, packed_row, unpack
from etl.quantiles import Within, brackets, quantile_ranks, settle


@dataclass(frozen=True)
class EdgeRequest:
    """Edges of a column of facts, over all scenarios or over one."""

    source: int
    position: int
    buckets: int
    scenario: int | None = None

    def covers(self, column: Column) -> bool:
        source, scenario, position = column
        return (source, position) == (self.source, self.position) and self.scenario in (None, scenario)


Questions = Mapping[EdgeRequest, np.ndarray]
"""Brackets [R, 2] of the wanted ranks."""
Answers = Mapping[EdgeRequest, Sequence[Sequence[Within]]]
"""A shard's values inside each bracket, of every column that the request covers."""
Ask = Callable[[Questions], Sequence[Answers]]
Edges = dict[EdgeRequest, tuple[float, ...]]


def exact_edges(requests: Iterable[EdgeRequest], summaries: Sequence[Summary], ask: Ask) -> Edges:
    """Edges of every request. ``ask`` puts questions to all shards; it is called only if the summaries leave any."""
    edges: Edges = {}
    ranks: dict[EdgeRequest, np.ndarray] = {}
    questions: dict[EdgeRequest, np.ndarray] = {}
    for request in requests:
        parts = [part for s in summaries for column, part in s.counts.items() if request.covers(column)]
        ranks[request] = quantile_ranks(sum(part.total for part in parts), request.buckets)
        found = brackets(parts, ranks[request]) if len(ranks[request]) else np.empty((0, 2))
        if all(part.complete for part in parts):
            edges[request] = _distinct(found[:, 1])
        else:
            questions[request] = found
    answers = ask(questions) if questions else []
    for request in questions:
        shards = [answer[request] for answer in answers]
        values = [
            settle([part for shard in shards for part in shard[index]], int(rank))
            for index, rank in enumerate(ranks[request])
        ]
        edges[request] = _distinct(np.array(values))
    return edges


def answer_partition(batches: Iterable[pa.RecordBatch], questions: Questions) -> Iterator[pa.RecordBatch]:
    """In a Spark task: answer from a shard's value counts."""
    for counts in unpack(batches, "counts"):
        answers = {
            request: [
                [part.within(bracket) for column, part in counts.items() if request.covers(column)] for bracket in found
            ]
            for request, found in questions.items()
        }
        yield packed_row(answers=answers)


def _distinct(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in np.unique(values))
