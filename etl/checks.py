"""Checks of raw rows before any work: each finding stops the build or is a counted, reported drop, by policy."""

from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.config import ChecksConfig, RawConfig
from etl.tables import filed_day
from m2m_model.contracts.errors import UserError

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
    """Facts whose keys are all there, whose days lie in the calendar, whose scenarios are known, without doubles."""
    table = raw.facts[name]
    range_ = f"{raw.first_day} .. {raw.last_day}"
    # A row counts under the first that holds; a condition that is null, such as a range test of a null day, does not.
    problems: list[tuple[str, Column, str]] = [
        ("null_keys", F.col("advertiser_id").isNull(), f"a null {table.advertiser!r}"),
        ("null_keys", F.col("day").isNull(), f"a null {table.time!r}"),
        (
            "dates_out_of_range",
            ~F.col("day").between(F.lit(raw.first_day), F.lit(raw.last_day)),
            f"a day of {table.time!r} outside {range_}",
        ),
        (
            "unknown_scenarios",
            ~F.col("scenario_id").isin(scenarios),
            f"a {table.scenario!r} that no scenario snapshot has",
        ),
    ]
    if table.arrived_at:
        problems.append(("null_keys", F.col(table.arrived_at).isNull(), f"a null {table.arrived_at!r}"))
    if table.partition:
        misfiled = ~F.coalesce(F.col(table.partition).cast("date") == filed_day(table, raw.timezone), F.lit(False))
        problems.append(("misfiled_rows", misfiled, f"a {table.partition!r} that is not the day of {table.time!r}"))
    first = F.lit(None).cast("int")
    for index in reversed(range(len(problems))):
        first = F.when(problems[index][1], index).otherwise(first)
    counts = frame.select(
        F.count("*").alias("rows"),
        *(F.count_if(first == index).alias(str(index)) for index in range(len(problems))),
    ).first()
    assert counts is not None
    if counts["rows"] == 0:
        raise UserError(f"raw table {name!r} must have rows, however: it is empty")
    dropped = False
    for index, (check, _, detail) in enumerate(problems):
        if check == "unknown_scenarios" and counts[str(index)]:
            bad = frame.where(first == index)
            some = bad.select("scenario_id").distinct().orderBy("scenario_id").limit(EXAMPLES).collect()
            detail += f" ({', '.join(repr(row[0]) for row in some)}; known: {scenarios})"
        policy = getattr(checks, check)
        dropped |= findings.handle(check=check, table=name, rows=counts[str(index)], policy=policy, detail=detail)
    if dropped:
        frame = frame.where(first.isNull())
    if table.kind == "daily":
        frame = _without_doubles(frame, name, ["advertiser_id", "scenario_id", "day"], checks, findings)
    return frame


def checked_snapshots(frame: DataFrame, name: str, key: str, *, checks: ChecksConfig, findings: Findings) -> DataFrame:
    """Snapshots with a key and a day each, one row per key and day."""
    for column in (key, "day"):
        rows = frame.where(F.col(column).isNull()).count()
        detail = f"a null {column!r}"
        if findings.handle(check="null_keys", table=name, rows=rows, policy=checks.null_keys, detail=detail):
            frame = frame.where(F.col(column).isNotNull())
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
