"""Checks of daily facts, after aggregation."""

from collections.abc import Sequence

from etl.checks import FACT_KEYS, Findings, doubles_detail
from etl.config import EtlConfig
from etl.facts import Source
from etl.pack import Summary
from m2m_model.contracts.errors import UserError


def check_summaries(
    summaries: Sequence[Summary], sources: Sequence[Source], config: EtlConfig, findings: Findings
) -> None:
    """Judge what packing found: doubled keys, negative labels (Poisson losses, eq. 20, are for others), huge ones.

    Raises:
        UserError: there are some and the policy says so, or a value is too large to be exact in a double.
    """
    for index, source in enumerate(sources):
        rows = sum(summary.doubles[index] for summary in summaries)
        findings.handle(
            check="duplicate_keys", table=source.table, rows=rows, policy="error", detail=doubles_detail(FACT_KEYS)
        )
    huge = sum(summary.huge for summary in summaries)
    if huge:
        raise UserError(
            f"{huge} daily task values exceed 2^53 units after scaling, so sums would not be exact: use coarser units"
        )
    findings.handle(
        check="negative_labels",
        table="performance",
        rows=sum(summary.negative for summary in summaries),
        policy=config.checks.negative_labels,
        detail="a negative daily value of a task (" + ", ".join(config.tasks) + ")",
    )
