"""Checks of raw rows before any work: each finding stops the build or is a counted, reported drop, by policy."""

from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.config import ChecksConfig, RawConfig
from m2m_model.contracts.errors import UserError


@dataclass
class Findings:
    """Rows dropped so far, by check; goes into the manifest."""

    dropped: dict[str, int] = field(default_factory=dict)

    def handle(self, *, check: str, table: str, rows: int, policy: str, detail: str) -> bool:
        """Count ``rows`` bad rows; returns whether there is anything to drop.

        Raises:
            UserError: the policy is ``error``.
        """
        if rows == 0:
            return False
        if policy == "error":
            raise UserError(
                f"raw table {table!r}: {rows} rows with {detail}; mend them, "
                f'or set checks.{check} = "drop" to leave them out'
            )
        self.dropped[check] = self.dropped.get(check, 0) + rows
        return True


def checked_facts(
    frame: DataFrame, name: str, *, raw: RawConfig, checks: ChecksConfig, scenarios: list[str], findings: Findings
) -> DataFrame:
    """Facts whose keys are all there, whose days lie in the calendar, whose scenarios are known, without doubles."""
    null_key = F.col("advertiser_id").isNull() | F.col("day").isNull()
    outside = ~null_key & ~F.col("day").between(F.lit(raw.first_day), F.lit(raw.last_day))
    unknown = ~null_key & F.col("scenario_id").isNotNull() & ~F.col("scenario_id").isin(scenarios)
    problems: dict[str, tuple[Column, str]] = {
        "null_keys": (null_key, "a null advertiser or time"),
        "dates_out_of_range": (outside, f"a day outside {raw.first_day} .. {raw.last_day}"),
        "unknown_scenarios": (unknown, f"a scenario that no scenario snapshot names (known: {scenarios})"),
    }
    counts = frame.select(
        F.count("*").alias("rows"), *(F.count_if(bad).alias(check) for check, (bad, _) in problems.items())
    ).first()
    assert counts is not None
    if counts["rows"] == 0:
        raise UserError(f"raw table {name!r} must have rows, however: it is empty")
    for check, (bad, detail) in problems.items():
        policy = getattr(checks, check)
        if findings.handle(check=check, table=name, rows=counts[check], policy=policy, detail=detail):
            frame = frame.where(~bad)
    if raw.facts[name].kind == "daily":
        frame = _without_doubles(frame, name, ["advertiser_id", "scenario_id", "day"], checks, findings)
    return frame


def checked_snapshots(frame: DataFrame, name: str, key: str, *, checks: ChecksConfig, findings: Findings) -> DataFrame:
    """Snapshots with a key and a day each, one row per key and day."""
    null_key = F.col(key).isNull() | F.col("day").isNull()
    rows = frame.where(null_key).count()
    if findings.handle(check="null_keys", table=name, rows=rows, policy=checks.null_keys, detail="a null key or day"):
        frame = frame.where(~null_key)
    return _without_doubles(frame, name, [key, "day"], checks, findings)


def _without_doubles(
    frame: DataFrame, name: str, keys: list[str], checks: ChecksConfig, findings: Findings
) -> DataFrame:
    doubles = frame.groupBy(*keys).count().where("count > 1").select(F.sum(F.col("count") - 1)).first()
    rows = int((doubles and doubles[0]) or 0)
    detail = f"a key ({', '.join(keys)}) that another row has too"
    if not findings.handle(check="duplicate_keys", table=name, rows=rows, policy=checks.duplicate_keys, detail=detail):
        return frame
    # The row kept is the first in the order of all columns, so that it does not depend on the order of the input.
    order = Window.partitionBy(*keys).orderBy(*(F.to_json(F.struct(c)) for c in frame.columns))
    return frame.withColumn("_rank", F.row_number().over(order)).where("_rank = 1").drop("_rank")
