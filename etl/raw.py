"""All raw tables of a run, read, and checked as far as that needs no pass over the facts."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    findings, checks = Findings(), config.checks
    scenario = read_snapshots(spark, config.raw.scenarios, "scenarios", root=root)
    scenario = checked_snapshots(scenario, "scenarios", "scenario_id", checks=checks, findings=findings)
    found = {row[0] for row in scenario.select("scenario_id").distinct().collect()}
    if not found:
        raise UserError("raw table 'scenarios' must have rows, however: it is empty")
    ids = tuple(sorted(found | set(scenarios)))
    profile = read_snapshots(spark, config.raw.profile, "profile", root=root, days=snapshots)
    profile = checked_snapshots(profile, "profile", "advertiser_id", checks=checks, findings=findings)
    facts = {
        name: read_facts(spark, config.raw, name, root=root, as_known_at=as_known_at, days=days)
        for name in config.raw.facts
    }
    _check_id_types(config, facts, profile)
    for name, frame in facts.items():
        facts[name] = flagged_facts(frame, name, raw=config.raw, checks=checks, scenarios=list(ids), findings=findings)
    return RawFrames(facts, profile, scenario, ids, findings)


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
