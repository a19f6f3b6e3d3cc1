"""Fitting the spec on training days: bucket edges from exact value counts, vocabularies, scenarios."""

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.attributes import AttributeTable
from etl.config import AttributeConfig, EtlConfig
from etl.discretize import quantile_edges
from etl.facts import PROFILE_SOURCE, Source, TaskScales
from m2m_model.contracts.spec import (
    ActivitySpec,
    AttributeFeature,
    BucketFeature,
    DatasetSpec,
    ExposureSpec,
    SequenceColumn,
    SequenceName,
    TaskSpec,
    VocabularyFeature,
)


def fit_spec(
    config: EtlConfig,
    *,
    sources: Sequence[Source],
    facts: DataFrame,
    profile: DataFrame,
    attributes: AttributeTable,
    train_days: Sequence[datetime.date],
    scenarios: Sequence[str],
    scales: Mapping[str, TaskScales],
    advertiser_id_type: str,
) -> DatasetSpec:
    """The spec of a dataset whose training as-of days are ``train_days``.

    ``scenarios`` are all known ids, which the facts' scenario numbers index; the spec keeps those that have a
    snapshot by the last training day. Label statistics are still 0: they are known once rows are written.
    """
    last_day = train_days[-1]
    sequence = config.sequence
    lag = datetime.timedelta(days=sequence.availability_lag_days)
    counts = _Counts(facts, sources, last=(last_day - lag - config.raw.first_day).days)
    trained = [scenario for scenario in scenarios if attributes.is_live(scenario, last_day)]

    def columns(name: SequenceName) -> tuple[SequenceColumn, ...]:
        return _sequence_columns(config, name, counts, sources, trained, scenarios)

    return DatasetSpec.model_validate(
        {
            "timezone": config.raw.timezone,
            "sequence_length": sequence.length,
            "horizon": sequence.horizon,
            "availability_lag_days": sequence.availability_lag_days,
            "snapshot_days": config.raw.snapshot_days,
            "history_weeks": sequence.history_weeks,
            "advertiser_id_type": advertiser_id_type,
            "scenarios": trained,
            "behavior": columns("behavior"),
            "performance": columns("performance"),
            "profile": _fit_profile(config, profile, last=(last_day - config.raw.first_day).days),
            "scenario_attributes": _fit_attributes(config.features.scenario, attributes.rows_of(train_days)),
            "tasks": [
                TaskSpec(
                    name=name,
                    kind=task.kind,
                    unit=task.unit,
                    table=task.table,
                    expr=task.expr,
                    scale=scales[name].value,
                    daily_max=task.daily_max,
                    exposure=ExposureSpec(expr=task.exposure, scale=scales[name].exposure) if task.exposure else None,
                    outcome=task.outcome,
                    mean_label=0.0,
                    max_label=0.0,
                )
                for name, task in config.tasks.items()
            ],
            "activity": ActivitySpec(
                table=config.population.table,
                expr=config.population.activity,
                min_active_days=config.population.min_active_days,
            ),
        }
    )


class _Counts:
    """How often each non-zero value occurs in each source column and scenario, on training days."""

    def __init__(self, facts: DataFrame, sources: Sequence[Source], *, last: int) -> None:
        table = (
            facts.where((F.col("day") >= 0) & (F.col("day") <= last))
            .select("source", "scenario", F.posexplode("values").alias("position", "value"))
            .where(F.col("value").isNotNull() & (F.col("value") != 0.0))
            .groupBy("source", "scenario", "position", "value")
            .agg(F.count("*").alias("count"))
            .toArrow()
        )
        self._columns = {name: table[name].to_numpy() for name in table.column_names}
        self._sources = list(sources)

    def edges(self, source: Source, position: int, buckets: int, scenario: int | None = None) -> tuple[float, ...]:
        c = self._columns
        mask = (c["source"] == self._sources.index(source)) & (c["position"] == position)
        if scenario is not None:
            mask &= c["scenario"] == scenario
        # One value may stand once per scenario; quantile_edges needs no merging for that.
        return quantile_edges(c["value"][mask], c["count"][mask], buckets)


def _sequence_columns(
    config: EtlConfig,
    name: SequenceName,
    counts: _Counts,
    sources: Sequence[Source],
    trained: Sequence[str],
    scenarios: Sequence[str],
) -> tuple[SequenceColumn, ...]:
    columns = []
    for feature, declared in getattr(config.features, name).items():
        table = declared.table or name
        by_scenario = declared.scope != "advertiser"
        source = next(s for s in sources if (s.table, s.by_scenario) == (table, by_scenario))
        position = source.position(declared.expr)
        expansion = trained if declared.scope == "each_scenario" else [None]
        for scenario in expansion:
            index = None if scenario is None else scenarios.index(scenario)
            columns.append(
                SequenceColumn(
                    name=feature if scenario is None else f"{feature}@{scenario}",
                    expr=declared.expr,
                    edges=counts.edges(source, position, declared.buckets, index),
                    table=table,
                    scope=declared.scope,
                    scenario=scenario,
                    dense=declared.dense,
                )
            )
    return tuple(columns)


def declared_attributes(declared: Mapping[str, AttributeConfig]) -> tuple[AttributeFeature, ...]:
    """Attribute features as declared, still without edges and vocabularies."""
    return tuple(
        BucketFeature(name=name, expr=attribute.expr, edges=())
        if attribute.kind == "bucket"
        else VocabularyFeature(name=name, expr=attribute.expr, values=())
        for name, attribute in declared.items()
    )


def _fit_profile(config: EtlConfig, profile: DataFrame, *, last: int) -> list[AttributeFeature]:
    rows = profile.where((F.col("source") == PROFILE_SOURCE) & (F.col("day") <= last)).select("values", "words")
    table = rows.toArrow()
    columns: dict[str, pa.Array] = {}
    for kind, lists in (("bucket", table["values"]), ("vocabulary", table["words"])):
        names = [name for name, declared in config.features.profile.items() if declared.kind == kind]
        for position, name in enumerate(names):
            columns[name] = pc.list_element(lists, position) if len(table) else pa.array([], lists.type.value_type)
    return _fit_attributes(config.features.profile, columns)


def _fit_attributes(
    declared: Mapping[str, AttributeConfig], columns: Mapping[str, pa.Array | pa.ChunkedArray]
) -> list[AttributeFeature]:
    features: list[AttributeFeature] = []
    for name, attribute in declared.items():
        if attribute.kind == "bucket":
            values = columns[name].drop_null().to_numpy()
            distinct, counts = np.unique(values[values != 0.0], return_counts=True)
            edges = quantile_edges(distinct, counts, attribute.buckets)
            features.append(BucketFeature(name=name, expr=attribute.expr, edges=edges))
        else:
            words = sorted(pc.unique(columns[name]).drop_null().to_pylist())
            features.append(VocabularyFeature(name=name, expr=attribute.expr, values=tuple(words)))
    return features
