"""Who can be enrolled on a day, and what is known of each before anything happens.

All of it is from the published feature day and from one model's predictions of it, whatever arm a unit comes to.
Letters: N rows (pairs).
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec
from training.engagement.day import PredictedDay
from training.experiments.config import ExperimentConfig

WEEK = 7
UNITS = pa.schema(
    [
        pa.field("advertiser_id", pa.string(), nullable=False),
        pa.field("stratum", pa.string(), nullable=False),
        pa.field("pairs", pa.list_(pa.string()), nullable=False),
        *(
            pa.field(f"{measure}_{when}", pa.float64())
            for measure in ("active", "spend")
            for when in ("last", "before", "forecast")
        ),
    ]
)
"""``pairs``: the scenarios that the active rate is over. ``active_*`` is a share of days, ``spend_*`` an amount per
horizon over all scenarios, capped; of the last week, of the week before that (null where history has one week), and as
forecast for the horizon."""


def day_units(
    experiment: ExperimentConfig, day: PredictedDay, *, audience: str, listed: pa.Table | None = None
) -> pa.Table:
    """The advertisers of a day with a pair in question, one row each, in the order of their ids; :data:`UNITS`.

    Args:
        audience: ``active``: eligible pairs are in question, or else those that are not.
        listed: pairs (``advertiser_id``, ``scenario_id``) that alone are.

    Raises:
        UserError: a task of the experiment is not what it must be.
    """
    spec = day.spec()
    _check_tasks(experiment, spec)
    active, spend = experiment.active, experiment.spend
    pairs = None if listed is None else _pair_keys(listed)
    parts = []
    columns = ["eligible", "active_days", *dict.fromkeys([f"history_{active}", f"history_{spend}"])]
    for rows, forecasts in day.tables(columns, list(dict.fromkeys([f"{active}_mean", f"{spend}_mean"]))):
        eligible = rows["eligible"].combine_chunks()
        asked = eligible if audience == "active" else pc.invert(eligible)
        chosen = asked if pairs is None else pc.is_in(_pair_keys(rows), value_set=pairs)
        parts.append(_units(_values(rows, forecasts, experiment, spec), chosen, experiment, spec))
    return pa.concat_tables(parts).sort_by("advertiser_id") if parts else UNITS.empty_table()


def _check_tasks(experiment: ExperimentConfig, spec: DatasetSpec) -> None:
    tasks = {task.name: task for task in spec.tasks}
    daily = [task.name for task in spec.tasks if task.daily_max == 1 and task.kind == "count"]
    if experiment.active not in daily:
        raise UserError(
            f"an experiment's active must be a count with daily_max = 1, one of {daily}, however: {experiment.active!r}"
        )
    amounts = [name for name, task in tasks.items() if task.kind in AMOUNTS]
    if experiment.spend not in amounts:
        raise UserError(f"an experiment's spend must be one of {amounts}, however: {experiment.spend!r}")


def _pair_keys(rows: pa.Table) -> pa.Array:
    advertisers = rows["advertiser_id"].cast(pa.string())
    return pc.binary_join_element_wise(advertisers, rows["scenario_id"], "\x1f").combine_chunks()


def _values(rows: pa.Table, forecasts: pa.Table, experiment: ExperimentConfig, spec: DatasetSpec) -> pa.Table:
    """[N]: the columns of a day that units are made of."""
    columns = {
        "advertiser_id": rows["advertiser_id"].cast(pa.string()),
        "scenario_id": rows["scenario_id"],
        "active_days": rows["active_days"],
        "size": pc.list_element(rows[f"history_{experiment.spend}"], spec.history_size - 1),
    }
    for measure, task in (("active", experiment.active), ("spend", experiment.spend)):
        history = rows[f"history_{task}"]
        nothing = pa.nulls(len(rows), pa.float64())
        columns[f"{measure}_last"] = pc.list_element(history, 0)
        columns[f"{measure}_before"] = pc.list_element(history, 1) if spec.history_weeks > 1 else nothing
        columns[f"{measure}_forecast"] = forecasts[f"{task}_mean"]
    return pa.table(columns)


def _units(values: pa.Table, chosen: pa.Array, experiment: ExperimentConfig, spec: DatasetSpec) -> pa.Table:
    asked = values.filter(chosen)
    # The first of an advertiser's pairs is its main one: the most active days, ties by name.
    asked = asked.sort_by([("advertiser_id", "ascending"), ("active_days", "descending"), ("scenario_id", "ascending")])
    actives, spends = (
        [f"{measure}_{when}" for when in ("last", "before", "forecast")] for measure in ("active", "spend")
    )
    # Without threads a group keeps the order of its rows; the groups themselves come in no order.
    units = asked.group_by("advertiser_id", use_threads=False).aggregate(
        [("scenario_id", "list"), *((name, "sum") for name in actives)]
    )
    units = units.sort_by("advertiser_id")
    everywhere = values.filter(pc.is_in(values["advertiser_id"], value_set=units["advertiser_id"]))
    everywhere = everywhere.group_by("advertiser_id").aggregate([(name, "sum") for name in ("size", *spends)])
    everywhere = everywhere.sort_by("advertiser_id")
    pairs = units["scenario_id_list"]
    counts = pc.list_value_length(pairs)
    digits = _digits(everywhere["size_sum"].to_numpy())
    strata = [
        f"{main}, scale {scale}" for main, scale in zip(pc.list_element(pairs, 0).to_pylist(), digits, strict=True)
    ]
    columns = {"advertiser_id": units["advertiser_id"], "stratum": pa.array(strata, pa.string()), "pairs": pairs}
    for name in actives:
        days = spec.horizon if name.endswith("forecast") else WEEK
        columns[name] = pc.divide(units[f"{name}_sum"], pc.cast(pc.multiply(counts, days), pa.float64()))
    for name in spends:
        per_horizon = 1.0 if name.endswith("forecast") else spec.horizon / WEEK
        columns[name] = pc.min_element_wise(
            pc.multiply(everywhere[f"{name}_sum"], per_horizon), experiment.cap, skip_nulls=False
        )
    return pa.table(columns).cast(UNITS)


def _digits(sums: np.ndarray) -> list[int]:
    """Order of magnitude: the digits of a sum's whole part, 0 below 1."""
    digits: list[int] = np.where(sums < 1, 0, np.floor(np.log10(np.maximum(sums, 1))) + 1).astype(int).tolist()
    return digits
