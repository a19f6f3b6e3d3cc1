"""A build up to where rows would be made: every check of config and data, the fitted spec, and its size."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from etl.attributes import AttributeTable
from etl.config import EtlConfig
from etl.facts import declared_sources, task_scales
from etl.failures import spark_failures
from etl.fit import declared_attributes, fit_spec
from etl.pack import PackJob
from etl.packed import answers, packed_facts, summaries
from etl.quality import check_summaries
from etl.raw import RawFrames, check_attributes, read_raw
from etl.split import SPLITS, as_of_days
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec

BYTES_PER_ID, BYTES_PER_VALUE = 0.4, 2.5
"""Of a sample in Parquet with zstd: sequence ids, and dense values or history sums (benchmarks/etl.md)."""
START_UP_SECONDS, SECONDS_PER_FACT, SECONDS_PER_SAMPLE = 25.0, 12e-6, 15e-6
"""Of a build: of Spark, and per core."""


@dataclass(frozen=True)
class Trial:
    """What a build of the config would read and write; samples are estimated from each split's middle as-of day."""

    spec: DatasetSpec
    """Without label statistics, which are known once rows are there."""
    facts: int
    as_of_days: Mapping[str, tuple[datetime.date, datetime.date, int]]
    """By split: the first, the last, and how many."""
    samples: Mapping[str, int]
    dropped: Mapping[str, int]
    """Bad rows that ``[checks]`` lets the build leave out."""

    @property
    def bytes(self) -> int:
        spec = self.spec
        ids = spec.sequence_length * (len(spec.behavior) + len(spec.performance))
        values = spec.dense_size + len(spec.tasks) * (spec.history_size + 1)
        return round(sum(self.samples.values()) * (BYTES_PER_ID * ids + BYTES_PER_VALUE * values))

    def build_seconds(self, cores: int) -> float:
        work = SECONDS_PER_FACT * self.facts + SECONDS_PER_SAMPLE * sum(self.samples.values())
        return START_UP_SECONDS + work / cores


@spark_failures()
def try_build(spark: SparkSession, config: EtlConfig, *, raw: str) -> Trial:
    """Read and check everything under ``raw`` as a build would, and publish nothing.

    Raises:
        UserError: what the build would say.
    """
    days = as_of_days(config)
    tables = read_raw(spark, config, root=raw, as_known_at=None)
    check_attributes(tables, config)
    scales = task_scales(config, tables.facts)
    sources = declared_sources(config, scales)
    profile = declared_attributes(config.features.profile)
    last = days["train"][-1]
    lag = datetime.timedelta(days=config.sequence.availability_lag_days)
    pack = PackJob.of(
        sources,
        profile,
        last_fact_day=(last - lag - config.raw.first_day).days,
        last_profile_day=(last - config.raw.first_day).days,
    )
    packed = packed_facts(tables, profile, pack, config)
    try:
        found = summaries(packed)
        check_summaries(found, sources, tables, config)
        every_day = [day for split in SPLITS for day in days[split]]
        attributes = AttributeTable(
            tables.scenarios,
            declared_attributes(config.features.scenario),
            every_day,
            snapshot_days=config.raw.snapshot_days,
        )
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
    finally:
        packed.unpersist()
    samples = {split: _samples(tables, config, attributes, split, days[split]) for split in SPLITS}
    for split in SPLITS:
        if not samples[split]:
            raise UserError(
                f"no advertiser is active on population.min_active_days = {config.population.min_active_days} of the "
                f"{config.sequence.length} days before {days[split][len(days[split]) // 2]} ({split}): check the raw "
                "dates, population and split"
            )
    return Trial(
        spec=spec,
        facts=sum(rows for part in found for rows, _ in part.rows.values()),
        as_of_days={split: (days[split][0], days[split][-1], len(days[split])) for split in SPLITS},
        samples=samples,
        dropped=tables.findings.dropped,
    )


def _samples(
    tables: RawFrames,
    config: EtlConfig,
    attributes: AttributeTable,
    split: str,
    days: tuple[datetime.date, ...],
) -> int:
    """Rows of a split: those of its middle as-of day, times its days."""
    middle, population = days[len(days) // 2], config.population
    last = middle - datetime.timedelta(days=config.sequence.availability_lag_days)
    first = last - datetime.timedelta(days=config.sequence.length - 1)
    live = [scenario for scenario in tables.scenario_ids if attributes.is_live(scenario, middle)]
    facts = tables.facts[population.table].where("_problem = 0").where(F.col("day").between(first, last))
    active = facts.groupBy("advertiser_id", "scenario_id", "day").agg(F.expr(population.activity).alias("active"))
    pairs = (
        active.where(F.col("active") & F.col("scenario_id").isin(live))
        .groupBy("advertiser_id", "scenario_id")
        .count()
        .where(F.col("count") >= population.min_active_days)
    )
    if (population.train if split == "train" else population.evaluate) == "own":
        return int(pairs.count()) * len(days)
    return int(pairs.select("advertiser_id").distinct().count()) * len(live) * len(days)
