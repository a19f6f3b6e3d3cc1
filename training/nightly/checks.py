"""What a night looks at after it has published: its rows and forecasts beside ``[keeper]``."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.schema import FORECASTS
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below, read_manifest
from training.nightly.config import KeeperConfig
from training.nightly.summary import Alert, Inputs
from training.published import newest_input_days, parquet_files, read_rows, read_spec

WEEK = 7


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over a day's predictions of one count or spend."""

    forecast: float
    """Of mean forecasts."""
    actual: float
    """Of last week's actual values of the same rows."""
    zero_share: float
    """Of point forecasts."""


def check_night(
    date: datetime.date, *, features: str, predictions: str, config: KeeperConfig
) -> tuple[Inputs, tuple[Alert, ...]]:
    """The inputs of one published day, and what is wrong with it; ``features``, ``predictions``: folders of all days.

    Raises:
        UserError: the day is not published, or a file of it is damaged.
    """
    day = Folder.at(below(features, f"dt={date}"))
    made = read_manifest(day, kind="features", build_hint="run m2m daily")
    scored_day = Folder.at(below(predictions, f"dt={date}"))
    scored = read_manifest(scored_day, kind="predictions", build_hint="run m2m daily")
    spec = read_spec(day, made)
    inputs = read_inputs(made)
    before = _rows_before(predictions, date)
    alerts = [
        *_rows(scored.rows, before, config),
        *_usable(spec, scored_day, scored),
        *_forecasts(_totals(spec, day, made, scored_day, scored), config),
        *_dropped(inputs, config),
    ]
    return inputs, tuple(alerts)


def read_inputs(features: Manifest) -> Inputs:
    """What a feature day was made from."""
    return Inputs(
        rows=features.rows,
        rows_by_scenario=features.content.get("rows_by_scenario", {}).get("features", {}),
        dropped=features.content.get("dropped", {}),
        newest_day=newest_input_days(features),
    )


def _rows_before(predictions: str, date: datetime.date) -> int | None:
    for days in range(1, WEEK + 1):
        folder = Folder.at(below(predictions, f"dt={date - datetime.timedelta(days=days)}"))
        if folder.exists(MANIFEST):
            return read_manifest(folder, kind="predictions", build_hint="run m2m daily").rows
    return None


def _rows(rows: int, before: int | None, config: KeeperConfig) -> Iterator[Alert]:
    if rows < config.min_rows:
        message = f"{rows:,} rows are predicted, at least {config.min_rows:,} are expected"
        yield Alert(check="rows", value=rows, threshold=config.min_rows, message=message)
    if before and (limit := _outside(rows / before, config.rows_ratio)) is not None:
        message = f"{rows:,} rows are predicted, {before:,} were on the newest earlier day"
        yield Alert(check="rows_ratio", value=round(rows / before, 4), threshold=limit, message=message)


def _usable(spec: DatasetSpec, scored_day: Folder, scored: Manifest) -> Iterator[Alert]:
    """Every forecast of every task must be a finite number, and none below 0."""
    columns = {task: [f"{task}_{kind}" for kind in FORECASTS] for task in spec.task_names}
    unusable = dict.fromkeys(columns, 0)
    for table in _tables(scored_day, scored, [name for names in columns.values() for name in names]):
        for task, names in columns.items():
            values = np.stack([table[name].to_numpy() for name in names])
            unusable[task] += int((~(np.isfinite(values) & (values >= 0))).any(axis=0).sum())
    for task, rows in unusable.items():
        if rows:
            message = f"{rows:,} rows have a forecast of {task} that is below 0 or no finite number"
            yield Alert(check=f"usable.{task}", value=rows, threshold=0, message=message)


def _forecasts(totals: dict[str, Totals], config: KeeperConfig) -> Iterator[Alert]:
    for task, total in totals.items():
        if total.zero_share > config.zero_share:
            message = f"{total.zero_share:.1%} of the point forecasts of {task} are 0"
            check = f"zero_share.{task}"
            yield Alert(check=check, value=round(total.zero_share, 4), threshold=config.zero_share, message=message)
        ratio = total.forecast / total.actual if total.actual else 1.0
        if np.isfinite(ratio) and (limit := _outside(ratio, config.total_ratio)) is not None:
            message = f"{task}: {total.forecast:,.0f} are forecast in all, last week's actual was {total.actual:,.0f}"
            yield Alert(check=f"total_ratio.{task}", value=round(ratio, 4), threshold=limit, message=message)


def _dropped(inputs: Inputs, config: KeeperConfig) -> Iterator[Alert]:
    dropped = sum(inputs.dropped.values())
    if dropped > config.dropped_rows:
        by_check = ", ".join(f"{rows:,} {check}" for check, rows in inputs.dropped.items() if rows)
        message = f"bad raw rows were let go: {by_check}"
        yield Alert(check="dropped_rows", value=dropped, threshold=config.dropped_rows, message=message)


def _outside(value: float, bounds: tuple[float, float]) -> float | None:
    """The bound that ``value`` lies beyond."""
    low, high = bounds
    return low if value < low else high if value > high else None


def _totals(spec: DatasetSpec, day: Folder, made: Manifest, scored_day: Folder, scored: Manifest) -> dict[str, Totals]:
    """Per count and spend; one file of a folder is in memory at a time."""
    tasks = [task.name for task in spec.tasks if task.kind in AMOUNTS]
    forecast, zeros, actual = (dict.fromkeys(tasks, 0.0) for _ in range(3))
    for table in _tables(scored_day, scored, [f"{task}_{kind}" for task in tasks for kind in ("mean", "point")]):
        for task in tasks:
            means = table[f"{task}_mean"].to_numpy()
            good = np.isfinite(means) & (means >= 0)
            forecast[task] += float(means[good].sum())
            zeros[task] += int((table[f"{task}_point"].to_numpy() == 0).sum())
    for table in _tables(day, made, [f"history_{task}" for task in tasks]):
        for task in tasks:
            newest_week = pc.list_element(table[f"history_{task}"], 0)
            actual[task] += pc.sum(newest_week).as_py() or 0.0
    return {
        task: Totals(
            forecast=forecast[task],
            actual=actual[task],
            zero_share=zeros[task] / scored.rows if scored.rows else 0.0,
        )
        for task in tasks
    }


def _tables(folder: Folder, manifest: Manifest, columns: list[str]) -> Iterator[pa.Table]:
    for entry in parquet_files(manifest):
        if entry.rows:
            yield read_rows(folder, entry, columns)
