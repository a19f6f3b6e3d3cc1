"""Dense calendars of a chunk of advertisers: every fact bucketized once, and laid on its day.

Letters: A advertisers, S known scenarios, P = A * S pairs, C calendar days, F columns, M tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from etl.chunk import Facts, SourceFacts
from etl.discretize import bucket_ids
from etl.facts import Source
from etl.plan import WindowPlan
from etl.task_values import Daily, refuse_inexact, running_totals
from m2m_model.contracts.schema import sequence_type
from m2m_model.contracts.spec import MISSING_ID, ZERO_ID, SequenceColumn

Encode = Callable[[np.ndarray], np.ndarray]


class Calendars:
    """Dense calendars of a chunk; a pair p = a * S + s is an advertiser in a scenario."""

    def __init__(self, facts: Facts, plan: WindowPlan) -> None:
        self.facts, self.plan, spec = facts, plan, plan.spec
        self.pairs = len(facts.advertisers) * len(plan.scenarios)
        calendar_days = np.arange(plan.start, plan.start + plan.days)
        observed = (calendar_days >= 0) & (calendar_days <= plan.last_day)
        self.sources = [self._inside(source) for source in facts.sources]
        self.ids = {name: self._ids(spec.sequence(name), observed) for name in ("behavior", "performance")}
        self.dense = self._dense([c for c in (*spec.behavior, *spec.performance) if c.dense])
        self.totals = self._running_totals([(task.table, task.expr, task.scale) for task in spec.tasks])
        refuse_inexact(self.totals[:, -1], spec)
        self.exposures = {
            position: self._running_totals([(task.table, task.exposure.expr, task.exposure.scale)])
            for position, task in enumerate(spec.tasks)
            if task.exposure is not None
        }
        where, activity = self._daily(spec.activity.table, spec.activity.expr)
        self.active = running_totals([(where, activity > 0)], self.pairs, plan.days, np.int32)[..., 0]

    def _inside(self, source: SourceFacts) -> SourceFacts:
        """Facts that fall into the calendar, with days counted from its start."""
        day = source.day - self.plan.start
        inside = (day >= 0) & (day < self.plan.days)
        return replace(source, day=day) if inside.all() else replace(source, day=day).take(inside)

    def _source(self, table: str, by_scenario: bool) -> tuple[Source, SourceFacts]:
        index = next(i for i, s in enumerate(self.plan.sources) if (s.table, s.by_scenario) == (table, by_scenario))
        return self.plan.sources[index], self.sources[index]

    def _ids(self, columns: Sequence[SequenceColumn], observed: np.ndarray) -> np.ndarray:
        """Bucket ids [P, C, F]: zero on observed days without a row, missing outside the raw calendar."""
        dtype = sequence_type(tuple(columns)).to_pandas_dtype()
        ids = np.empty((self.pairs, self.plan.days, len(columns)), dtype)
        ids[...] = np.where(observed, ZERO_ID, MISSING_ID)[:, None]
        for position, column in enumerate(columns):
            self._scatter(ids, position, column, partial(bucket_ids, edges=column.edges))
        return ids

    def _dense(self, columns: Sequence[SequenceColumn]) -> np.ndarray:
        """Signed log1p values [P, C, F]; zero where there is no row or the value is missing."""
        dense = np.zeros((self.pairs, self.plan.days, len(columns)), np.float32)
        for position, column in enumerate(columns):
            self._scatter(dense, position, column, signed_log1p)
        return dense

    def _scatter(self, target: np.ndarray, position: int, column: SequenceColumn, encode: Encode) -> None:
        """Write a column's encoded facts into ``target`` [P, C, F], for all scenarios where its scope is not own."""
        source, facts = self._source(column.table, column.scope != "advertiser")
        values, advertiser, scenario, day = (
            facts.values[source.position(column.expr)],
            facts.advertiser,
            facts.scenario,
            facts.day,
        )
        if column.scope == "each_scenario":
            rows = scenario == self.plan.scenarios.index(str(column.scenario))
            values, advertiser, day = values[rows], advertiser[rows], day[rows]
        encoded, scenarios = encode(values), len(self.plan.scenarios)
        for s in [scenario] if column.scope == "own" else range(scenarios):
            target[advertiser * scenarios + s, day, position] = encoded

    def _daily(self, table: str, expr: str, scale: int = 0) -> Daily:
        """Pairs and days of a task, an exposure or the activity rule, and its values there, 0 for null."""
        source, facts = self._source(table, True)
        pair = facts.advertiser * len(self.plan.scenarios) + facts.scenario
        return (pair, facts.day), np.nan_to_num(facts.values[source.position(expr, scale)])

    def _running_totals(self, columns: Sequence[tuple[str, str, int]]) -> np.ndarray:
        """Of exact daily values, each a table, an expression and its scale: [P, C + 1, M]."""
        daily = [self._daily(*column) for column in columns]
        return running_totals(daily, self.pairs, self.plan.days, np.float64)


def signed_log1p(values: np.ndarray) -> np.ndarray:
    """sign(x) log(1 + |x|) as float32, 0 for NaN."""
    values = np.nan_to_num(values)
    result: np.ndarray = (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)
    return result
