"""What a cell tells beside its error sums: how calibrated its predictive distribution is, and its errors on advertisers
that training has not seen.

Letters: N rows, M tasks, Q quantiles.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec
from training.forecast import Forecasts
from training.metrics import AIMED, MetricSums
from training.scoring import row_exposures, row_labels


@dataclass(frozen=True, kw_only=True)
class Asides:
    """Sums over eligible test rows."""

    spec: DatasetSpec
    seen: Collection[object]
    """Advertisers of the training rows."""
    quantiles: dict[str, Float[np.ndarray, "M Q 3"]] = field(default_factory=dict)
    """By scenario and task of amounts: labels below each forecast quantile, at most it, and rows."""
    unseen: dict[str, MetricSums] = field(default_factory=dict)
    """By aimed metric, of the rows of advertisers that training has not seen."""
    advertisers: dict[object, int] = field(default_factory=dict)
    """Those, and their rows."""

    def add(self, table: pa.Table, forecasts: Forecasts, kinds: Mapping[str, Float[np.ndarray, "N M"]]) -> None:
        """Eligible test rows, a forecaster's answer to them, and what its rules make of it."""
        labels, scenarios = row_labels(table, self.spec), table["scenario_id"].to_numpy().astype(str)
        self._add_quantiles(scenarios, forecasts.quantiles, labels)
        advertisers = table["advertiser_id"].to_pylist()
        new = np.array([advertiser not in self.seen for advertiser in advertisers])
        if not new.any():
            return
        for advertiser in (advertiser for advertiser in advertisers if advertiser not in self.seen):
            self.advertisers[advertiser] = self.advertisers.get(advertiser, 0) + 1
        numbers = np.array([task.kind != "binary" for task in self.spec.tasks])
        tasks = tuple(task.name for task in self.spec.tasks if task.kind != "binary")
        for metric, kind in AIMED.items():
            self.unseen.setdefault(metric, MetricSums(tasks=tasks)).add(
                scenarios[new],
                np.ones(new.sum(), bool),
                table["active_days"].to_numpy()[new],
                kinds[kind][new][:, numbers],
                labels[new][:, numbers],
                exposures=row_exposures(table, self.spec)[new][:, numbers],
            )

    def about(self) -> dict[str, str]:
        """As JSON: ``calibration`` of a forecaster with quantiles, ``unseen`` if there are such advertisers."""
        said = {}
        if self.quantiles:
            tasks = [task.name for task in self.spec.tasks if task.kind in AMOUNTS]
            counts = {
                scenario: dict(zip(tasks, of_scenario.tolist(), strict=True))
                for scenario, of_scenario in sorted(self.quantiles.items())
            }
            said["calibration"] = json.dumps(counts)
        if self.unseen:
            found: dict[str, Any] = {"advertisers": len(self.advertisers), "rows": sum(self.advertisers.values())}
            for metric, sums in self.unseen.items():
                found[metric] = getattr(sums.overall, metric)
            said["unseen"] = json.dumps(found)
        return said

    def _add_quantiles(
        self, scenarios: np.ndarray, quantiles: Float[np.ndarray, "N M Q"], labels: Float[np.ndarray, "N M"]
    ) -> None:
        if quantiles.shape[2] != len(QUANTILES):
            return
        amounts = np.array([task.kind in AMOUNTS for task in self.spec.tasks])
        labels, quantiles = labels[:, amounts, None], quantiles[:, amounts]
        counted = np.stack([labels < quantiles, labels <= quantiles, np.ones(quantiles.shape, bool)], axis=3)
        for scenario in np.unique(scenarios):
            sums = counted[scenarios == scenario].sum(axis=0).astype(float)
            name = str(scenario)
            self.quantiles[name] = self.quantiles[name] + sums if name in self.quantiles else sums
