"""All sums over scored rows, each over the tasks and forecasts that it is defined for.

Letters: N rows.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool

from m2m_model.contracts.schema import FORECASTS, QUANTILES
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec
from training.forecast import ForecastRules
from training.metrics import MetricRow, MetricSums, segment_rows
from training.outcomes import CoverageSums, OutcomeSums
from training.scoring import Scored


@dataclass(frozen=True, kw_only=True)
class RowSums:
    """Everything that is summed over the test rows of one forecaster."""

    spec: DatasetSpec
    errors: dict[str, MetricSums]
    """By kind of forecast, of all tasks but the binary ones."""
    outcomes: OutcomeSums
    coverage: CoverageSums

    @classmethod
    def empty(cls, spec: DatasetSpec) -> Self:
        numbers = tuple(task.name for task in spec.tasks if task.kind != "binary")
        return cls(
            spec=spec,
            errors={forecast: MetricSums(tasks=numbers) for forecast in FORECASTS},
            outcomes=OutcomeSums(tasks=tuple(task.name for task in spec.tasks if task.kind == "binary")),
            coverage=CoverageSums(
                tasks=tuple(task.name for task in spec.tasks if task.kind in AMOUNTS), quantiles=QUANTILES
            ),
        )

    def add(self, scored: Scored, rules: ForecastRules, *, left_out: Bool[np.ndarray, "N"] | None) -> None:
        binary = np.array([task.kind == "binary" for task in self.spec.tasks])
        amounts = np.array([task.kind in AMOUNTS for task in self.spec.tasks])
        keys = scored.scenarios, scored.eligible, scored.active_days
        for forecast, values in rules.apply(scored.forecasts).items():
            self.errors[forecast].add(
                *keys,
                values[:, ~binary],
                scored.labels[:, ~binary],
                exposures=scored.exposures[:, ~binary],
                left_out=left_out,
            )
        members = list(segment_rows(*keys, left_out))
        if binary.any():
            self.outcomes.add(members, scored.forecasts.mean[:, binary], scored.labels[:, binary])
        if scored.forecasts.quantiles.shape[2]:
            self.coverage.add(members, scored.forecasts.quantiles[:, amounts], scored.labels[:, amounts])

    def merge(self, other: Self) -> Self:
        """The sums of both, as if one worker had seen all rows."""
        return type(self)(
            spec=self.spec,
            errors={forecast: sums.merge(other.errors[forecast]) for forecast, sums in self.errors.items()},
            outcomes=self.outcomes.merge(other.outcomes),
            coverage=self.coverage.merge(other.coverage),
        )

    def error_rows(self, model: str) -> list[MetricRow]:
        return [row for forecast, sums in self.errors.items() for row in sums.rows(model=model, forecast=forecast)]
