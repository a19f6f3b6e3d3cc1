"""The errors of forecasts over a test period, summed so that advertisers and weeks can be resampled.

Letters: N rows, M tasks.
"""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from m2m_model.contracts.store import FileEntry, Manifest
from training.compare.asides import Asides
from training.compare.sums import CellSums
from training.forecast import Forecasts
from training.groups import advertiser_groups
from training.scoring import Forecaster, Source, row_exposures, row_labels

Answer = Callable[[pa.Table], Mapping[str, Float[np.ndarray, "N M"]]]
"""Dataset rows -> their forecasts by kind (``mean``, ``point``, ``smape``)."""


def answers(
    source: Source,
    forecaster: Forecaster,
    rules: Callable[[Forecasts], Mapping[str, Float[np.ndarray, "N M"]]],
    asides: Asides | None = None,
) -> Answer:
    """A forecaster's, after its rules; ``asides`` see them too."""

    def answer(table: pa.Table) -> Mapping[str, Float[np.ndarray, "N M"]]:
        forecasts = forecaster(source.batch(table))
        kinds = rules(forecasts)
        if asides is not None:
            asides.add(table, forecasts, kinds)
        return kinds

    return answer


def scenarios_of_test(manifest: Manifest) -> tuple[str, ...]:
    """All scenarios that occur in a dataset's test rows."""
    return tuple(sorted(manifest.content["rows_by_scenario"]["test"]))


def period_sums(
    source: Source,
    answer: Answer,
    entries: Sequence[FileEntry],
    *,
    scenarios: tuple[str, ...],
    leave_out: Collection[str] = (),
) -> CellSums:
    """Sums over the eligible rows of ``entries``, the files of a test split; ``scenarios``: all that occur in them.

    Advertisers of ``leave_out`` are summed up apart; binary tasks have no NMAE and are left out.
    """
    days = [datetime.date.fromisoformat(entry.partition["dt"]) for entry in entries]
    first, last = min(days), max(days)
    index = {scenario: position for position, scenario in enumerate(scenarios)}
    numbers = np.array([task.kind != "binary" for task in source.spec.tasks])
    tasks = tuple(task.name for task in source.spec.tasks if task.kind != "binary")
    sums = CellSums(scenarios=scenarios, tasks=tasks, weeks=(last - first).days // 7 + 1)
    for entry, day in zip(entries, days, strict=True):
        for table in source.tables(entry):
            table = table.filter(table["eligible"])
            if not len(table):
                continue
            groups = advertiser_groups(table["advertiser_id"].to_pylist(), leave_out)
            positions = np.array([index[name] for name in table["scenario_id"].to_pylist()])
            for kind, values in answer(table).items():
                sums.add(
                    kind,
                    groups=groups,
                    weeks=np.full(len(table), (day - first).days // 7),
                    scenarios=positions,
                    forecasts=values[:, numbers],
                    labels=row_labels(table, source.spec)[:, numbers],
                    exposures=row_exposures(table, source.spec)[:, numbers],
                )
    return sums
