"""The errors of one forecaster over a test period, summed so that advertisers and weeks can be resampled."""

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from m2m_model.contracts.store import FileEntry
from training.compare.sums import CellSums, advertiser_groups
from training.forecast import Forecasts
from training.scoring import Forecaster, Source, score_rows


def period_sums(
    source: Source,
    forecaster: Forecaster,
    rules: Callable[[Forecasts], Mapping[str, np.ndarray]],
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
            scored = score_rows(table, source, forecaster)
            groups = advertiser_groups(table["advertiser_id"].to_pylist(), leave_out)
            positions = np.array([index[name] for name in scored.scenarios])
            for kind, values in rules(scored.forecasts).items():
                sums.add(
                    kind,
                    groups=groups,
                    weeks=np.full(len(table), (day - first).days // 7),
                    scenarios=positions,
                    forecasts=values,
                    labels=scored.labels,
                )
    return sums
