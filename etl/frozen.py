"""Whether a frozen spec can be applied to a run's raw tables, before any work on a day starts."""

import datetime

from pyspark.sql import functions as F

from etl.config import EtlConfig
from etl.expressions import aggregate_type, check_scalar
from etl.raw import RawFrames
from etl.tables import Days
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec


def history(spec: DatasetSpec, date: datetime.date) -> Days:
    """First and last day of facts that the features of as-of day ``date`` need."""
    last = date - datetime.timedelta(days=spec.availability_lag_days)
    return last - datetime.timedelta(days=spec.history_days - 1), last


def snapshot_span(spec: DatasetSpec, date: datetime.date) -> Days:
    """First and last day of the snapshots that the features of as-of day ``date`` may come from."""
    if spec.snapshot_days is None:
        return datetime.date.min, date
    return date - datetime.timedelta(days=spec.snapshot_days - 1), date


def check_spec_fits(spec: DatasetSpec, config: EtlConfig) -> None:
    """Raises UserError if a frozen spec was made for another time frame, tasks or tables than the config declares."""
    sequence = config.sequence
    stated = {
        "raw.timezone": (config.raw.timezone, spec.timezone),
        "raw.snapshot_days": (config.raw.snapshot_days, spec.snapshot_days),
        "sequence.length": (sequence.length, spec.sequence_length),
        "sequence.horizon": (sequence.horizon, spec.horizon),
        "sequence.availability_lag_days": (sequence.availability_lag_days, spec.availability_lag_days),
        "sequence.history_weeks": (sequence.history_weeks, spec.history_weeks),
        "tasks": (list(config.tasks), list(spec.task_names)),
    }
    for key, (configured, frozen) in stated.items():
        if configured != frozen:
            raise UserError(
                f"{key} must be {frozen!r} as in spec {spec.feature_fingerprint}, however: {configured!r}; "
                "use the config that the spec was made with, or build the dataset anew"
            )
    used = {column.table for column in (*spec.behavior, *spec.performance)}
    used |= {task.table for task in spec.tasks} | {spec.activity.table}
    if unknown := sorted(used - set(config.raw.facts)):
        raise UserError(
            f"the spec takes features from table {unknown[0]!r}, however: raw.facts has {sorted(config.raw.facts)}"
        )


def not_in_force(spec: DatasetSpec, config: EtlConfig) -> list[str]:
    """What the config says of features, tasks and eligibility otherwise than a frozen spec, by the names of settings.

    The spec decides; the config's changes take effect with the next dataset and the model that is trained on it. How
    many buckets a feature was to have is not in a spec, so it is not compared.
    """
    declared: dict[str, object] = {"population.activity": (config.population.table, config.population.activity)}
    declared["population.min_active_days"] = config.population.min_active_days
    frozen: dict[str, object] = {"population.activity": (spec.activity.table, spec.activity.expr)}
    frozen["population.min_active_days"] = spec.activity.min_active_days
    for sequence, columns in (("behavior", spec.behavior), ("performance", spec.performance)):
        for name, feature in getattr(config.features, sequence).items():
            declared[f"features.{sequence}.{name}"] = (
                feature.table or sequence,
                feature.expr,
                feature.scope,
                feature.dense,
            )
        for column in columns:
            # A feature of every scenario has a column for each, NAME@SCENARIO.
            name = column.name.partition("@")[0]
            frozen[f"features.{sequence}.{name}"] = (column.table, column.expr, column.scope, column.dense)
    for group, attributes in (("profile", spec.profile), ("scenario", spec.scenario_attributes)):
        for name, attribute in getattr(config.features, group).items():
            declared[f"features.{group}.{name}"] = (attribute.expr, attribute.kind)
        frozen |= {f"features.{group}.{attribute.name}": (attribute.expr, attribute.kind) for attribute in attributes}
    for name, task in config.tasks.items():
        declared[f"tasks.{name}"] = (task.kind, task.table, task.expr, task.exposure, task.daily_max, task.outcome)
    for found in spec.tasks:
        exposure = None if found.exposure is None else found.exposure.expr
        frozen[f"tasks.{found.name}"] = (
            found.kind,
            found.table,
            found.expr,
            exposure,
            found.daily_max,
            found.outcome,
        )
    return [name for name in declared | frozen if declared.get(name) != frozen.get(name)]


def check_frozen_spec(spec: DatasetSpec, config: EtlConfig, date: datetime.date) -> None:
    """Check what needs no table: that the spec is of this run, and that the raw calendar reaches back far enough.

    Raises:
        UserError: it is not, or ``date`` has no full sequence in the raw tables.
    """
    check_spec_fits(spec, config)
    lag = datetime.timedelta(days=spec.availability_lag_days)
    first = config.raw.first_day + lag + datetime.timedelta(days=spec.sequence_length - 1)
    if date < first:
        raise UserError(
            f"the as-of day must be {first} or later, for which the raw tables hold all days of a sequence, "
            f"however: {date}; raw.first_day says where they begin"
        )


def check_frozen_expressions(spec: DatasetSpec, tables: RawFrames) -> None:
    """Check that the raw tables still have what the spec's expressions use, in the types they had.

    Raises:
        UserError: they do not, or one is more than an expression may be.
    """
    if tables.advertiser_id_type != spec.advertiser_id_type:
        raise UserError(
            f"raw tables must have {spec.advertiser_id_type} advertisers, like the spec, "
            f"however: {tables.advertiser_id_type}"
        )
    wanted = {(column.table, column.expr): column.name for column in (*spec.behavior, *spec.performance)}
    for task in spec.tasks:
        wanted[task.table, task.expr] = f"tasks.{task.name}"
        if task.exposure is not None:
            wanted[task.table, task.exposure.expr] = f"tasks.{task.name}.exposure"
    wanted[spec.activity.table, spec.activity.expr] = "population.activity"
    for (table, expr), owner in wanted.items():
        aggregate_type(tables.facts[table], expr, owner=f"{owner} of the spec")
    attributes = {
        "profile": (tables.profile, spec.profile),
        "scenario": (tables.scenarios.withColumn("as_of", F.col("day")), spec.scenario_attributes),
    }
    for group, (frame, features) in attributes.items():
        for feature in features:
            check_scalar(frame, feature.expr, kind=feature.kind, owner=f"{group}.{feature.name} of the spec")
