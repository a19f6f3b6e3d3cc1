"""The dataset build, whole (:func:`build_dataset`) or for one as-of day with a frozen spec (:func:`build_day`)."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from etl.attributes import AttributeTable
from etl.checks import Findings, checked_facts, checked_snapshots
from etl.config import EtlConfig
from etl.expressions import check_scalar
from etl.facts import (
    Source,
    declared_sources,
    fact_rows,
    profile_rows,
    spec_sources,
    task_scales,
)
from etl.failures import spark_failures
from etl.fit import declared_attributes, fit_spec
from etl.frozen import check_frozen_expressions, check_frozen_spec
from etl.quality import refuse_negative_labels
from etl.split import SPLITS, as_of_days
from etl.statistics import Statistics
from etl.tables import read_facts, read_snapshots
from etl.windows import AsOf, WindowPlan
from etl.writer import RESULT_SCHEMA, WriteJob, write_partition
from m2m_model.contracts.drift import HISTOGRAMS, Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, data_path, new_generation, publish, remove_superseded


@dataclass(frozen=True)
class RawFrames:
    """Checked raw tables."""

    facts: Mapping[str, DataFrame]
    profile: DataFrame
    scenarios: DataFrame
    scenario_ids: tuple[str, ...]
    findings: Findings


@spark_failures()
def build_dataset(
    spark: SparkSession,
    config: EtlConfig,
    *,
    raw: str,
    out: str,
    as_known_at: datetime.datetime | None = None,
    run_info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build and publish the dataset of all splits; fits the spec on training days.

    ``raw``: folder of the raw tables; ``out``: folder to publish in. ``run_info`` goes into the manifest.

    Raises:
        UserError: bad input or config; nothing is published.
    """
    days = as_of_days(config)
    tables = _read(spark, config, raw=raw, as_known_at=as_known_at)
    profile_features = declared_attributes(config.features.profile)
    attribute_features = declared_attributes(config.features.scenario)
    _check_attributes(tables, config)
    scales = task_scales(config, tables.facts)
    sources = declared_sources(config, scales)
    every_day = [day for split in SPLITS for day in days[split]]
    facts = fact_rows(tables.facts, sources, tables.scenario_ids, config.raw)
    facts = facts.unionByName(profile_rows(tables.profile, profile_features, config.raw))
    facts = facts.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        facts = refuse_negative_labels(facts, sources, config, tables.findings)
        attributes = AttributeTable(tables.scenarios, attribute_features, every_day)
        spec = fit_spec(
            config,
            sources=sources,
            facts=facts,
            profile=facts,
            attributes=attributes,
            train_days=days["train"],
            scenarios=tables.scenario_ids,
            scales=scales,
            advertiser_id_type=_advertiser_id_type(tables),
        )
        populations = {"train": config.population.train}
        as_of = [
            AsOf(day, (day - config.raw.first_day).days, split, populations.get(split, config.population.evaluate))
            for split in SPLITS
            for day in days[split]
        ]
        plan = _plan(config, spec, sources, tables, attributes, as_of, labels=True)
        job = _write_job(config, plan, out)
        results = _write(facts, job, config)
    finally:
        facts.unpersist()
    spec = _with_label_statistics(spec, results)
    content = {
        "splits": {split: [str(days[split][0]), str(days[split][-1])] for split in SPLITS},
        "as_of_days": {split: len(days[split]) for split in SPLITS},
        "config": config.model_dump(mode="json"),
    }
    return _publish(out, "dataset", job, spec, results, tables.findings, config, content | dict(run_info or {}))


@spark_failures()
def build_day(
    spark: SparkSession,
    config: EtlConfig,
    spec: DatasetSpec,
    *,
    date: datetime.date,
    raw: str,
    out: str,
    as_known_at: datetime.datetime | None = None,
    trained_on: Histograms | None = None,
    run_info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build and publish the features of as-of day ``date`` alone, with a frozen spec.

    Reads the ``spec.history_days`` days that end at ``date`` minus the availability lag, and snapshots not after
    ``date``. Rows are the advertisers eligible in any scenario times the live scenarios. With ``trained_on``, the
    histograms of the dataset of ``spec``, the manifest's ``drift`` says how far the day lies from training.
    """
    check_frozen_spec(spec, config, date)
    last = date - datetime.timedelta(days=spec.availability_lag_days)
    first = last - datetime.timedelta(days=spec.history_days - 1)
    tables = _read(spark, config, raw=raw, as_known_at=as_known_at, days=(first, last))
    check_frozen_expressions(spec, tables.facts, tables.profile)
    sources = spec_sources(spec)
    facts = fact_rows(tables.facts, sources, tables.scenario_ids, config.raw)
    facts = refuse_negative_labels(facts, sources, config, tables.findings)
    profile = tables.profile.where(F.col("day") <= date)
    facts = facts.unionByName(profile_rows(profile, spec.profile, config.raw))
    attributes = AttributeTable(tables.scenarios, spec.scenario_attributes, [date])
    as_of = [AsOf(date, (date - config.raw.first_day).days, "features", "live")]
    plan = _plan(config, spec, sources, tables, attributes, as_of, labels=False)
    job = _write_job(config, plan, out)
    results = _write(facts, job, config)
    content = {"as_of": str(date), "raw_days": [str(first), str(last)]} | dict(run_info or {})
    return _publish(out, "features", job, spec, results, tables.findings, config, content, trained_on=trained_on)


def _read(
    spark: SparkSession,
    config: EtlConfig,
    *,
    raw: str,
    as_known_at: datetime.datetime | None,
    days: tuple[datetime.date, datetime.date] | None = None,
) -> RawFrames:
    findings, checks = Findings(), config.checks
    scenarios = read_snapshots(spark, config.raw.scenarios, "scenarios", root=raw)
    scenarios = checked_snapshots(scenarios, "scenarios", "scenario_id", checks=checks, findings=findings)
    ids = tuple(sorted(row[0] for row in scenarios.select("scenario_id").distinct().collect()))
    if not ids:
        raise UserError("raw table 'scenarios' must have rows, however: it is empty")
    profile = read_snapshots(spark, config.raw.profile, "profile", root=raw)
    profile = checked_snapshots(profile, "profile", "advertiser_id", checks=checks, findings=findings)
    facts = {name: read_facts(spark, config.raw, name, root=raw, as_known_at=as_known_at) for name in config.raw.facts}
    _check_id_types(config, facts, profile)
    for name, frame in facts.items():
        if days is not None:
            frame = frame.where(F.col("day").between(*days))
        facts[name] = checked_facts(frame, name, raw=config.raw, checks=checks, scenarios=list(ids), findings=findings)
    return RawFrames(facts, profile, scenarios, ids, findings)


def _check_attributes(tables: RawFrames, config: EtlConfig) -> None:
    for name, attribute in config.features.profile.items():
        check_scalar(tables.profile, attribute.expr, kind=attribute.kind, owner=f"features.profile.{name}")
    with_as_of = tables.scenarios.withColumn("as_of", F.col("day"))
    for name, attribute in config.features.scenario.items():
        check_scalar(with_as_of, attribute.expr, kind=attribute.kind, owner=f"features.scenario.{name}")


def _advertiser_id_type(tables: RawFrames) -> str:
    kind: str = tables.profile.schema["advertiser_id"].dataType.simpleString()
    return kind


def _check_id_types(config: EtlConfig, facts: Mapping[str, DataFrame], profile: DataFrame) -> None:
    wanted = profile.schema["advertiser_id"].dataType.simpleString()
    for name, frame in facts.items():
        actual = frame.schema["advertiser_id"].dataType.simpleString()
        if actual != wanted:
            raise UserError(
                f"raw table {name!r}: column {config.raw.facts[name].advertiser!r} must be {wanted}, "
                f"like the profile's key, however: {actual}"
            )


def _plan(
    config: EtlConfig,
    spec: DatasetSpec,
    sources: tuple[Source, ...],
    tables: RawFrames,
    attributes: AttributeTable,
    as_of: Sequence[AsOf],
    *,
    labels: bool,
) -> WindowPlan:
    ids, live = attributes.ids(spec.scenario_attributes, [a.date for a in as_of], tables.scenario_ids)
    return WindowPlan(
        spec=spec,
        sources=sources,
        scenarios=tables.scenario_ids,
        as_of=tuple(as_of),
        last_day=(config.raw.last_day - config.raw.first_day).days,
        attribute_ids=ids,
        live=live,
        labels=labels,
    )


def _write_job(config: EtlConfig, plan: WindowPlan, out: str) -> WriteJob:
    return WriteJob(
        plan=plan,
        folder=Folder.at(out).uri,
        generation=new_generation(),
        row_group_rows=config.dataset.row_group_rows,
        compression=config.dataset.compression,
    )


def _write(facts: DataFrame, job: WriteJob, config: EtlConfig) -> list[Row]:
    """One shuffle by advertiser, then the kernel in every task; returns a row per written file."""
    rows: list[Row] = (
        facts.repartition(config.dataset.shards, "advertiser_id")
        .sortWithinPartitions("advertiser_id")
        .mapInArrow(partial(write_partition, job=job), RESULT_SCHEMA)
        .collect()
    )
    if not rows:
        raise UserError(
            "no advertiser is eligible on any as-of day, so there is nothing to publish: "
            "check the raw dates, population.min_active_days and the split"
        )
    return rows


def _with_label_statistics(spec: DatasetSpec, results: Sequence[Row]) -> DatasetSpec:
    """The spec with every task's mean and largest training label."""
    train = [row for row in results if json.loads(row.entry)["partition"]["split"] == "train"]
    rows = sum(json.loads(row.entry)["rows"] for row in train)
    if rows == 0:
        raise UserError("no advertiser is eligible on a training day: check the split and population.min_active_days")
    sums = [sum(column) for column in zip(*(json.loads(row.label_sums) for row in train), strict=True)]
    maxima = [max(column) for column in zip(*(json.loads(row.label_maxima) for row in train), strict=True)]
    tasks = [
        task.model_copy(update={"mean_label": total / rows, "max_label": largest})
        for task, total, largest in zip(spec.tasks, sums, maxima, strict=True)
    ]
    return spec.model_copy(update={"tasks": tuple(tasks)})


def _publish(
    out: str,
    kind: str,
    job: WriteJob,
    spec: DatasetSpec,
    results: Sequence[Row],
    findings: Findings,
    config: EtlConfig,
    content: Mapping[str, Any],
    trained_on: Histograms | None = None,
) -> Manifest:
    folder = Folder.at(out)
    statistics = Statistics.merged(spec, (row.statistics for row in results if row.statistics))
    histograms = statistics.histograms()
    sides = {"spec": ("spec.json", spec.to_json()), "histograms": (HISTOGRAMS, histograms.model_dump_json())}
    entries = [
        folder.write_bytes(data_path(job.generation, name), text.encode()).model_copy(
            update={"partition": {"role": role}}
        )
        for role, (name, text) in sides.items()
    ]
    files = sorted((FileEntry.model_validate_json(row.entry) for row in results), key=_file_order)
    rows: dict[str, dict[str, int]] = {}
    for row in results:
        split = json.loads(row.entry)["partition"].get("split", "features")
        for scenario, count in json.loads(row.scenario_rows).items():
            counts = rows.setdefault(split, {})
            counts[scenario] = counts.get(scenario, 0) + count
    manifest = Manifest(
        kind=kind,
        generation=job.generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(*entries, *files),
        content={
            "feature_fingerprint": spec.feature_fingerprint,
            "rows_by_scenario": rows,
            "dropped": findings.dropped,
            **({"key_multiplicity": statistics.keys.summary()} if kind == "dataset" else {}),
            "drift": histograms.drift(trained_on),
            **content,
        },
    )
    publish(folder, manifest)
    if kind == "dataset":
        for name, text in sides.values():  # copies for people and for --spec; readers take what the manifest lists
            folder.replace_bytes(name, text.encode())
    remove_superseded(folder, live=job.generation, grace_seconds=config.dataset.grace_seconds)
    return manifest


def _file_order(entry: FileEntry) -> tuple[Any, ...]:
    return (
        SPLITS.index(entry.partition["split"]) if "split" in entry.partition else 0,
        entry.partition["dt"],
        entry.path,
    )
