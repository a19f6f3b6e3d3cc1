"""The dataset build, whole (:func:`build_dataset`) or for one as-of day with a frozen spec (:func:`build_day`)."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from etl.attributes import AttributeTable
from etl.checks import Findings, checked_snapshots, flagged_facts
from etl.config import EtlConfig
from etl.edges import Answers, Questions, answer_partition
from etl.expressions import scalar_expression
from etl.facts import (
    Source,
    declared_sources,
    fact_rows,
    spec_sources,
    task_scales,
)
from etl.fit import declared_attributes, fit_spec
from etl.pack import PACKED_SCHEMA, PackJob, Summary, pack_partition, unpack
from etl.quality import check_summaries
from etl.split import SPLITS, as_of_days
from etl.tables import read_facts, read_snapshots
from etl.windows import AsOf, WindowPlan
from etl.writer import RESULT_SCHEMA, WriteJob, write_partition
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AttributeFeature, DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, data_path, new_generation, publish, remove_superseded


@dataclass(frozen=True)
class RawFrames:
    """Checked raw tables."""

    facts: Mapping[str, DataFrame]
    profile: DataFrame
    scenarios: DataFrame
    scenario_ids: tuple[str, ...]
    findings: Findings


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
    lag = datetime.timedelta(days=config.sequence.availability_lag_days)
    pack = PackJob.of(
        sources,
        profile_features,
        last_fact_day=(days["train"][-1] - lag - config.raw.first_day).days,
        last_profile_day=(days["train"][-1] - config.raw.first_day).days,
    )
    facts = _packed(tables, profile_features, pack, config)
    try:
        summaries = _summaries(facts)
        check_summaries(
            summaries, sources, tables.facts, config, scenarios=tables.scenario_ids, findings=tables.findings
        )
        attributes = AttributeTable(tables.scenarios, attribute_features, every_day)
        spec = fit_spec(
            config,
            sources=sources,
            summaries=summaries,
            ask=partial(_ask, packed=facts),
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
        results = _write(facts, job)
    finally:
        facts.unpersist()
    spec = _with_label_statistics(spec, results)
    content = {
        "splits": {split: [str(days[split][0]), str(days[split][-1])] for split in SPLITS},
        "as_of_days": {split: len(days[split]) for split in SPLITS},
        "config": config.model_dump(mode="json"),
    }
    return _publish(out, "dataset", job, spec, results, tables.findings, config, content | dict(run_info or {}))


def build_day(
    spark: SparkSession,
    config: EtlConfig,
    spec: DatasetSpec,
    *,
    date: datetime.date,
    raw: str,
    out: str,
    as_known_at: datetime.datetime | None = None,
    run_info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build and publish the features of as-of day ``date`` alone, with a frozen spec.

    Reads the ``spec.history_days`` days that end at ``date`` minus the availability lag, and snapshots not after
    ``date``. Rows are the advertisers eligible in any scenario times the live scenarios.
    """
    last = date - datetime.timedelta(days=spec.availability_lag_days)
    first = last - datetime.timedelta(days=spec.history_days - 1)
    tables = _read(spark, config, raw=raw, as_known_at=as_known_at, days=(first, last))
    sources = spec_sources(spec)
    tables = replace(tables, profile=tables.profile.where(F.col("day") <= date))
    facts = _packed(tables, spec.profile, PackJob.of(sources, spec.profile), config)
    try:
        check_summaries(
            _summaries(facts),
            sources,
            tables.facts,
            config,
            scenarios=tables.scenario_ids,
            findings=tables.findings,
        )
        attributes = AttributeTable(tables.scenarios, spec.scenario_attributes, [date])
        as_of = [AsOf(date, (date - config.raw.first_day).days, "features", "live")]
        plan = _plan(config, spec, sources, tables, attributes, as_of, labels=False)
        job = _write_job(config, plan, out)
        results = _write(facts, job)
    finally:
        facts.unpersist()
    content = {"as_of": str(date), "raw_days": [str(first), str(last)]}
    return _publish(out, "features", job, spec, results, tables.findings, config, content | dict(run_info or {}))


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
        facts[name] = flagged_facts(frame, name, raw=config.raw, checks=checks, scenarios=list(ids), findings=findings)
    return RawFrames(facts, profile, scenarios, ids, findings)


def _check_attributes(tables: RawFrames, config: EtlConfig) -> None:
    for name, attribute in config.features.profile.items():
        scalar_expression(tables.profile, attribute.expr, owner=f"features.profile.{name}")
    with_as_of = tables.scenarios.withColumn("as_of", F.col("day"))
    for name, attribute in config.features.scenario.items():
        scalar_expression(with_as_of, attribute.expr, owner=f"features.scenario.{name}")


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


def _packed(tables: RawFrames, profile: Sequence[AttributeFeature], job: PackJob, config: EtlConfig) -> DataFrame:
    """Packed facts, cached: they are asked for their summaries, then for their windows."""
    rows = fact_rows(
        tables.facts,
        tables.profile,
        job.sources,
        profile,
        tables.scenario_ids,
        config.raw,
        shards=config.dataset.shards,
    )
    packed = rows.mapInArrow(partial(pack_partition, job=job), PACKED_SCHEMA)
    return packed.persist(StorageLevel.MEMORY_AND_DISK)


def _summaries(packed: DataFrame) -> list[Summary]:
    rows = packed.where(F.col("summary").isNotNull()).select("summary")
    return list(unpack([rows.toArrow()], "summary"))


def _ask(questions: Questions, packed: DataFrame) -> list[Answers]:
    """Put the fit's questions to every shard."""
    rows = packed.where(F.col("counts").isNotNull()).select("counts")
    answers = rows.mapInArrow(partial(answer_partition, questions=questions), "answers binary")
    return list(unpack([answers.toArrow()], "answers"))


def _write(packed: DataFrame, job: WriteJob) -> list[Row]:
    """The kernel in every task; returns a row per written file."""
    rows: list[Row] = (
        packed.where(F.col("facts").isNotNull())
        .select("facts")
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
) -> Manifest:
    folder = Folder.at(out)
    text = spec.to_json().encode()
    spec_entry = folder.write_bytes(data_path(job.generation, "spec.json"), text)
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
        files=(spec_entry.model_copy(update={"partition": {"role": "spec"}}), *files),
        content={
            "feature_fingerprint": spec.feature_fingerprint,
            "rows_by_scenario": rows,
            "dropped": findings.dropped,
            **content,
        },
    )
    publish(folder, manifest)
    if kind == "dataset":
        folder.replace_bytes("spec.json", text)  # a copy for people; readers take the one that the manifest lists
    remove_superseded(folder, live=job.generation, grace_seconds=config.dataset.grace_seconds)
    return manifest


def _file_order(entry: FileEntry) -> tuple[Any, ...]:
    return (
        SPLITS.index(entry.partition["split"]) if "split" in entry.partition else 0,
        entry.partition["dt"],
        entry.path,
    )
