"""Checks of daily facts, after aggregation."""

from collections.abc import Sequence

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from etl.checks import Findings
from etl.config import EtlConfig
from etl.facts import Source
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec

LARGEST_EXACT = 2**53


def refuse_negative_labels(
    facts: DataFrame, sources: Sequence[Source], config: EtlConfig, findings: Findings
) -> DataFrame:
    """Facts without days whose task value is negative: Poisson losses are for non-negative labels (eq. 20).

    Raises:
        UserError: there are some and the policy says so, or a value is too large to be exact in a double.
    """
    negative: dict[int, Column] = {}
    huge = F.lit(False)
    for index, source in enumerate(sources):
        exact = [position for position, value in enumerate(source.values) if value.exact]
        if exact:
            of_source = F.col("source") == index
            daily = [F.coalesce(F.get("values", F.lit(position)), F.lit(0.0)) for position in exact]
            negative[index] = of_source & (F.least(*daily, F.lit(0.0)) < 0.0)
            huge |= of_source & (F.greatest(*daily, F.lit(0.0)) > float(LARGEST_EXACT))
    counts = facts.select(
        F.count_if(huge).alias("huge"), *(F.count_if(bad).alias(str(index)) for index, bad in negative.items())
    ).first()
    assert counts is not None
    if counts["huge"]:
        raise UserError(
            f"{counts['huge']} daily task values exceed 2^53 units after scaling, so sums would not be exact: "
            "use coarser units"
        )
    for index, bad in negative.items():
        table = sources[index].table
        tasks = ", ".join(name for name, task in config.tasks.items() if task.table == table)
        if findings.handle(
            check="negative_labels",
            table=table,
            rows=counts[str(index)],
            policy=config.checks.negative_labels,
            detail=f"a negative daily value of a task ({tasks})",
        ):
            facts = facts.where(~bad)
    return facts


def refuse_inexact(totals: np.ndarray, spec: DatasetSpec) -> None:
    """Check the sums over the calendar of each advertiser, scenario and task, ``totals`` [A, S, M].

    Raises:
        UserError: one is beyond what a double holds exactly, so that window sums would be wrong in their last digits.
    """
    largest = totals.max(axis=(0, 1), initial=0.0)
    for task, total in zip(spec.tasks, largest, strict=True):
        if total > LARGEST_EXACT:
            raise UserError(
                f"tasks.{task.name}: the sum over all days of one advertiser is {total:.3g} units of 10^-{task.scale}, "
                "more than the 2^53 that a double holds exactly: use coarser units"
            )
