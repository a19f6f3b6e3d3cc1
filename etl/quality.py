"""What packing found wrong with facts, judged by the policies of the config."""

from collections.abc import Sequence

from etl.checks import FACT_KEYS, doubles_detail, handle_problems
from etl.config import EtlConfig
from etl.facts import Source
from etl.pack import Summary
from etl.raw import RawFrames
from m2m_model.contracts.errors import UserError


def check_summaries(
    summaries: Sequence[Summary], sources: Sequence[Source], tables: RawFrames, config: EtlConfig
) -> None:
    """Judge flagged rows, doubled keys, negative labels (Poisson losses, eq. 20, are for others) and huge ones.

    Raises:
        UserError: there are some and the policy says so, or a value is too large to be exact in a double.
    """
    findings = tables.findings
    for name, index in _one_source_each(sources).items():
        rows, keys = _rows_and_keys(summaries, index)
        handle_problems(
            tables.facts[name],
            name,
            rows,
            raw=config.raw,
            checks=config.checks,
            scenarios=list(tables.scenario_ids),
            findings=findings,
        )
        if config.raw.facts[name].kind == "daily":
            doubles, detail = rows.get(0, 0) - keys, doubles_detail(FACT_KEYS)
            findings.handle(check="duplicate_keys", table=name, rows=doubles, policy="error", detail=detail)
    huge = sum(summary.huge for summary in summaries)
    if huge:
        raise UserError(
            f"{huge} daily task values exceed 2^53 units after scaling, so sums would not be exact: use coarser units"
        )
    for index, source in enumerate(sources):
        tasks = ", ".join(name for name, task in config.tasks.items() if task.table == source.table)
        findings.handle(
            check="negative_labels",
            table=source.table,
            rows=sum(summary.negative.get(index, 0) for summary in summaries),
            policy=config.checks.negative_labels,
            detail=f"a negative daily value of a task ({tasks})",
        )


def rows_by_day(summaries: Sequence[Summary], sources: Sequence[Source]) -> dict[str, dict[int, int]]:
    """By table, the raw rows without a problem of every day that has any."""
    tables = {index: name for name, index in _one_source_each(sources).items()}
    rows: dict[str, dict[int, int]] = {name: {} for name in tables.values()}
    for summary in summaries:
        for (index, day), count in summary.days.items():
            if index in tables:
                counted = rows[tables[index]]
                counted[day] = counted.get(day, 0) + count
    return rows


def _one_source_each(sources: Sequence[Source]) -> dict[str, int]:
    """By table, one of its sources; each of them counts all rows of it."""
    found: dict[str, int] = {}
    for index, source in enumerate(sources):
        found.setdefault(source.table, index)
    return found


def _rows_and_keys(summaries: Sequence[Summary], source: int) -> tuple[dict[int, int], int]:
    """Raw rows of a source by problem, and the number of different keys of those without one."""
    by_problem: dict[int, int] = {}
    keys = 0
    for summary in summaries:
        for (index, problem), (rows, different) in summary.rows.items():
            if index == source:
                by_problem[problem] = by_problem.get(problem, 0) + rows
                keys += different if problem == 0 else 0
    return by_problem, keys
