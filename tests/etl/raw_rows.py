"""Raw rows as the oracle sees them: by key and day, in the run's time zone, without what the checks drop."""

import datetime
from collections import defaultdict
from functools import cache, cached_property
from typing import Any, Literal
from zoneinfo import ZoneInfo

from etl.config import EtlConfig, FactsTable
from tests.etl.twins import Number, Row, aggregate

FactKey = tuple[Any, str | None, datetime.date]
"""Advertiser, scenario or None, day."""


class RawRows:
    """Raw ``tables`` under ``config``.

    Rows that the checks would drop count as not there: null keys, days outside the calendar, unknown scenarios. Of rows
    with one key (``duplicate_keys``) it takes the first, so they must be equal.
    """

    def __init__(self, config: EtlConfig, tables: dict[str, list[Row]], as_known_at: datetime.datetime | None) -> None:
        self.config, self.raw, self.as_known_at = config, config.raw, as_known_at
        self.snapshots = {name: self._snapshots(tables[name], name) for name in ("profile", "scenarios")}
        self.facts = {name: self._by_key(tables[name], table) for name, table in self.raw.facts.items()}
        self.advertisers = sorted({key[0] for facts in self.facts.values() for key in facts})
        self.value = cache(self._value)

    def _by_key(self, rows: list[Row], table: FactsTable) -> dict[FactKey, list[Row]]:
        zone = ZoneInfo(self.raw.timezone)
        by_key: dict[FactKey, list[Row]] = defaultdict(list)
        for row in rows:
            advertiser, scenario, moment = row[table.advertiser], row[table.scenario], row[table.time]
            known = scenario is None or scenario in self.snapshots["scenarios"]
            if advertiser is None or moment is None or not known or not self._has_arrived(row, table):
                continue
            day = moment.astimezone(zone).date() if table.kind == "events" else moment
            if self.raw.first_day <= day <= self.raw.last_day:
                by_key[advertiser, scenario, day].append(row)
        if table.kind == "daily":
            assert all(row == found[0] for found in by_key.values() for row in found)
            return {key: found[:1] for key, found in by_key.items()}
        return dict(by_key)

    def _has_arrived(self, row: Row, table: FactsTable) -> bool:
        if not table.arrived_at:
            return True
        arrived = row[table.arrived_at]
        return arrived is not None and (self.as_known_at is None or arrived <= self.as_known_at)

    def _snapshots(self, rows: list[Row], name: Literal["profile", "scenarios"]) -> dict[Any, list[Row]]:
        """Snapshots by key, oldest first."""
        config = getattr(self.raw, name)
        by_key: dict[Any, list[Row]] = defaultdict(list)
        for row in sorted((row for row in rows if row[config.day] is not None), key=lambda row: row[config.day]):
            if row[config.key] is not None:
                by_key[row[config.key]].append(row)
        return dict(by_key)

    def live(self, day: datetime.date) -> list[str]:
        return sorted(key for key in self.snapshots["scenarios"] if self.snapshot("scenarios", key, day) is not None)

    def snapshot(self, table: Literal["profile", "scenarios"], key: Any, day: datetime.date) -> Row | None:
        column = getattr(self.raw, table).day
        return next((row for row in reversed(self.snapshots[table].get(key, [])) if row[column] <= day), None)

    def of(self, table: str, advertiser: Any, scenario: str | None, day: datetime.date) -> list[Row]:
        """Rows of one advertiser and day, in one scenario, or with ``None`` in all and in none."""
        if scenario is None:
            return self._by_advertiser[table].get((advertiser, day), [])
        key = (advertiser, scenario, day)
        return [] if key in self._negative[table] else self.facts[table].get(key, [])

    @cached_property
    def _by_advertiser(self) -> dict[str, dict[tuple[Any, datetime.date], list[Row]]]:
        index: dict[str, dict[tuple[Any, datetime.date], list[Row]]] = {}
        for name, facts in self.facts.items():
            index[name] = defaultdict(list)
            for key, rows in facts.items():
                index[name][key[0], key[2]] += rows
        return index

    @cached_property
    def _negative(self) -> dict[str, set[FactKey]]:
        """Days of a scenario with a negative task value, which go as a whole where the checks drop them."""
        found: dict[str, set[FactKey]] = {name: set() for name in self.facts}
        for task in self.config.tasks.values() if self.config.checks.negative_labels == "drop" else ():
            for key, rows in self.facts[task.table].items():
                if key[1] is not None and (aggregate(task.expr)(rows) or 0) < 0:
                    found[task.table].add(key)
        return found

    def _value(self, table: str, expr: str, advertiser: Any, scenario: str | None, day: datetime.date) -> Number | None:
        """None is missing: a day outside the raw range, or a null. A day without rows is zero."""
        if not self.raw.first_day <= day <= self.raw.last_day:
            return None
        rows = self.of(table, advertiser, scenario, day)
        value: Number | None = aggregate(expr)(rows) if rows else 0
        return value
