"""Raw tables as uniform fact rows, ready for one shuffle by advertiser.

A *source* is one group-by: a raw table at one grain (per scenario and day, or per day over all scenarios), with all
the daily values that features, tasks and the activity rule take from it. Its rows become
``advertiser_id, source, scenario, day, values, words``: day counted from ``raw.first_day``, values as doubles in the
order of the source's columns (exact: integers and scaled decimals below 2^53), words only for the profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.config import EtlConfig, RawConfig
from etl.expressions import aggregate_type
from etl.sql import check_expression
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AttributeFeature, DatasetSpec

PROFILE_SOURCE = -1
NO_SCENARIO = -1


@dataclass(frozen=True)
class Value:
    """A daily value: an aggregate expression, times ``10**scale`` so that decimals are exact integers."""

    expr: str
    scale: int = 0
    exact: bool = False
    """Whether it must be an exact integer after scaling (tasks)."""


@dataclass(frozen=True)
class Source:
    table: str
    by_scenario: bool
    values: tuple[Value, ...]

    def position(self, expr: str, *, exact: bool = False) -> int:
        return next(i for i, value in enumerate(self.values) if value.expr == expr and value.exact == exact)


def declared_sources(config: EtlConfig, scales: Mapping[str, int]) -> tuple[Source, ...]:
    """Sources that a config's features, tasks (with their decimal ``scales``) and activity rule need."""
    wanted = [
        (feature.table or name, feature.scope != "advertiser", Value(feature.expr))
        for name in ("behavior", "performance")
        for feature in getattr(config.features, name).values()
    ]
    wanted += [(task.table, True, Value(task.expr, scales[name], True)) for name, task in config.tasks.items()]
    wanted.append((config.population.table, True, Value(config.population.activity)))
    return _grouped(wanted)


def spec_sources(spec: DatasetSpec) -> tuple[Source, ...]:
    """Sources that a frozen spec needs."""
    columns = (*spec.behavior, *spec.performance)
    wanted = [(column.table, column.scope != "advertiser", Value(column.expr)) for column in columns]
    wanted += [(task.table, True, Value(task.expr, task.scale, True)) for task in spec.tasks]
    wanted.append((spec.activity.table, True, Value(spec.activity.expr)))
    return _grouped(wanted)


def task_scales(config: EtlConfig, tables: Mapping[str, DataFrame]) -> dict[str, int]:
    """Decimal digits of each task's daily value; checks every aggregate expression of the config on the way."""
    for name in ("behavior", "performance"):
        for feature, declared in getattr(config.features, name).items():
            table = declared.table or name
            aggregate_type(tables[table], declared.expr, owner=f"features.{name}.{feature}")
    activity = config.population.activity
    kind = aggregate_type(tables[config.population.table], activity, owner="population.activity")
    if not isinstance(kind, T.BooleanType):
        raise UserError(
            f"population.activity: expression {activity!r} must be a condition (boolean), "
            f"however: {kind.simpleString()}; for instance 'count(*) > 0'"
        )
    scales = {}
    for name, task in config.tasks.items():
        kind = aggregate_type(tables[task.table], task.expr, owner=f"tasks.{name}")
        if not isinstance(kind, T.IntegralType | T.DecimalType | T.BooleanType):
            raise UserError(
                f"tasks.{name}: expression {task.expr!r} must give integers or decimals, so that sums are exact, "
                f"however: {kind.simpleString()}"
            )
        scales[name] = kind.scale if isinstance(kind, T.DecimalType) else 0
    return scales


def fact_rows(
    tables: Mapping[str, DataFrame], sources: Sequence[Source], scenarios: Sequence[str], raw: RawConfig
) -> DataFrame:
    """Fact rows of all sources. ``scenarios``: the known ids; a row's ``scenario`` is an index into them."""
    frames = [_source_rows(tables[source.table], index, source, scenarios, raw) for index, source in enumerate(sources)]
    rows = frames[0]
    for frame in frames[1:]:
        rows = rows.unionByName(frame)
    return rows


def profile_rows(snapshots: DataFrame, features: Sequence[AttributeFeature], raw: RawConfig) -> DataFrame:
    """Profile snapshots as fact rows: buckets' raw values in ``values``, vocabularies' in ``words``."""
    values = [F.expr(f.expr).cast("double") for f in features if f.kind == "bucket"]
    words = [F.expr(f.expr).cast("string") for f in features if f.kind == "vocabulary"]
    for feature in features:
        check_expression(feature.expr, owner=f"features.profile.{feature.name}")
    return snapshots.select(
        "advertiser_id",
        F.lit(PROFILE_SOURCE).alias("source"),
        F.lit(NO_SCENARIO).alias("scenario"),
        F.date_diff(F.col("day"), F.lit(raw.first_day)).alias("day"),
        _array(values, "double").alias("values"),
        _array(words, "string").alias("words"),
    )


def _grouped(wanted: Sequence[tuple[str, bool, Value]]) -> tuple[Source, ...]:
    grains: dict[tuple[str, bool], dict[Value, None]] = {}
    for table, by_scenario, value in wanted:
        grains.setdefault((table, by_scenario), {})[value] = None
    return tuple(Source(table, by_scenario, tuple(values)) for (table, by_scenario), values in grains.items())


def _source_rows(table: DataFrame, index: int, source: Source, scenarios: Sequence[str], raw: RawConfig) -> DataFrame:
    for value in source.values:
        check_expression(value.expr, owner=f"raw table {source.table!r}")
    keys = ["advertiser_id", "day"]
    if source.by_scenario:
        known = F.create_map(
            *(F.lit(item) for pair in zip(scenarios, range(len(scenarios)), strict=True) for item in pair)
        )
        table = table.where(F.col("scenario_id").isNotNull()).withColumn("_scenario", known[F.col("scenario_id")])
        keys.append("_scenario")
    aggregates = [F.expr(value.expr).alias(f"_value{i}") for i, value in enumerate(source.values)]
    daily = table.groupBy(*keys).agg(*aggregates)
    return daily.select(
        "advertiser_id",
        F.lit(index).alias("source"),
        (F.col("_scenario") if source.by_scenario else F.lit(NO_SCENARIO)).alias("scenario"),
        F.date_diff(F.col("day"), F.lit(raw.first_day)).alias("day"),
        _array([_double(f"_value{i}", value) for i, value in enumerate(source.values)], "double").alias("values"),
        _array([], "string").alias("words"),
    )


def _double(column: str, value: Value) -> Column:
    scaled = F.col(column) * F.lit(10**value.scale) if value.scale else F.col(column)
    return scaled.cast("double")


def _array(columns: list[Column], kind: str) -> Column:
    return F.array(*columns).cast(f"array<{kind}>")
