"""The errors of forecasts over a test period, summed so that advertisers and weeks can be resampled.

Letters: N rows, M tasks.
"""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from m2m_model.contracts.spec import task_columns
from m2m_model.contracts.store import FileEntry
from training.compare.sums import CellSums, advertiser_groups
from training.forecast import Forecasts
from training.scoring import Forecaster, Source

Answer = Callable[[pa.Table], Mapping[str, Float[np.ndarray, "N M"]]]
"""Dataset rows -> their forecasts by kind (``mean``, ``point``, ``smape``)."""


def answers(
    source: Source, forecaster: Forecaster, rules: Callable[[Forecasts], Mapping[str, Float[np.ndarray, "N M"]]]
) -> Answer:
    """A forecaster's, after its rules."""
    return lambda table: rules(forecaster(source.batch(table)))


def period_sums(
    source: Source,
    answer: Answer,
    entries: Sequence[FileEntry],
    *,
    scenarios: tuple[str, ...],
    leave_out: Collection[str] = (),
) -> CellSums:
    """Sums over the eligible rows of ``entries``, the files of a test split; ``scenarios``: all that occur in them.

    Advertisers of ``leave_out`` are summed up apart.
    """
    days = [datetime.date.fromisoformat(entry.partition["dt"]) for entry in entries]
    first, last = min(days), max(days)
    index = {scenario: position for position, scenario in enumerate(scenarios)}
    sums = CellSums(scenarios=scenarios, tasks=source.spec.task_names, weeks=(last - first).days // 7 + 1)
    for entry, day in zip(entries, days, strict=True):
        for table in source.tables(entry):
            table = table.filter(table["eligible"])
            if not len(table):
                continue
            # Labels in full precision: a batch's are single.
            labels = np.stack([table[name].to_numpy() for name in task_columns(source.spec, "label")], axis=1)
            groups = advertiser_groups(table["advertiser_id"].to_pylist(), leave_out)
            positions = np.array([index[name] for name in table["scenario_id"].to_pylist()])
            for kind, values in answer(table).items():
                sums.add(
                    kind,
                    groups=groups,
                    weeks=np.full(len(table), (day - first).days // 7),
                    scenarios=positions,
                    forecasts=values,
                    labels=labels,
                )
    return sums
