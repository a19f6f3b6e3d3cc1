"""What the scenario attributes are worth: score test rows again with the attributes of another scenario."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from m2m_model.contracts.store import FileEntry
from training.forecast import ForecastRules
from training.metrics import HEADLINE, OVERALL, MetricRow, MetricSums
from training.scoring import Forecaster, Source, score_rows

NOTICEABLE = 0.005
"""Relative loss of accuracy under which shuffling is said to cost nothing."""


@dataclass(frozen=True, kw_only=True)
class ShuffleCost:
    """NMAE of point forecasts over tasks, by scenario from head to minor, on the same rows."""

    days: int
    rows: int
    donors: Mapping[str, str]
    """Whose attributes a scenario was given."""
    true: Mapping[str, float]
    shuffled: Mapping[str, float]
    minor: tuple[str, ...]
    """The smaller half of the scenarios, by rows."""

    def relative(self, scenarios: Sequence[str]) -> float:
        """How much larger the mean NMAE of ``scenarios`` is with shuffled attributes, as a share."""
        true, shuffled = (sum(values[s] for s in scenarios) for values in (self.true, self.shuffled))
        return shuffled / true - 1 if true > 0 else 0.0

    @property
    def verdict(self) -> str:
        """One sentence on the minor scenarios."""
        change, names = self.relative(self.minor), ", ".join(self.minor)
        if abs(change) < NOTICEABLE:
            return f"Shuffling the scenario attributes costs nothing in the minor scenarios ({names}): {change:+.1%}."
        if change < 0:
            return (
                f"Shuffling the scenario attributes makes the minor scenarios ({names}) no worse: NMAE {change:+.1%}."
            )
        return f"Shuffling the scenario attributes costs {change:.1%} of NMAE in the minor scenarios ({names})."


def shuffle_cost(
    forecaster: Forecaster, rules: ForecastRules, source: Source, entries: Sequence[FileEntry], *, days: int = 4
) -> ShuffleCost | None:
    """Score the eligible rows of ``days`` evenly spread test days twice; None without two scenarios to swap between.

    Each scenario is given the attributes that the next smaller one has on the same day, the smallest those of the
    largest. The scenario's id embedding stays its own: what is measured is what the model draws from attributes.
    """
    sums = {name: MetricSums(tasks=source.spec.task_names) for name in ("true", "shuffled")}
    chosen = _spread(sorted({entry.partition["dt"] for entry in entries}), days)
    tables = [_eligible(source, [e for e in entries if e.partition["dt"] == day]) for day in chosen]
    donors = _donors(tables)
    if len(donors) < 2:
        return None
    count = 0
    for table in tables:
        table, swapped = swap_attributes(table, donors)
        count += len(table)
        for name, rows in (("true", table), ("shuffled", swapped)):
            for start in range(0, len(rows), source.batch_size):
                scored = score_rows(rows.slice(start, source.batch_size), source, forecaster)
                points = rules.apply(scored.forecasts)["point"]
                sums[name].add(scored.scenarios, scored.eligible, scored.active_days, points, scored.labels)
    true, shuffled = (_nmae_by_scenario(total.rows(model="", forecast="point")) for total in sums.values())
    order = tuple(scenario for scenario in donors if not math.isnan(true.get(scenario, math.nan)))
    if len(order) < 2:
        return None
    minor = order[-(len(order) // 2) :]
    return ShuffleCost(days=len(chosen), rows=count, donors=donors, true=true, shuffled=shuffled, minor=minor)


def swap_attributes(table: pa.Table, donors: Mapping[str, str]) -> tuple[pa.Table, pa.Table]:
    """The rows of one day as they are, and with their donors' attributes; rows without a donor that day are left out.

    Attributes belong to (scenario, day), so any row of the donor's shows them.
    """
    scenarios = table["scenario_id"].to_pylist()
    attributes = dict(zip(scenarios, table["attribute_ids"].to_pylist(), strict=True))
    kept = table.filter(pa.array([donors[scenario] in attributes for scenario in scenarios], pa.bool_()))
    column = kept.schema.get_field_index("attribute_ids")
    given = [attributes[donors[scenario]] for scenario in kept["scenario_id"].to_pylist()]
    field = kept.schema.field(column)
    return kept, kept.set_column(column, field, pa.array(given, field.type))


def _eligible(source: Source, entries: Sequence[FileEntry]) -> pa.Table:
    tables = [table.filter(table["eligible"]) for entry in entries for table in source.tables(entry)]
    return pa.concat_tables(tables)


def _donors(tables: Sequence[pa.Table]) -> dict[str, str]:
    """Scenarios from head to minor, each with the next smaller one; the smallest with the largest."""
    counts = Counter(scenario for table in tables for scenario in table["scenario_id"].to_pylist())
    order = sorted(counts, key=lambda scenario: (-counts[scenario], scenario))
    return dict(zip(order, [*order[1:], *order[:1]], strict=True))


def _nmae_by_scenario(rows: Sequence[MetricRow]) -> dict[str, float]:
    return {r.scenario: r.nmae for r in rows if (r.segment, r.task) == (HEADLINE, OVERALL) and r.scenario != OVERALL}


def _spread(days: Sequence[str], count: int) -> list[str]:
    positions = np.linspace(0, len(days) - 1, min(count, len(days))).round().astype(int)
    return [days[position] for position in positions]
