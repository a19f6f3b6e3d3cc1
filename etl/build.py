"""The dataset build, whole (:func:`build_dataset`) or for one as-of day with a frozen spec (:func:`build_day`)."""

import datetime
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from pyspark.sql import SparkSession

from etl.arrivals import Arrivals, known_at
from etl.attributes import AttributeTable
from etl.config import EtlConfig
from etl.facts import declared_sources, spec_sources, task_scales
from etl.failures import spark_failures
from etl.fit import declared_attributes, fit_spec
from etl.frozen import check_frozen_expressions, check_frozen_spec, check_spec_fits, history, snapshot_span
from etl.inputs import Inputs, list_inputs
from etl.output import publish_rows, replay_difference, window_plan, with_label_statistics, write_job, write_rows
from etl.pack import PackJob
from etl.packed import answers, packed_facts, summaries, value_counts
from etl.plan import AsOf
from etl.quality import check_summaries, rows_by_day
from etl.raw import check_attributes, read_raw
from etl.sketches import FILE, ROLE, day_sketches
from etl.split import SPLITS, as_of_days
from etl.tables import Days
from etl.versions import register_spec
from m2m_model.contracts.drift import Histograms
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, Manifest, data_path

WEEKS_BEFORE = 4
"""Whose weekdays the newest day's raw rows are counted beside."""


@spark_failures()
def build_dataset(
    spark: SparkSession,
    config: EtlConfig,
    *,
    raw: str,
    out: str,
    spec: DatasetSpec | None = None,
    specs: str = "",
    as_known_at: datetime.datetime | None = None,
    run_info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build and publish the dataset of all splits; fits the spec on training days unless a frozen one is given.

    ``raw``: folder of the raw tables; ``out``: folder to publish in; ``specs``: folder of the run's spec versions,
    where the spec is registered. ``run_info`` goes into the manifest.

    Raises:
        UserError: bad input or config; nothing is published.
    """
    days = as_of_days(config)
    if spec is not None:
        check_spec_fits(spec, config)
    inputs = list_inputs(spark, config.raw, root=raw)
    tables = read_raw(
        spark, config, root=raw, as_known_at=as_known_at, scenarios=spec.scenarios if spec is not None else ()
    )
    check_attributes(tables, config)
    if spec is not None:
        check_frozen_expressions(spec, tables)
    scales = task_scales(config, tables.facts)
    sources = declared_sources(config, scales) if spec is None else spec_sources(spec)
    profile = spec.profile if spec is not None else declared_attributes(config.features.profile)
    scenario = spec.scenario_attributes if spec is not None else declared_attributes(config.features.scenario)
    every_day = [day for split in SPLITS for day in days[split]]
    arrivals = arrivals_until(config, every_day[-1])
    lag = datetime.timedelta(days=config.sequence.availability_lag_days)
    pack = PackJob.of(
        sources,
        profile,
        last_fact_day=(days["train"][-1] - lag - config.raw.first_day).days,
        last_profile_day=(days["train"][-1] - config.raw.first_day).days,
    )
    packed = packed_facts(tables, profile, pack, config, arrivals)
    try:
        with ThreadPoolExecutor() as threads:
            of_attributes = threads.submit(
                AttributeTable, tables.scenarios, scenario, every_day, snapshot_days=config.raw.snapshot_days
            )
            found = summaries(packed)
            check_summaries(found, sources, tables, config)
        attributes = of_attributes.result()
        if spec is None:
            spec = fit_spec(
                config,
                sources=sources,
                summaries=found,
                ask=partial(answers, packed=packed),
                attributes=attributes,
                train_days=days["train"],
                scenarios=tables.scenario_ids,
                scales=scales,
                advertiser_id_type=tables.advertiser_id_type,
            )
        populations = {"train": config.population.train}
        as_of = [
            AsOf(day, (day - config.raw.first_day).days, split, populations.get(split, config.population.evaluate))
            for split in SPLITS
            for day in days[split]
        ]
        plan = window_plan(config, spec, sources, tables, attributes, as_of, labels=True, replay=arrivals is not None)
        job = write_job(config, plan, out)
        results = write_rows(packed, job)
    finally:
        packed.unpersist()
    spec = with_label_statistics(spec, results)
    if specs:
        spec = register_spec(Folder.at(specs), spec)
    content = {
        "splits": {split: [str(days[split][0]), str(days[split][-1])] for split in SPLITS},
        "as_of_days": {split: len(days[split]) for split in SPLITS},
        "config": config.model_dump(mode="json"),
        "as_known_at": None if as_known_at is None else as_known_at.isoformat(),
        "inputs": inputs.versions(),
        "dropped": tables.findings.dropped,
    }
    if arrivals:
        content["replay_difference"] = replay_difference(spec, results)
    return publish_rows(out, "dataset", job, spec, results, config, content | dict(run_info or {}))


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
    inputs: Inputs | None = None,
    trained_on: Histograms | None = None,
    run_info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build and publish the features of as-of day ``date`` alone, with a frozen spec.

    Reads the days of :func:`history` and the profile snapshots of :func:`snapshot_span`; with
    ``raw.known_at = "as_of"`` at most what had arrived by the day's known instant. Rows are the advertisers eligible
    in any scenario times the live scenarios. ``inputs``: the raw tables' files as listed before; by default they are
    listed here, in any case before any is read. With ``trained_on``, the histograms of the dataset of ``spec``, the
    manifest's ``drift`` says how far the day lies from training.

    Raises:
        UserError: bad input or config; what was published of the day before stays.
    """
    check_frozen_spec(spec, config, date)
    days, snapshots = history(spec, date), snapshot_span(spec, date)
    # Whoever asks for a day says that its facts are there, so that nightly runs need no new config.
    last_day = max(config.raw.last_day, days[1])
    config = config.model_copy(update={"raw": config.raw.model_copy(update={"last_day": last_day})})
    inputs = list_inputs(spark, config.raw, root=raw) if inputs is None else inputs
    if config.raw.known_at == "as_of":
        as_known_at = min(filter(None, [as_known_at, known_at(config.raw, date)]))
    tables = read_raw(
        spark, config, root=raw, as_known_at=as_known_at, days=days, snapshots=snapshots, scenarios=spec.scenarios
    )
    check_frozen_expressions(spec, tables)
    sources = spec_sources(spec)
    newest = (days[1] - config.raw.first_day).days
    pack = PackJob.of(sources, spec.profile, first_fact_day=newest, last_fact_day=newest)
    packed = packed_facts(tables, spec.profile, pack, config)
    try:
        found = summaries(packed)
        check_summaries(found, sources, tables, config)
        sketches = day_sketches(value_counts(packed), sources, tables.scenario_ids)
        attributes = AttributeTable(
            tables.scenarios, spec.scenario_attributes, [date], snapshot_days=spec.snapshot_days
        )
        as_of = [AsOf(date, (date - config.raw.first_day).days, "features", "live")]
        job = write_job(config, window_plan(config, spec, sources, tables, attributes, as_of, labels=False), out)
        results = write_rows(packed, job)
    finally:
        packed.unpersist()
    kept = Folder.at(out).write_bytes(data_path(job.generation, FILE), sketches)
    content = {
        "as_of": str(date),
        "raw_days": [str(day) for day in days],
        "as_known_at": None if as_known_at is None else as_known_at.isoformat(),
        "inputs": inputs.versions(facts=days, snapshots=snapshots),
        "input_config": input_config_digest(config),
        "dropped": tables.findings.dropped,
        "rows_by_day": _same_weekdays(rows_by_day(found, sources), days, config.raw.first_day),
    }
    content |= dict(run_info or {})
    extra = [kept.model_copy(update={"partition": {"role": ROLE}})]
    return publish_rows(out, "features", job, spec, results, config, content, extra, trained_on=trained_on)


def input_config_digest(config: EtlConfig) -> str:
    """Hash over the configuration that, beside a frozen spec, determines the rows of a day."""
    text = config.raw.model_dump_json(exclude={"last_day"}) + config.checks.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _same_weekdays(
    rows: Mapping[str, Mapping[int, int]], days: Days, first_day: datetime.date
) -> dict[str, dict[str, int]]:
    """Of every table's ``rows`` those of the newest of ``days``, and of the same weekday before it, by date."""
    newest, weeks = days[1], range(WEEKS_BEFORE + 1)
    dates = [date for week in weeks if (date := newest - datetime.timedelta(weeks=week)) >= max(days[0], first_day)]
    return {
        table: {str(date): counted.get((date - first_day).days, 0) for date in dates} for table, counted in rows.items()
    }


def arrivals_until(config: EtlConfig, last: datetime.date) -> Arrivals | None:
    """What a replaying build needs to know of arrivals, up to its ``last`` as-of day; None of any other build."""
    if config.raw.known_at == "latest":
        return None
    return Arrivals(
        raw=config.raw,
        last=(last - config.raw.first_day).days,
        lag=config.sequence.availability_lag_days,
        history_days=config.sequence.history_days,
    )
