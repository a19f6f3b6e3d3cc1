"""What was known when: facts in versions, for builds whose features see what had arrived by each as-of day.

A daily value has a version per moment at which a late row changed it, each aggregated over all rows known by then. So
any aggregate is allowed that is allowed elsewhere, ``count(distinct ...)`` included, and the values are those that a
build of that day alone computes.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from etl.config import FactsTable, RawConfig
from m2m_model.contracts.days import known_instant

DAY = datetime.timedelta(days=1)


def known_at(raw: RawConfig, date: datetime.date) -> datetime.datetime:
    """:func:`known_instant` of as-of day ``date``."""
    return known_instant(date, timezone=raw.timezone, after_hours=raw.known_after_hours)


@dataclass(frozen=True, kw_only=True)
class Arrivals:
    """From which as-of day on a row is known; days count from ``raw.first_day``."""

    raw: RawConfig
    last: int
    """The last as-of day."""
    lag: int
    history_days: int

    def versions(self, frame: DataFrame, table: FactsTable, keys: Sequence[str]) -> DataFrame:
        """Rows of ``frame`` once for every version of their key that they belong to.

        Adds ``seen``, the as-of day from which a version is known, and ``matured``, whether it is the key's last. To
        be grouped by both beside ``keys``; the window's shuffle serves that grouping too.
        """
        versions = F.array_sort(F.collect_set("_seen").over(Window.partitionBy(*keys)))
        # Rows without a day have a problem, and are there to be counted.
        seen = F.coalesce(self._seen(table), F.lit(0))
        frame = frame.withColumn("_seen", seen).withColumn("_versions", versions)
        later = F.filter("_versions", lambda version: version >= F.col("_seen"))
        return frame.withColumn("seen", F.explode(later)).withColumn(
            "matured", F.col("seen") == F.element_at("_versions", -1)
        )

    def _seen(self, table: FactsTable) -> Column:
        day = F.date_diff(F.col("day"), F.lit(self.raw.first_day))
        needed, never = day + self.lag, day + self.lag + self.history_days
        if not table.arrived_at:
            return needed
        # Earlier than needed makes no difference, nor does later than the last as-of day that takes the row's day.
        return F.coalesce(F.least(F.greatest(self._arrival(table), needed), never), never)

    def _arrival(self, table: FactsTable) -> Column:
        """The first as-of day whose known instant is not before a row's arrival."""
        arrived = F.unix_micros(F.col(table.arrived_at))
        instants = [known_at(self.raw, self.raw.first_day + DAY * day) for day in range(-2, self.last + 1)]
        known = F.array(*(F.lit(_micros(instant)) for instant in instants))
        hours = F.make_dt_interval(hours=F.lit(self.raw.known_after_hours))
        local = F.to_date(F.from_utc_timestamp(F.col(table.arrived_at) - hours, self.raw.timezone))
        near = F.date_diff(local, F.lit(self.raw.first_day))
        near = F.least(F.greatest(near, F.lit(0)), F.lit(self.last))
        # The calendar is near it, but where the clocks change at midnight, or a day is left out, the instants decide.
        return (
            F.when(arrived <= F.element_at(known, near + 1), near - 2)
            .when(arrived <= F.element_at(known, near + 2), near - 1)
            .when(arrived <= F.element_at(known, near + 3), near)
            .otherwise(near + 1)
        )


def _micros(instant: datetime.datetime) -> int:
    return (instant - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
