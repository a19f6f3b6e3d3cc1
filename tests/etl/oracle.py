"""Expected dataset rows by slow loops over plain dictionaries; written from the contract, not from the Spark code."""

import datetime
import math
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from tests.etl.small_world import FIRST, LAST, SCENARIOS

DAY = datetime.timedelta(days=1)


class Oracle:
    def __init__(
        self, tables: dict[str, pd.DataFrame], *, train: tuple[datetime.date, datetime.date], lag: int, horizon: int
    ):
        self.lag, self.horizon, self.length, self.weeks = lag, horizon, 10, 2
        self.clicks: Counter[tuple[str, str, datetime.date]] = Counter()
        self.spend: dict[tuple[str, str, datetime.date], Decimal] = defaultdict(Decimal)
        self.rows: Counter[tuple[str, str, datetime.date]] = Counter()
        for a, s, d, clicks, spend in tables["performance"].itertuples(index=False):
            self.clicks[a, s, d] += clicks
            self.spend[a, s, d] += spend
            self.rows[a, s, d] += 1
        self.bids: Counter[tuple[str, str, datetime.date]] = Counter()
        self.logins: Counter[tuple[str, datetime.date]] = Counter()
        for a, s, time, event in tables["behavior"].itertuples(index=False):
            d = time.tz_convert("America/New_York").date()
            self.bids[a, s, d] += (event == "bid") and isinstance(s, str)
            self.logins[a, d] += event == "login"
        self.profile, self.scenarios = tables["profile"], tables["scenarios"]
        self.train_as_of = [train[0] + DAY * i for i in range((train[1] - train[0]).days + 1)]
        last = train[1] - DAY * lag
        self.edges = {
            "bids": self.fit([v for (*_, d), v in self.bids.items() if d <= last], 16),
            "logins": self.fit([v for (_, d), v in self.logins.items() if d <= last], 16),
            "spend": self.fit([v for (*_, d), v in self.spend.items() if d <= last], 16),
        }
        for scenario in SCENARIOS:
            values = [v for (_, s, d), v in self.clicks.items() if s == scenario and d <= last]
            self.edges[f"clicks@{scenario}"] = self.fit(values, 4)
        seen = self.profile[self.profile.day <= train[1]]
        self.categories = sorted(set(seen.category))
        self.edges["size"] = self.fit(list(seen["size"]), 3)
        shares = [self.snapshot(s, d)["share"] for d in self.train_as_of for s in self.live(d)]
        self.edges["share"] = self.fit(shares, 4)
        self.weekdays = sorted({str(d.weekday()) for d in self.train_as_of})

    @staticmethod
    def fit(values: list[Any], buckets: int) -> list[float]:
        ordered = sorted(float(v) for v in values)
        ordered = [v for v in ordered if v != 0]
        n = len(ordered)
        return sorted({ordered[math.ceil(k * n / buckets) - 1] for k in range(1, buckets)}) if n else []

    def bucket(self, name: str, value: Any) -> int:
        if value is None:
            return 0
        value = float(value)
        return 1 if value == 0 else 2 + sum(edge < value for edge in self.edges[name])

    def live(self, as_of: datetime.date) -> list[str]:
        return sorted(set(self.scenarios[self.scenarios.day <= as_of].scenario_id))

    def snapshot(self, scenario: str, as_of: datetime.date) -> Any:
        known = self.scenarios[(self.scenarios.scenario_id == scenario) & (self.scenarios.day <= as_of)]
        return known.sort_values("day").iloc[-1]

    def window(self, as_of: datetime.date, days: int) -> list[datetime.date]:
        end = as_of - DAY * self.lag
        return [end - DAY * back for back in reversed(range(days))]

    def active_days(self, a: str, s: str, as_of: datetime.date) -> int:
        return sum((a, s, d) in self.rows for d in self.window(as_of, self.length))

    def keys(self, as_of: datetime.date, population: str) -> set[tuple[str, str]]:
        eligible = {(a, s) for a, s, _ in self.rows if self.active_days(a, s, as_of) >= 2}
        if population == "own":
            return eligible
        return {(a, s) for a, _ in eligible for s in self.live(as_of)}

    def row(self, a: str, s: str, as_of: datetime.date) -> dict[str, Any]:
        days = self.window(as_of, self.length)
        behavior, performance, dense = [], [], []
        for d in days:
            outside = not FIRST <= d <= LAST
            behavior += (
                [0, 0]
                if outside
                else [self.bucket("bids", self.bids[a, s, d]), self.bucket("logins", self.logins[a, d])]
            )
            clicks = [0 if outside else self.bucket(f"clicks@{x}", self.clicks[a, x, d]) for x in SCENARIOS]
            performance += [*clicks, 0 if outside else self.bucket("spend", self.spend.get((a, s, d), 0))]
            dense.append(np.float32(np.log1p(float(self.spend.get((a, s, d), 0)))))
        future = [as_of + DAY * ahead for ahead in range(1, self.horizon + 1)]
        values = {
            "clicks": lambda d: Decimal(self.clicks[a, s, d]),
            "spend": lambda d: self.spend.get((a, s, d), Decimal()),
            "active": lambda d: Decimal((a, s, d) in self.rows),
        }
        expected: dict[str, Any] = {"behavior_ids": behavior, "performance_ids": performance}
        for task, value in values.items():
            weeks = []
            for week in range(self.weeks):
                end = as_of - DAY * (self.lag + 7 * week)
                weeks.append(float(sum(value(end - DAY * back) for back in range(7))))
            history = [*weeks, float(sum(value(d) for d in days))]
            expected[f"history_{task}"] = history
            expected[f"label_{task}"] = float(sum(value(d) for d in future))
            dense += [np.float32(np.log1p(x)) for x in history]
        known = self.profile[(self.profile.advertiser_id == a) & (self.profile.day <= as_of)].sort_values("day")
        if len(known):
            latest = known.iloc[-1]
            word = 2 + self.categories.index(latest.category) if latest.category in self.categories else 1
            expected["profile_ids"] = [word, self.bucket("size", latest["size"])]
        else:
            expected["profile_ids"] = [0, 0]
        expected["attribute_ids"] = (
            [self.bucket("share", self.snapshot(s, as_of)["share"]), 2 + self.weekdays.index(str(as_of.weekday()))]
            if s in self.live(as_of)
            else [0, 0]
        )
        expected["dense"] = [float(x) for x in dense]
        expected["active_days"] = self.active_days(a, s, as_of)
        expected["eligible"] = expected["active_days"] >= 2
        return expected
