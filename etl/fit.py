"""Fitting the spec on training days: bucket edges from exact value counts, vocabularies, scenarios."""

import datetime
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.attributes import AttributeTable
from etl.config import AttributeConfig, EtlConfig
from etl.discretize import quantile_edges
from etl.edges import Ask, EdgeRequest, Edges, exact_edges
from etl.facts import PROFILE_SOURCE, Source, TaskScales
from etl.pack import Summary
from m2m_model.contracts.errors import UserError
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

SEQUENCES: tuple[SequenceName, ...] = ("behavior", "performance")


def fit_spec(
    config: EtlConfig,
    *,
    sources: Sequence[Source],
    summaries: Sequence[Summary],
    ask: Ask,
    attributes: AttributeTable,
    train_days: Sequence[datetime.date],
    scenarios: Sequence[str],
    scales: Mapping[str, TaskScales],
    advertiser_id_type: str,
) -> DatasetSpec:
    """The spec of a dataset whose training as-of days are ``train_days``.

    ``scenarios`` are all known ids, which the facts' scenario numbers index; the spec keeps those that are live on
    a training day and are not held out. ``summaries``: of every shard, counted up to that day;
    ``ask`` puts further questions to the shards. Label statistics are still 0: they are known once rows are written.

    Raises:
        UserError: a scenario to hold out is not known.
    """
    sequence = config.sequence
    held_out = config.split.hold_out
    if unknown := sorted(set(held_out) - set(scenarios)):
        raise UserError(f"split.hold_out must be among {list(scenarios)}, however: {unknown[0]!r}")
    others = [name for name in scenarios if name not in held_out]
    trained = [name for name in others if any(attributes.is_live(name, day) for day in train_days)]
    snapshots = attributes.rows_of(train_days, others)
    columns = {name: list(_sequence_columns(config, name, sources, trained, scenarios)) for name in SEQUENCES}
    requests = [request for pairs in columns.values() for _, request in pairs]
    edges = exact_edges([*requests, *_profile_requests(config).values()], summaries, ask)
    fitted = {
        name: [column.model_copy(update={"edges": edges[request]}) for column, request in pairs]
        for name, pairs in columns.items()
    }

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
            **fitted,
            "profile": _fit_profile(config, edges, summaries),
            "scenario_attributes": _fit_attributes(config.features.scenario, snapshots),
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


def _sequence_columns(
    config: EtlConfig,
    name: SequenceName,
    sources: Sequence[Source],
    trained: Sequence[str],
    scenarios: Sequence[str],
) -> Iterator[tuple[SequenceColumn, EdgeRequest]]:
    """Columns of a sequence, still without edges, and the requests for them."""
    for feature, declared in getattr(config.features, name).items():
        table, by_scenario = declared.table or name, declared.scope != "advertiser"
        index = next(i for i, s in enumerate(sources) if (s.table, s.by_scenario) == (table, by_scenario))
        position = sources[index].position(declared.expr)
        for scenario in trained if declared.scope == "each_scenario" else [None]:
            number = None if scenario is None else scenarios.index(scenario)
            yield (
                SequenceColumn(
                    name=feature if scenario is None else f"{feature}@{scenario}",
                    expr=declared.expr,
                    edges=(),
                    table=table,
                    scope=declared.scope,
                    scenario=scenario,
                    dense=declared.dense,
                ),
                EdgeRequest(index, position, declared.buckets, number),
            )


def declared_attributes(declared: Mapping[str, AttributeConfig]) -> tuple[AttributeFeature, ...]:
    """Attribute features as declared, still without edges and vocabularies."""
    return tuple(
        BucketFeature(name=name, expr=attribute.expr, edges=())
        if attribute.kind == "bucket"
        else VocabularyFeature(name=name, expr=attribute.expr, values=())
        for name, attribute in declared.items()
    )


def _profile_requests(config: EtlConfig) -> dict[str, EdgeRequest]:
    """Requests for the edges of the profile's bucket features, by name."""
    buckets = [(name, declared) for name, declared in config.features.profile.items() if declared.kind == "bucket"]
    return {name: EdgeRequest(PROFILE_SOURCE, i, declared.buckets) for i, (name, declared) in enumerate(buckets)}


def _fit_profile(config: EtlConfig, edges: Edges, summaries: Sequence[Summary]) -> list[AttributeFeature]:
    requests, vocabulary = _profile_requests(config), 0
    features: list[AttributeFeature] = []
    for name, attribute in config.features.profile.items():
        if attribute.kind == "bucket":
            features.append(BucketFeature(name=name, expr=attribute.expr, edges=edges[requests[name]]))
        else:
            words = {word for summary in summaries for word in summary.words[vocabulary].to_pylist()}
            features.append(VocabularyFeature(name=name, expr=attribute.expr, values=tuple(sorted(words))))
            vocabulary += 1
    return features


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
