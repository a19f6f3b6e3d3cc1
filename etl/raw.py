"""All raw tables of a run, read, and checked as far as that needs no pass over the facts."""

import datetime
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from etl.checks import Findings, checked_snapshots, flagged_facts
from etl.config import EtlConfig
from etl.expressions import check_scalar
from etl.tables import Days, read_facts, read_snapshots
from m2m_model.contracts.errors import UserError


@dataclass(frozen=True)
class RawFrames:
    """Raw tables: snapshots checked, rows of facts flagged with what is wrong with them."""

    facts: Mapping[str, DataFrame]
    profile: DataFrame
    scenarios: DataFrame
    scenario_ids: tuple[str, ...]
    findings: Findings

    @property
    def advertiser_id_type(self) -> str:
        kind: str = self.profile.schema["advertiser_id"].dataType.simpleString()
        return kind


def read_raw(
    spark: SparkSession,
    config: EtlConfig,
    *,
    root: str,
    as_known_at: datetime.datetime | None,
    days: Days | None = None,
    snapshots: Days | None = None,
    scenarios: Sequence[str] = (),
) -> RawFrames:
    """Read and check the raw tables under ``root``.

    Args:
        days: the days of facts to read, all by default.
        snapshots: the days of profile snapshots to read, all by default. Scenario snapshots are a few rows and read
            whole, so that a scenario is known to a build of one day exactly if it is known to a full one.
        scenarios: scenario ids that are known without a snapshot (a frozen spec's).

    Raises:
        UserError: bad input.
    """
    checks, read = config.checks, partial(read_facts, spark, config.raw, root=root, as_known_at=as_known_at, days=days)
    # Side by side, since a small job keeps the driver busy for longer than it keeps Spark.
    with ThreadPoolExecutor() as threads:
        of_scenarios = threads.submit(_scenarios, spark, config, root=root)
        of_profile = threads.submit(_profile, spark, config, root=root, days=snapshots)
        facts_read = {name: threads.submit(read, name) for name in config.raw.facts}
    scenario, found, findings = of_scenarios.result()
    profile, more = of_profile.result()
    findings.add(more)
    ids = tuple(sorted(found | set(scenarios)))
    facts = {name: running.result() for name, running in facts_read.items()}
    _check_id_types(config, facts, profile)
    for name, frame in facts.items():
        facts[name] = flagged_facts(frame, name, raw=config.raw, checks=checks, scenarios=list(ids), findings=findings)
    return RawFrames(facts, profile, scenario, ids, findings)


def _scenarios(spark: SparkSession, config: EtlConfig, *, root: str) -> tuple[DataFrame, set[str], Findings]:
    findings = Findings()
    frame = read_snapshots(spark, config.raw.scenarios, "scenarios", root=root)
    frame = checked_snapshots(frame, "scenarios", "scenario_id", checks=config.checks, findings=findings)
    found = {row[0] for row in frame.select("scenario_id").distinct().collect()}
    if not found:
        raise UserError("raw table 'scenarios' must have rows, however: it is empty")
    return frame, found, findings


def _profile(spark: SparkSession, config: EtlConfig, *, root: str, days: Days | None) -> tuple[DataFrame, Findings]:
    findings = Findings()
    frame = read_snapshots(spark, config.raw.profile, "profile", root=root, days=days)
    return checked_snapshots(frame, "profile", "advertiser_id", checks=config.checks, findings=findings), findings


def check_attributes(tables: RawFrames, config: EtlConfig) -> None:
    """Raises UserError if a profile or scenario attribute's expression does not hold over its table."""
    for name, attribute in config.features.profile.items():
        check_scalar(tables.profile, attribute.expr, kind=attribute.kind, owner=f"features.profile.{name}")
    with_as_of = tables.scenarios.withColumn("as_of", F.col("day"))
    for name, attribute in config.features.scenario.items():
        check_scalar(with_as_of, attribute.expr, kind=attribute.kind, owner=f"features.scenario.{name}")


def _check_id_types(config: EtlConfig, facts: Mapping[str, DataFrame], profile: DataFrame) -> None:
    wanted = profile.schema["advertiser_id"].dataType.simpleString()
    for name, frame in facts.items():
        actual = frame.schema["advertiser_id"].dataType.simpleString()
        if actual != wanted:
            raise UserError(
                f"raw table {name!r}: column {config.raw.facts[name].advertiser!r} must be {wanted}, "
                f"like the profile's key, however: {actual}"
            )
