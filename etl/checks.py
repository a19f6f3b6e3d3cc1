"""Checks of raw rows before any work: each finding stops the build or is a counted, reported drop, by policy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.config import ChecksConfig, RawConfig
from etl.tables import filed_day
from m2m_model.contracts.errors import UserError

FACT_KEYS = ["advertiser_id", "scenario_id", "day"]
EXAMPLES = 5
"""How many unknown scenarios a message names."""


@dataclass
class Findings:
    """Rows dropped so far, by check; goes into the manifest."""

    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Findings") -> None:
        for check, rows in other.dropped.items():
            self.dropped[check] = self.dropped.get(check, 0) + rows

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


def flagged_facts(
    frame: DataFrame, name: str, *, raw: RawConfig, checks: ChecksConfig, scenarios: list[str], findings: Findings
) -> DataFrame:
    """Facts with a column ``_problem``: the number, from 1, of the first of :func:`fact_problems` that holds, else 0.

    Rows with a problem stay: the aggregation counts them on its way, so that the raw table is read once, and leaves
    them out; :func:`handle_problems` judges the counts. Doubles are dropped here if the policy says so, else the
    aggregation counts them too.
    """
    flag = F.lit(0)
    for number, problem in reversed(list(enumerate(fact_problems(name, raw=raw, scenarios=scenarios), 1))):
        flag = F.when(problem.bad, F.lit(number)).otherwise(flag)
    frame = frame.withColumn("_problem", flag)
    if raw.facts[name].kind == "daily" and checks.duplicate_keys == "drop":
        doubles = frame.where("_problem = 0").groupBy(*FACT_KEYS).count().select(F.sum(F.col("count") - 1)).first()
        assert doubles is not None
        flagged = frame.where("_problem > 0")
        frame = _without_doubles(frame.where("_problem = 0"), name, FACT_KEYS, doubles[0] or 0, checks, findings)
        frame = frame.unionByName(flagged)
    return frame


@dataclass(frozen=True)
class Problem:
    """What may be wrong with a row of facts: the policy's name, the condition, and the words for it."""

    check: str
    bad: Column
    detail: str


def fact_problems(name: str, *, raw: RawConfig, scenarios: list[str]) -> tuple[Problem, ...]:
    """Keys must be there, days lie in the calendar and in their partition, scenarios be known.

    A condition that is null, such as a range test of a null day, does not hold.
    """
    table, range_ = raw.facts[name], f"{raw.first_day} .. {raw.last_day}"
    outside = ~F.col("day").between(F.lit(raw.first_day), F.lit(raw.last_day))
    unknown = ~F.col("scenario_id").isin(scenarios)
    problems = [
        Problem("null_keys", F.col("advertiser_id").isNull(), f"a null {table.advertiser!r}"),
        Problem("null_keys", F.col("day").isNull(), f"a null {table.time!r}"),
        Problem(
            "dates_out_of_range", outside, f"a day of {table.time!r} outside {range_} (raw.first_day, raw.last_day)"
        ),
        Problem("unknown_scenarios", unknown, f"a {table.scenario!r} that no scenario snapshot has"),
    ]
    if table.arrived_at:
        problems.append(Problem("null_keys", F.col(table.arrived_at).isNull(), f"a null {table.arrived_at!r}"))
    if table.partition:
        misfiled = ~F.coalesce(F.col(table.partition).cast("date") == filed_day(table, raw.timezone), F.lit(False))
        detail = f"a {table.partition!r} that is not the day of {table.time!r}"
        problems.append(Problem("misfiled_rows", misfiled, detail))
    return tuple(problems)


def handle_problems(
    frame: DataFrame,
    name: str,
    rows: Mapping[int, int],
    *,
    raw: RawConfig,
    checks: ChecksConfig,
    scenarios: list[str],
    findings: Findings,
) -> None:
    """Judge a table's flagged rows, counted by problem (0: none).

    Raises:
        UserError: the table is empty, or has a problem whose policy is ``error``.
    """
    if not sum(rows.values()):
        raise UserError(f"raw table {name!r} must have rows, however: it is empty")
    for number, problem in enumerate(fact_problems(name, raw=raw, scenarios=scenarios), 1):
        count, detail = rows.get(number, 0), problem.detail
        if problem.check == "unknown_scenarios" and count:
            bad = frame.where(F.col("_problem") == number).select("scenario_id").distinct()
            some = bad.orderBy("scenario_id").limit(EXAMPLES).collect()
            detail += f" ({', '.join(repr(row[0]) for row in some)}; known: {scenarios})"
        policy = getattr(checks, problem.check)
        findings.handle(check=problem.check, table=name, rows=count, policy=policy, detail=detail)


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
