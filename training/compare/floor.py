"""The floor as a contender: the best forecasts that a synthetic world allows, which jobs/floors.py wrote.

Letters: N rows, M tasks.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from jaxtyping import Float

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from training.compare.period import period_sums, scenarios_of_test
from training.compare.run_cell import open_dataset
from training.compare.sums import CellSums
from training.published import parquet_files

Floor = Literal["observable", "bayes"]
"""The best forecasts given what can be seen by the as-of day, or given the state of the world."""
OF_THE_TRUTH = {"mean": "mean", "point": "median", "smape": "smape"}
"""Kinds of forecasts, and which of the truth's they are: a median is the best of all for NMAE."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Best forecasts of samples, by their keys."""

    folder: Path
    rows: Mapping[tuple[object, ...], int]
    forecasts: Mapping[str, Float[np.ndarray, "N M"]]

    @classmethod
    def read(cls, folder: Path, floor: Floor, tasks: tuple[str, ...]) -> "Truth":
        """The files of jobs/floors.py in ``folder``."""
        chosen = (pads.field("floor") == floor) & (pads.field("part") == 0)
        table = pads.dataset(folder, format="parquet").to_table(filter=chosen)
        keys = zip(*(table[key].to_pylist() for key in KEYS), strict=True)
        forecasts = {
            kind: np.stack([table[f"{task}_{name}"].to_numpy() for task in tasks], axis=1)
            for kind, name in OF_THE_TRUTH.items()
        }
        return cls(folder=folder, rows={key: row for row, key in enumerate(keys)}, forecasts=forecasts)

    def __call__(self, table: pa.Table) -> Mapping[str, Float[np.ndarray, "N M"]]:
        """The best forecasts of dataset rows.

        Raises:
            UserError: they are not among the samples.
        """
        keys = list(zip(*(table[key].to_pylist() for key in KEYS), strict=True))
        if unknown := [key for key in keys if key not in self.rows]:
            raise UserError(
                f"{self.folder} must have a floor for every eligible test row, however: {unknown[0]} has none; "
                "it is of another dataset or of fewer blocks: remove it and run make compare again"
            )
        rows = [self.rows[key] for key in keys]
        return {kind: values[rows] for kind, values in self.forecasts.items()}


def floor_sums(dataset: str, truth: Path, floor: Floor, *, batch_size: int, leave_out: Collection[str]) -> CellSums:
    """A cell like a model's, of the best forecasts for a dataset's test rows in folder ``truth``."""
    manifest, source = open_dataset(dataset, batch_size=batch_size)
    best = Truth.read(truth, floor, source.spec.task_names)
    entries = parquet_files(manifest, split="test")
    return period_sums(source, best, entries, scenarios=scenarios_of_test(manifest), leave_out=leave_out)
