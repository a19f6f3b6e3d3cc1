"""The rows of one as-of day with their labels, once the days that these sum over are there."""

import datetime
from collections.abc import Mapping
from typing import Any

from pyspark.sql import SparkSession

from etl.attributes import AttributeTable
from etl.build import arrivals_until, input_config_digest
from etl.config import EtlConfig
from etl.facts import spec_sources
from etl.failures import spark_failures
from etl.frozen import check_frozen_expressions, check_frozen_spec, history, snapshot_span
from etl.inputs import changed_parts, list_inputs
from etl.output import publish_rows, window_plan, write_job, write_rows
from etl.pack import PackJob
from etl.packed import packed_facts, summaries
from etl.plan import AsOf
from etl.quality import check_summaries
from etl.raw import read_raw
from etl.tables import Days
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, read_manifest

SPLIT = "matured"


@spark_failures()
def labels_complete(
    spark: SparkSession, config: EtlConfig, spec: DatasetSpec, *, date: datetime.date, raw: str, out: str
) -> bool:
    """Whether the labels published at ``out`` are of this spec and configuration, and of the raw files as they are."""
    folder = Folder.at(out)
    if not folder.exists(MANIFEST):
        return False
    content = read_manifest(folder, kind="labels", build_hint="build the labels again").content
    if content["feature_fingerprint"] != spec.feature_fingerprint:
        return False
    if content.get("input_config") != input_config_digest(config):
        return False
    now = list_inputs(spark, config.raw, root=raw).versions(
        facts=_days(spec, date), snapshots=snapshot_span(spec, date)
    )
    return not changed_parts(content["inputs"], now)


@spark_failures()
def build_labels(
    spark: SparkSession,
    config: EtlConfig,
    spec: DatasetSpec,
    *,
    date: datetime.date,
    raw: str,
    out: str,
    run_info: Mapping[str, Any] | None = None,
) -> Manifest:
    """Build and publish the dataset rows of as-of day ``date``, labels included, with a frozen spec.

    They are the rows that a dataset build has of that day where it evaluates: the advertisers eligible in any scenario
    times the live scenarios, under ``raw.known_at = "as_of"`` as known that night, with labels from all facts that are
    there now. To be called when days ``date + 1 .. date + horizon`` have landed, ``horizon + lag`` days later.

    A later feature day would not do: it lacks the advertisers that are no longer eligible, who matter most, and the
    exposures of rates, and its weekly sums make up a horizon of whole weeks alone.

    Raises:
        UserError: bad input or config; what was published of the day before stays.
    """
    check_frozen_spec(spec, config, date)
    days, snapshots, digest = _days(spec, date), snapshot_span(spec, date), input_config_digest(config)
    last_day = max(config.raw.last_day, days[1])
    config = config.model_copy(update={"raw": config.raw.model_copy(update={"last_day": last_day})})
    inputs = list_inputs(spark, config.raw, root=raw)
    tables = read_raw(
        spark, config, root=raw, as_known_at=None, days=days, snapshots=snapshots, scenarios=spec.scenarios
    )
    check_frozen_expressions(spec, tables)
    sources, arrivals = spec_sources(spec), arrivals_until(config, date)
    packed = packed_facts(tables, spec.profile, PackJob.of(sources, spec.profile), config, arrivals)
    try:
        check_summaries(summaries(packed), sources, tables, config)
        attributes = AttributeTable(
            tables.scenarios, spec.scenario_attributes, [date], snapshot_days=spec.snapshot_days
        )
        as_of = [AsOf(date, (date - config.raw.first_day).days, SPLIT, "live")]
        plan = window_plan(config, spec, sources, tables, attributes, as_of, labels=True, replay=arrivals is not None)
        job = write_job(config, plan, out)
        results = write_rows(packed, job)
    finally:
        packed.unpersist()
    content = {
        "as_of": str(date),
        "raw_days": [str(day) for day in days],
        "input_config": digest,
        "inputs": inputs.versions(facts=days, snapshots=snapshots),
        "dropped": tables.findings.dropped,
    }
    return publish_rows(out, "labels", job, spec, results, config, content | dict(run_info or {}))


def _days(spec: DatasetSpec, date: datetime.date) -> Days:
    """First and last day of the facts that features and labels of as-of day ``date`` sum over."""
    return history(spec, date)[0], date + datetime.timedelta(days=spec.horizon)
