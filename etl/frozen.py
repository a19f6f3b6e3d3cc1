"""Whether a frozen spec can be applied to a run's raw tables, before any work on a day starts."""

import datetime
from collections.abc import Mapping

from pyspark.sql import DataFrame

from etl.config import EtlConfig
from etl.expressions import aggregate_type
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec


def check_frozen_spec(spec: DatasetSpec, config: EtlConfig, date: datetime.date) -> None:
    """Check what needs no table: time zone, names of tables, and that the raw calendar covers the day's sequence.

    Raises:
        UserError: the spec is of another kind of run, or ``date`` has no full sequence in the raw tables.
    """
    if spec.timezone != config.raw.timezone:
        raise UserError(
            f"the spec lays events on days in {spec.timezone}, raw.timezone is {config.raw.timezone}: "
            "use the spec of this run's dataset"
        )
    used = {column.table for column in (*spec.behavior, *spec.performance)}
    used |= {task.table for task in spec.tasks} | {spec.activity.table}
    if unknown := sorted(used - set(config.raw.facts)):
        raise UserError(
            f"the spec takes features from table {unknown[0]!r}, however: raw.facts has {sorted(config.raw.facts)}"
        )
    lag = datetime.timedelta(days=spec.availability_lag_days)
    first = config.raw.first_day + lag + datetime.timedelta(days=spec.sequence_length - 1)
    last = config.raw.last_day + lag
    if not first <= date <= last:
        raise UserError(
            f"the as-of day must lie within {first} .. {last}, for which the raw tables hold all days of a sequence, "
            f"however: {date}; raw.first_day and raw.last_day say what they hold"
        )


def check_frozen_expressions(spec: DatasetSpec, tables: Mapping[str, DataFrame], profile: DataFrame) -> None:
    """Check that the raw tables still have what the spec's expressions use, in the types they had.

    Raises:
        UserError: they do not.
    """
    actual = profile.schema["advertiser_id"].dataType.simpleString()
    if actual != spec.advertiser_id_type:
        raise UserError(f"raw tables must have {spec.advertiser_id_type} advertisers, like the spec, however: {actual}")
    wanted = {(column.table, column.expr): column.name for column in (*spec.behavior, *spec.performance)}
    wanted |= {(task.table, task.expr): f"tasks.{task.name}" for task in spec.tasks}
    wanted[spec.activity.table, spec.activity.expr] = "population.activity"
    for (table, expr), owner in wanted.items():
        aggregate_type(tables[table], expr, owner=f"{owner} of the spec")
