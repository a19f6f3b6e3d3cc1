"""What a finished cell of a study keeps: error sums by advertiser group and week, so that both can be resampled.

Letters: N rows, P sums, G advertiser groups, W weeks of the test period, S scenarios, M tasks, K members.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from training.groups import GROUPS, LEFT_OUT
from training.metrics import check_finite, smape_terms

SUMS = ("absolute_error", "label", "smape", "rows", "forecasts")
NUMERATORS = ("absolute_error", "smape")
"""The sums that depend on forecasts and that metrics are made of."""
Without = dict[str, tuple[Float[np.ndarray, "K 2 2 S M"], ...]]
"""By forecast kind, per ensemble of a forecaster: the sums of :data:`NUMERATORS` without each of its K members, of all
advertisers but those of ``evaluation.leave_out``, then of these; see :mod:`training.compare.jackknife`."""


@dataclass(frozen=True, kw_only=True)
class CellSums:
    """Sums per forecast kind: ``[P, G, W, S, M]`` in the order of :data:`SUMS`; they add up over files and workers."""

    scenarios: tuple[str, ...]
    tasks: tuple[str, ...]
    weeks: int
    forecasts: dict[str, Float[np.ndarray, "P G W S M"]] = field(default_factory=dict)
    without: Without = field(default_factory=dict)
    """Empty: of a single forecaster."""

    def add(
        self,
        forecast: str,
        *,
        groups: Int[np.ndarray, "N"],
        weeks: Int[np.ndarray, "N"],
        scenarios: Int[np.ndarray, "N"],
        forecasts: Float[np.ndarray, "N M"],
        labels: Float[np.ndarray, "N M"],
        exposures: Float[np.ndarray, "N M"] | None = None,
    ) -> None:
        """Add rows; ``scenarios`` are positions in ``self.scenarios``, ``weeks`` count from the period's first.

        ``exposures``: what rates are per, 1 of other tasks; errors and labels count as often, rows without none at all.
        """
        shape = (GROUPS + 1, self.weeks, len(self.scenarios))
        cells = np.ravel_multi_index((groups, weeks, scenarios), shape)
        check_finite(forecasts, self.tasks)
        if exposures is None:
            exposures = np.ones(labels.shape)
        exposed = exposures > 0
        errors, smapes = exposures * np.abs(forecasts - labels), exposed * smape_terms(forecasts, labels)
        terms = (errors, exposures * labels, smapes, exposed.astype(float), exposures * forecasts)
        total = self.forecasts.setdefault(forecast, np.zeros((len(SUMS), *shape, len(self.tasks))))
        for position, term in enumerate(terms):
            for task in range(len(self.tasks)):
                counted = np.bincount(cells, weights=term[:, task], minlength=int(np.prod(shape)))
                total[position, ..., task] += counted.reshape(shape)

    def to_table(self) -> pa.Table:
        """One row per (forecast, group, week, scenario, task) that has rows; sums in single precision."""
        columns: dict[str, list[np.ndarray]] = {}
        names = ("forecast", "group", "week", "scenario", "task", *SUMS)
        for forecast, sums in self.forecasts.items():
            present = np.nonzero(sums[SUMS.index("rows")])
            kinds = np.full(len(present[0]), forecast)
            values = (kinds, *(p.astype(np.int16) for p in present), *(s[present].astype(np.float32) for s in sums))
            for name, column in zip(names, values, strict=True):
                columns.setdefault(name, []).append(column)
        table = pa.table({name: np.concatenate(parts) for name, parts in columns.items()})
        about = {"scenarios": "\n".join(self.scenarios), "tasks": "\n".join(self.tasks), "weeks": str(self.weeks)}
        if self.without:
            parts = {kind: [part.astype(np.float32).tolist() for part in of] for kind, of in self.without.items()}
            about["without"] = json.dumps(parts)
        return table.replace_schema_metadata(about)

    @classmethod
    def from_table(cls, table: pa.Table) -> "CellSums":
        """Inverse of :meth:`to_table`, up to single precision."""
        about: Mapping[str, str] = {key.decode(): text.decode() for key, text in table.schema.metadata.items()}
        scenarios, tasks = tuple(about["scenarios"].split("\n")), tuple(about["tasks"].split("\n"))
        parts = json.loads(about.get("without", "{}"))
        without = {kind: tuple(np.array(part) for part in of_kind) for kind, of_kind in parts.items()}
        cell = cls(scenarios=scenarios, tasks=tasks, weeks=int(about["weeks"]), without=without)
        kinds = np.array(table["forecast"].to_pylist())
        index = [table[name].to_numpy() for name in ("group", "week", "scenario", "task")]
        for forecast in np.unique(kinds):
            rows = kinds == forecast
            sums = np.zeros((len(SUMS), GROUPS + 1, cell.weeks, len(scenarios), len(tasks)))
            for position, name in enumerate(SUMS):
                sums[(position, *(axis[rows] for axis in index))] = table[name].to_numpy()[rows]
            cell.forecasts[str(forecast)] = sums
        return cell

    def same_rows(self, other: "CellSums") -> bool:
        """Whether both are of the same test rows: their numbers of rows and sums of labels agree, block by block."""
        a, b = (next(iter(cell.forecasts.values())) for cell in (self, other))
        return (
            (self.scenarios, self.tasks) == (other.scenarios, other.tasks)
            and a.shape == b.shape
            and all(np.allclose(a[SUMS.index(part)], b[SUMS.index(part)]) for part in ("rows", "label"))
        )

    @property
    def has_left_out(self) -> bool:
        """Whether rows of left out advertisers are among them."""
        return any(sums[SUMS.index("rows"), LEFT_OUT].any() for sums in self.forecasts.values())
