"""Raw tables as uniform fact rows, partitioned by advertiser.

A *source* is one group-by: a raw table at one grain (per scenario and day, or per day over all scenarios), with all
the daily values that features, tasks and the activity rule take from it. Its rows become
``advertiser_id, source, scenario, day, problem, rows, keys, value_0 .., word_0 ..``: day counted from
``raw.first_day``, ``problem`` as the checks flagged it, ``rows`` raw rows that have ``keys`` different keys, values as
doubles in the order of the source's columns (exact: integers and scaled decimals below 2^53), words only for the
profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.arrivals import Arrivals
from etl.config import EtlConfig, RawConfig
from etl.expressions import aggregate_type, finite_double, power_of_ten
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AttributeFeature, DatasetSpec

PROFILE_SOURCE = -1
NO_SCENARIO = -1
NO_DAY = -1_000_000
"""Of a row without a day, which is a problem and never used."""


@dataclass(frozen=True)
class Value:
    """A daily value: an aggregate expression, times ``10**scale`` so that decimals are exact integers."""

    expr: str
    scale: int = 0
    exact: bool = False
    """Whether it must be an exact integer after scaling (tasks). A feature may share a task's value."""


@dataclass(frozen=True, kw_only=True)
class TaskScales:
    """Decimal digits of a task's daily value and, of a rate, of its exposure."""

    value: int
    exposure: int


@dataclass(frozen=True)
class Source:
    table: str
    by_scenario: bool
    values: tuple[Value, ...]

    def position(self, expr: str, scale: int = 0) -> int:
        return next(i for i, value in enumerate(self.values) if (value.expr, value.scale) == (expr, scale))


def declared_sources(config: EtlConfig, scales: Mapping[str, TaskScales]) -> tuple[Source, ...]:
    """Sources that a config's features, tasks (with their decimal ``scales``) and activity rule need."""
    wanted = [
        (feature.table or name, feature.scope != "advertiser", Value(feature.expr))
        for name in ("behavior", "performance")
        for feature in getattr(config.features, name).values()
    ]
    for name, task in config.tasks.items():
        wanted.append((task.table, True, Value(task.expr, scales[name].value, True)))
        if task.exposure is not None:
            wanted.append((task.table, True, Value(task.exposure, scales[name].exposure, True)))
    wanted.append((config.population.table, True, Value(config.population.activity)))
    return _grouped(wanted)


def spec_sources(spec: DatasetSpec) -> tuple[Source, ...]:
    """Sources that a frozen spec needs."""
    columns = (*spec.behavior, *spec.performance)
    wanted = [(column.table, column.scope != "advertiser", Value(column.expr)) for column in columns]
    for task in spec.tasks:
        wanted.append((task.table, True, Value(task.expr, task.scale, True)))
        if task.exposure is not None:
            wanted.append((task.table, True, Value(task.exposure.expr, task.exposure.scale, True)))
    wanted.append((spec.activity.table, True, Value(spec.activity.expr)))
    return _grouped(wanted)


def task_scales(config: EtlConfig, tables: Mapping[str, DataFrame]) -> dict[str, TaskScales]:
    """Decimal digits of each task's daily values; checks every aggregate expression of the config on the way."""
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
        table, owner = tables[task.table], f"tasks.{name}"
        exposure = 0 if task.exposure is None else _scale(table, task.exposure, owner=f"{owner}.exposure")
        scales[name] = TaskScales(value=_scale(table, task.expr, owner=owner), exposure=exposure)
    return scales


def _scale(table: DataFrame, expr: str, *, owner: str) -> int:
    kind = aggregate_type(table, expr, owner=owner)
    if not isinstance(kind, T.IntegralType | T.DecimalType | T.BooleanType):
        raise UserError(
            f"{owner}: expression {expr!r} must give integers or decimals, so that sums are exact, "
            f"however: {kind.simpleString()}"
        )
    return kind.scale if isinstance(kind, T.DecimalType) else 0


def fact_rows(
    tables: Mapping[str, DataFrame],
    profile: DataFrame,
    sources: Sequence[Source],
    profile_features: Sequence[AttributeFeature],
    scenarios: Sequence[str],
    raw: RawConfig,
    *,
    shards: int,
    arrivals: Arrivals | None = None,
) -> DataFrame:
    """Fact rows of all sources and the profile's snapshots, hash-partitioned by advertiser into ``shards`` partitions.

    ``scenarios``: the known ids; a row's ``scenario`` is an index into them. Daily tables pass one shuffle, by
    advertiser, before they are aggregated. Events are aggregated first, in part before their shuffle, so that neither
    their number nor one advertiser's share of it weighs on a task; their daily facts then pass a second, small one.
    With ``arrivals`` a fact has a row per version and a column more, ``seen``.
    """
    words = sum(feature.kind == "vocabulary" for feature in profile_features)
    width = max([len(profile_features) - words, *(len(source.values) for source in sources)])
    frames = [_profile_rows(profile, profile_features, raw, arrivals).repartition(shards, "advertiser_id")]
    for index, source in enumerate(sources):
        is_daily = raw.facts[source.table].kind == "daily"
        table = tables[source.table].withColumn("_scenario", _index("scenario_id", scenarios))
        if is_daily:
            table = table.repartition(shards, "advertiser_id")
        rows = _source_rows(table, index, source, raw, arrivals)
        frames.append(rows if is_daily else rows.repartition(shards, "advertiser_id"))
    rows = reduce(DataFrame.unionByName, (_padded(frame, width, words) for frame in frames))
    # Spark zips the partitions of frames that are partitioned alike and then leaves this shuffle out.
    return rows.repartition(shards, "advertiser_id")


def value_columns(width: int) -> list[str]:
    return [f"value_{index}" for index in range(width)]


def word_columns(width: int) -> list[str]:
    return [f"word_{index}" for index in range(width)]


def _profile_rows(
    snapshots: DataFrame, features: Sequence[AttributeFeature], raw: RawConfig, arrivals: Arrivals | None
) -> DataFrame:
    """Profile snapshots: buckets' raw values in the value columns, vocabularies' in the word columns."""
    day = F.date_diff(F.col("day"), F.lit(raw.first_day))
    values = [
        finite_double(F.expr(f.expr), f"features.profile.{f.name}: expression {f.expr!r}")
        for f in features
        if f.kind == "bucket"
    ]
    words = [F.expr(f.expr).cast("string") for f in features if f.kind == "vocabulary"]
    return snapshots.select(
        "advertiser_id",
        F.lit(PROFILE_SOURCE).alias("source"),
        F.lit(NO_SCENARIO).alias("scenario"),
        day.alias("day"),
        F.lit(0).alias("problem"),
        F.lit(0).cast("bigint").alias("rows"),
        F.lit(0).cast("bigint").alias("keys"),
        *(column.alias(name) for column, name in zip(values, value_columns(len(values)), strict=True)),
        *(column.alias(name) for column, name in zip(words, word_columns(len(words)), strict=True)),
        *([day.alias("seen")] if arrivals else []),
    )


def _padded(rows: DataFrame, width: int, words: int) -> DataFrame:
    """Rows with the value and word columns that they lack, null."""
    kinds = dict.fromkeys(value_columns(width), "double") | dict.fromkeys(word_columns(words), "string")
    lacking = {name: F.lit(None).cast(kind) for name, kind in kinds.items() if name not in rows.columns}
    return rows.select("*", *(column.alias(name) for name, column in lacking.items()))


def _grouped(wanted: Sequence[tuple[str, bool, Value]]) -> tuple[Source, ...]:
    grains: dict[tuple[str, bool], dict[tuple[str, int], Value]] = {}
    for table, by_scenario, value in wanted:
        values, key = grains.setdefault((table, by_scenario), {}), (value.expr, value.scale)
        values[key] = replace(value, exact=value.exact or (key in values and values[key].exact))
    return tuple(Source(table, by_scenario, tuple(values.values())) for (table, by_scenario), values in grains.items())


def _source_rows(table: DataFrame, index: int, source: Source, raw: RawConfig, arrivals: Arrivals | None) -> DataFrame:
    """Daily values of one source; of a daily table, also how many different keys the rows behind them have."""
    declared, names = raw.facts[source.table], value_columns(len(source.values))
    grain, rows, keys = ["advertiser_id", "day", "_problem"], F.count("*"), F.lit(0)
    if source.by_scenario:
        grain.append("_scenario")
    if declared.kind == "daily":
        keys = F.lit(1) if source.by_scenario else F.count_distinct(F.struct("scenario_id"))
    version = []
    if arrivals:
        table = arrivals.versions(table, declared, grain)
        # A row belongs to several versions of its fact, and to one alone as the row that brought it about.
        rows, keys = F.count_if(F.col("seen") == F.col("_seen")), F.when(F.col("matured"), keys).otherwise(0)
        version = ["seen", "matured"]
    aggregates = [F.expr(value.expr).alias(f"_value{i}") for i, value in enumerate(source.values)]
    daily = table.groupBy(*grain, *version).agg(rows.alias("rows"), keys.cast("bigint").alias("keys"), *aggregates)
    scenario = F.coalesce("_scenario", F.lit(NO_SCENARIO)) if source.by_scenario else F.lit(NO_SCENARIO)
    return daily.select(
        "advertiser_id",
        F.lit(index).alias("source"),
        scenario.alias("scenario"),
        F.coalesce(F.date_diff(F.col("day"), F.lit(raw.first_day)), F.lit(NO_DAY)).alias("day"),
        F.col("_problem").alias("problem"),
        "rows",
        "keys",
        *(_double(daily, f"_value{i}", value, source).alias(names[i]) for i, value in enumerate(source.values)),
        *version[:1],
    )


def _index(column: str, words: Sequence[str]) -> Column:
    """Position of a column's string in ``words``, null if it is not there."""
    pairs = (F.lit(item) for pair in zip(words, range(len(words)), strict=True) for item in pair)
    return F.create_map(*pairs)[F.col(column)]


def _double(daily: DataFrame, column: str, value: Value, source: Source) -> Column:
    if isinstance(daily.schema[column].dataType, T.DoubleType | T.FloatType):
        return finite_double(F.col(column), f"raw table {source.table!r}: expression {value.expr!r}")
    return (F.col(column) * power_of_ten(value.scale) if value.scale else F.col(column)).cast("double")
