"""The slow twin of id histograms: one row, one day, one feature at a time."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from m2m_model.contracts.drift import feature_sizes
from m2m_model.contracts.spec import DatasetSpec


def slow_counts(spec: DatasetSpec, rows: Iterable[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Eligible rows per id of every feature; sequences by their newest seven days."""
    found: dict[str, Counter[int]] = {name: Counter() for name in feature_sizes(spec)}
    for row in (row for row in rows if row["eligible"]):
        for sequence, columns in (("behavior", spec.behavior), ("performance", spec.performance)):
            for day in range(max(0, spec.sequence_length - 7), spec.sequence_length):
                for position, feature in enumerate(columns):
                    found[f"{sequence}.{feature.name}"][row[f"{sequence}_ids"][day * len(columns) + position]] += 1
        for position, attribute in enumerate(spec.profile):
            found[f"profile.{attribute.name}"][row["profile_ids"][position]] += 1
        for position, attribute in enumerate(spec.scenario_attributes):
            found[f"scenario.{attribute.name}"][row["attribute_ids"][position]] += 1
    return {name: tuple(found[name][index] for index in range(size)) for name, size in feature_sizes(spec).items()}
