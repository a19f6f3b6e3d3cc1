"""Checks of raw rows before any work: each finding stops the build or is a counted, reported drop, by policy."""

from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.config import ChecksConfig, RawConfig
from m2m_model.contracts.errors import UserError

FACT_KEYS = ["advertiser_id", "scenario_id", "day"]
EXAMPLES = 5
"""How many unknown scenarios a message names."""


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
    """Facts whose keys are all there, whose days lie in the calendar, whose scenarios are known.

    Doubles are dropped here if the policy says so; else the aggregation of facts counts them on its way.
    """
    table = raw.facts[name]
    null_advertiser, null_day = F.col("advertiser_id").isNull(), F.col("day").isNull()
    outside = ~F.col("day").between(F.lit(raw.first_day), F.lit(raw.last_day))
    unknown = F.col("scenario_id").isNotNull() & ~F.col("scenario_id").isin(scenarios)
    range_ = f"{raw.first_day} .. {raw.last_day}"
    problems: list[tuple[str, Column, str]] = [
        ("null_keys", null_advertiser, f"a null {table.advertiser!r}"),
        ("null_keys", ~null_advertiser & null_day, f"a null {table.time!r}"),
        ("dates_out_of_range", ~null_advertiser & outside, f"a day of {table.time!r} outside {range_}"),
        (
            "unknown_scenarios",
            ~null_advertiser & ~null_day & unknown,
            f"a {table.scenario!r} that no scenario snapshot has",
        ),
    ]
    counts = frame.select(
        F.count("*").alias("rows"),
        *(F.count_if(bad).alias(str(index)) for index, (_, bad, _) in enumerate(problems)),
    ).first()
    assert counts is not None
    if counts["rows"] == 0:
        raise UserError(f"raw table {name!r} must have rows, however: it is empty")
    for index, (check, bad, detail) in enumerate(problems):
        if check == "unknown_scenarios" and counts[str(index)]:
            some = frame.where(bad).select("scenario_id").distinct().orderBy("scenario_id").limit(EXAMPLES).collect()
            detail += f" ({', '.join(repr(row[0]) for row in some)}; known: {scenarios})"
        policy = getattr(checks, check)
        if findings.handle(check=check, table=name, rows=counts[str(index)], policy=policy, detail=detail):
            frame = frame.where(~F.coalesce(bad, F.lit(False)))
    if table.kind == "daily" and checks.duplicate_keys == "drop":
        doubles = frame.groupBy(*FACT_KEYS).count().select(F.sum(F.col("count") - 1)).first()
        assert doubles is not None
        frame = _without_doubles(frame, name, FACT_KEYS, doubles[0] or 0, checks, findings)
    return frame


def checked_snapshots(frame: DataFrame, name: str, key: str, *, checks: ChecksConfig, findings: Findings) -> DataFrame:
    """Snapshots with a key and a day each, one row per key and day."""
    rows, no_key, no_day = F.col("count"), F.col(key).isNull(), F.col("day").isNull()
    counts = (
        frame.groupBy(key, "day")
        .count()
        .agg(
            F.sum(F.when(no_key, rows)).alias(key),
            F.sum(F.when(~no_key & no_day, rows)).alias("day"),
            F.sum(F.when(~no_key & ~no_day, rows - 1)).alias("doubles"),
        )
        .first()
    )
    assert counts is not None
    for column in (key, "day"):
        detail = f"a null {column!r}"
        if findings.handle(
            check="null_keys", table=name, rows=counts[column] or 0, policy=checks.null_keys, detail=detail
        ):
            frame = frame.where(F.col(column).isNotNull())
    return _without_doubles(frame, name, [key, "day"], counts["doubles"] or 0, checks, findings)


def doubles_detail(keys: list[str]) -> str:
    return f"a key ({', '.join(keys)}) that another row has too"


def _without_doubles(
    frame: DataFrame, name: str, keys: list[str], rows: int, checks: ChecksConfig, findings: Findings
) -> DataFrame:
    policy = checks.duplicate_keys
    if not findings.handle(check="duplicate_keys", table=name, rows=rows, policy=policy, detail=doubles_detail(keys)):
        return frame
    # The row kept is the first in the order of all columns, so that it does not depend on the order of the input.
    order = Window.partitionBy(*keys).orderBy(*(F.to_json(F.struct(c)) for c in frame.columns))
    return frame.withColumn("_rank", F.row_number().over(order)).where("_rank = 1").drop("_rank")
