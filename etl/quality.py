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
    negative, huge = F.lit(False), F.lit(False)
    for index, source in enumerate(sources):
        for position, value in enumerate(source.values):
            if value.exact:
                at: Column = F.get("values", F.lit(position))
                negative |= (F.col("source") == index) & (F.coalesce(at, F.lit(0.0)) < 0.0)
                huge |= (F.col("source") == index) & (F.coalesce(at, F.lit(0.0)) > float(LARGEST_EXACT))
    counts = facts.select(F.count_if(negative).alias("negative"), F.count_if(huge).alias("huge")).first()
    assert counts is not None
    if counts["huge"]:
        raise UserError(
            f"{counts['huge']} daily task values exceed 2^53 units after scaling, so sums would not be exact: "
            "use coarser units"
        )
    dropped = findings.handle(
        check="negative_labels",
        table="performance",
        rows=counts["negative"],
        policy=config.checks.negative_labels,
        detail="a negative daily value of a task (" + ", ".join(config.tasks) + ")",
    )
    return facts.where(~negative) if dropped else facts


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
