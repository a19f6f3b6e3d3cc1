"""A seeded world of small raw tables, as rows, with the config that reads them.

On purpose it holds what goes wrong in real tables: events around midnight and a change of the clocks, decimals,
rows without a scenario, days without any row, nulls in values, late arrivals, a scenario that starts in the training
period and one that starts after it, advertisers without a profile and profiles without an advertiser.
"""

import copy
import datetime
import random
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from etl.config import EtlConfig

Row = dict[str, Any]
DAY = datetime.timedelta(days=1)
ZONE = ZoneInfo("America/New_York")
FIRST_DAY = datetime.date(2017, 1, 20)
"""The clocks change on 2017-03-12, inside every world."""
AS_OF_DAYS = 60
SCENARIO_STARTS = {"feed": -400, "search": -3, "live": 30, "video": 62}
"""Day of the first snapshot, relative to FIRST_DAY; ``video`` starts after the last training day."""
INDUSTRIES = ("food", "games", "travel", "books")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What differs between worlds."""

    seed: int = 0
    length: int = 12
    horizon: int = 7
    lag: int = 0
    history_weeks: int = 3
    advertisers: int = 16
    bigint_ids: bool = False
    timezone: str = ZONE.key

    @property
    def days(self) -> int:
        """Raw days that leave exactly AS_OF_DAYS possible as-of days."""
        return AS_OF_DAYS + self.lag + self.length - 1 + self.horizon


@dataclass(frozen=True, kw_only=True)
class World:
    tables: dict[str, list[Row]]
    schemas: dict[str, pa.Schema]
    config: EtlConfig
    as_known_at: datetime.datetime = field(default=datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))

    def copy(self) -> "World":
        """The same world with rows of its own, to be changed."""
        return World(
            tables=copy.deepcopy(self.tables),
            schemas=dict(self.schemas),
            config=self.config,
            as_known_at=self.as_known_at,
        )

    def write(self, folder: Path) -> str:
        """Write every table as Parquet in two files, rows shuffled; returns the folder."""
        for name, rows in self.tables.items():
            (folder / name).mkdir(parents=True)
            shuffled = random.Random(1).sample(rows, len(rows))
            for part in range(2):
                table = pa.Table.from_pylist(shuffled[part::2], schema=self.schemas[name])
                pq.write_table(table, folder / name / f"part-{part}.parquet", write_page_checksum=True)
        return str(folder)


def make_config(shape: Shape, **sections: Any) -> EtlConfig:
    """The world's config; ``sections`` replace whole sections."""
    config: dict[str, Any] = {
        "raw": {
            "timezone": shape.timezone,
            "first_day": FIRST_DAY,
            "last_day": FIRST_DAY + (shape.days - 1) * DAY,
            "facts": {
                "behavior": {"kind": "events", "time": "happened", "arrived_at": "arrived_at"},
                "performance": {"kind": "daily", "arrived_at": "landed"},
                "orders": {
                    "kind": "events",
                    "time": "ordered_at",
                    "advertiser": "seller",
                    "scenario": "channel",
                    "arrived_at": "arrived_at",
                },
            },
        },
        "sequence": {
            "length": shape.length,
            "horizon": shape.horizon,
            "availability_lag_days": shape.lag,
            "history_weeks": shape.history_weeks,
        },
        "features": {
            "behavior": {
                "bids": {"expr": "count_if(event = 'bid_change')", "scope": "each_scenario", "buckets": 4},
                "budget": {"expr": "sum(amount)", "scope": "own", "buckets": 5, "dense": True},
                "logins": {"expr": "count_if(event = 'login')", "scope": "advertiser", "buckets": 3, "dense": True},
                "items": {"expr": "count(distinct item)", "scope": "advertiser", "buckets": 2},
            },
            "performance": {
                "clicks": {"expr": "sum(clicks)", "scope": "each_scenario", "buckets": 4, "dense": True},
                "spend": {"expr": "sum(spend)", "scope": "own", "buckets": 6, "dense": True},
                "quality": {"expr": "max(quality)", "scope": "own", "buckets": 3, "dense": True},
                "rate": {"expr": "try_divide(sum(clicks), sum(views))", "scope": "own", "buckets": 3},
                "all_spend": {"expr": "sum(spend)", "scope": "advertiser", "buckets": 40},
                "gmv": {"expr": "sum(gmv)", "scope": "own", "table": "orders", "buckets": 1},
            },
            "profile": {
                "industry": {"expr": "industry", "kind": "vocabulary"},
                "tier": {"expr": "tier", "kind": "vocabulary"},
                "wallet": {"expr": "wallet * 2", "kind": "bucket", "buckets": 4},
            },
            "scenario": {
                "medium": {"expr": "medium", "kind": "vocabulary"},
                "weekday": {"expr": "dayofweek(as_of)", "kind": "vocabulary"},
                "traffic": {"expr": "traffic", "kind": "bucket", "buckets": 3},
                "age": {"expr": "datediff(as_of, day)", "kind": "bucket", "buckets": 4},
            },
        },
        "tasks": {
            "clicks": {"expr": "sum(clicks)", "unit": "clicks"},
            "spend": {"expr": "sum(spend)", "unit": "dollars"},
            "gmv": {"expr": "sum(gmv)", "unit": "dollars", "table": "orders"},
            "active": {"expr": "cast(count(*) > 0 as int)", "unit": "days", "daily_max": 1},
        },
        "population": {"activity": "sum(clicks) > 0", "min_active_days": 3},
        "split": {"ratio": (6, 2, 2)},
        "dataset": {"shards": 2, "row_group_rows": 256},
    }
    return EtlConfig.model_validate(config | sections)


SCHEMAS = {
    "behavior": {
        "happened": pa.timestamp("us", tz="UTC"),
        "arrived_at": pa.timestamp("us", tz="UTC"),
        "scenario_id": pa.string(),
        "event": pa.string(),
        "amount": pa.decimal128(12, 2),
        "item": pa.string(),
    },
    "performance": {
        "day": pa.date32(),
        "landed": pa.timestamp("us", tz="UTC"),
        "scenario_id": pa.string(),
        "clicks": pa.int64(),
        "views": pa.int32(),
        "spend": pa.decimal128(12, 4),
        "quality": pa.int32(),
    },
    "orders": {
        "ordered_at": pa.timestamp("us", tz="UTC"),
        "arrived_at": pa.timestamp("us", tz="UTC"),
        "channel": pa.string(),
        "gmv": pa.decimal128(10, 2),
    },
    "profile": {"day": pa.date32(), "industry": pa.string(), "tier": pa.int32(), "wallet": pa.decimal128(10, 2)},
    "scenarios": {"day": pa.date32(), "scenario_id": pa.string(), "medium": pa.string(), "traffic": pa.int64()},
}
ADVERTISER_COLUMN = {
    "behavior": "advertiser_id",
    "performance": "advertiser_id",
    "orders": "seller",
    "profile": "advertiser_id",
}


def schemas(shape: Shape) -> dict[str, pa.Schema]:
    id_type = pa.int64() if shape.bigint_ids else pa.string()
    return {
        name: pa.schema(({ADVERTISER_COLUMN[name]: id_type} if name in ADVERTISER_COLUMN else {}) | columns)
        for name, columns in SCHEMAS.items()
    }


def make_world(shape: Shape, **sections: Any) -> World:
    """Generate the raw tables of ``shape``; ``sections`` replace sections of the config."""
    generator = _Generator(shape)
    config = make_config(shape, **sections)
    known = datetime.datetime.combine(config.raw.last_day + 2 * DAY, datetime.time(6), datetime.UTC)
    return World(tables=generator.tables(), schemas=schemas(shape), config=config, as_known_at=known)


class _Generator:
    def __init__(self, shape: Shape) -> None:
        self.shape, self.random, self.zone = shape, random.Random(shape.seed), ZoneInfo(shape.timezone)
        self.ids: list[Any] = [n * 7 + 3 if shape.bigint_ids else f"adv{n:02d}" for n in range(shape.advertisers)]
        pairs = [(a, s) for a in self.ids for s in SCENARIO_STARTS]
        self.level = {pair: self.random.choice([0.0, 0.05, 0.2, 0.6, 0.9]) for pair in pairs}
        # Each advertiser is away for some days, and nobody does anything on one day (a holiday).
        self.away = {a: (self.random.randrange(shape.days), self.random.randrange(25)) for a in self.ids}
        self.holiday = FIRST_DAY + self.random.randrange(20, shape.days - 5) * DAY

    def tables(self) -> dict[str, list[Row]]:
        return {
            "behavior": self._behavior(),
            "performance": self._performance(),
            "orders": self._orders(),
            "profile": self._profile(),
            "scenarios": self._scenarios(),
        }

    def _present(self) -> list[tuple[Any, str, datetime.date]]:
        """(advertiser, scenario, day) with something going on."""
        present = []
        for (advertiser, scenario), level in self.level.items():
            start, length = self.away[advertiser]
            for number in range(max(0, SCENARIO_STARTS[scenario]), self.shape.days):
                day = FIRST_DAY + number * DAY
                idle = start <= number < start + length or day == self.holiday
                if not idle and self.random.random() < level:
                    present.append((advertiser, scenario, day))
        return present

    def _moment(self, day: datetime.date) -> datetime.datetime:
        """An instant of the local day, often its very first or last."""
        seconds = self.random.choice([0, 1, 86_399, self.random.randrange(86_400), self.random.randrange(86_400)])
        local = datetime.datetime.combine(day, datetime.time()) + datetime.timedelta(seconds=seconds)
        return local.replace(tzinfo=self.zone).astimezone(datetime.UTC)

    def _arrival(self, day: datetime.date) -> datetime.datetime:
        late = self.random.randrange(3, 90) if self.random.random() < 0.15 else 2
        return datetime.datetime.combine(day + late * DAY, datetime.time(6), datetime.UTC)

    def _money(self, low: int, high: int, digits: int) -> Decimal:
        return Decimal(self.random.randint(low, high)).scaleb(-digits)

    def _behavior(self) -> list[Row]:
        rows = []
        for advertiser, scenario, day in self._present():
            for _ in range(self.random.choice([0, 1, 1, 2, 4])):
                event = self.random.choice(["bid_change", "budget_change", "login"])
                # A budget can be cut, and sums to zero on some days; logins belong to no scenario.
                amount = self._money(-300, 300, 2) if event == "budget_change" else None
                amount = Decimal("0.00") if event == "bid_change" and self.random.random() < 0.3 else amount
                rows.append(
                    {
                        "advertiser_id": advertiser,
                        "happened": self._moment(day),
                        "arrived_at": self._arrival(day),
                        "scenario_id": None if event == "login" else scenario,
                        "event": event,
                        "amount": amount,
                        "item": self.random.choice([None, "i1", "i2", "i3", "i4"]),
                    }
                )
        return rows

    def _performance(self) -> list[Row]:
        rows = []
        for advertiser, scenario, day in self._present():
            clicks = self.random.choice([0, 0, 1, 2, 3, 10, 250])
            rows.append(
                {
                    "advertiser_id": advertiser,
                    "day": day,
                    "landed": self._arrival(day),
                    "scenario_id": scenario,
                    "clicks": clicks,
                    "views": self.random.choice([0, clicks + self.random.randrange(50)]) if clicks == 0 else clicks * 3,
                    "spend": self._money(0, 10**7, 4) if clicks else Decimal("0.0000"),
                    "quality": self.random.choice([None, None, 0, 1, 2, 5, 9]),
                }
            )
        return rows

    def _orders(self) -> list[Row]:
        return [
            {
                "seller": advertiser,
                "ordered_at": self._moment(day),
                "arrived_at": self._arrival(day),
                "channel": scenario,
                "gmv": self._money(0, 99_999, 2),
            }
            for advertiser, scenario, day in self._present()
            if self.random.random() < 0.4
        ]

    def _profile(self) -> list[Row]:
        ghost = -1 if self.shape.bigint_ids else "nobody"
        rows: list[Row] = [
            {"advertiser_id": ghost, "day": FIRST_DAY, "industry": "zoo", "tier": 9, "wallet": Decimal("1.00")}
        ]
        for number, advertiser in enumerate(self.ids):
            # Every fifth has no snapshot; others have one long before the facts, or one that comes late.
            for start in [] if number % 5 == 4 else [self.random.choice([-100, 0, 25]), 40, 55 + number % 3]:
                # An industry of its own after the last training day is out of vocabulary.
                industry = (
                    self.random.choice([None, *INDUSTRIES]) if start < 55 else self.random.choice(["new", "food"])
                )
                rows.append(
                    {
                        "advertiser_id": advertiser,
                        "day": FIRST_DAY + start * DAY,
                        "industry": industry,
                        "tier": self.random.choice([1, 2, 10]),
                        "wallet": self.random.choice([None, Decimal("0.00"), self._money(0, 10**5, 2)]),
                    }
                )
        return rows

    def _scenarios(self) -> list[Row]:
        return [
            {
                "scenario_id": scenario,
                "day": FIRST_DAY + number * DAY,
                "medium": self.random.choice([None, "web", "app", "tv"]),
                "traffic": self.random.choice([0, 10, 500, 7000, self.random.randrange(10**6)]),
            }
            for scenario, start in SCENARIO_STARTS.items()
            for number in (start, *range(max(start + 9, 5), self.shape.days, 9))
        ]
