"""Hypothesis strategy of whole worlds: calendars with odd days, advertisers with odd histories, odd ids and values."""

import datetime
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from etl.config import EtlConfig
from tests.etl.raw_world import DAY, Row, Shape, World, make_config, schemas

ODD_DAYS = (
    ("America/New_York", datetime.date(2017, 3, 12)),  # 23 hours
    ("America/New_York", datetime.date(2017, 11, 5)),  # 25 hours
    ("America/Sao_Paulo", datetime.date(2017, 10, 15)),  # begins at one o'clock
    ("America/Sao_Paulo", datetime.date(2018, 2, 17)),  # its last hour comes twice
    ("Pacific/Apia", datetime.date(2011, 12, 30)),  # did not take place
    ("Australia/Lord_Howe", datetime.date(2017, 4, 2)),  # half an hour longer
    ("Asia/Kolkata", datetime.date(2016, 2, 29)),
    ("Asia/Shanghai", datetime.date(2000, 2, 29)),
    ("UTC", datetime.date(2016, 12, 31)),
)
WORDS = ("a", "A", "b c", "", "é", "日本", "𝔘nicode", "0", "x" * 300, "quote'\"", "back\\slash", "a@b")
NUMBERS = (0, 1, -1, 7, 2**31, 2**63 - 1, -(2**63), 12, 13, 14, 15, 16)
SCENARIOS = ("feed", "søk", "直播", "live@home")
SECONDS = (0, 1, 3599, 3600, 7199, 43_200, 82_800, 86_399)
CLICKS = (0, 1, 2, 3, 250, 10**12, None)
SPEND = (None, Decimal("0.0000"), Decimal("0.0001"), Decimal("12.5000"), Decimal("99999999.9999"))
AMOUNTS = (None, Decimal("0.00"), Decimal("-3.00"), Decimal("0.01"), Decimal("9999999999.99"))
WALLETS = (None, Decimal("0.00"), Decimal("12.50"), Decimal("-1.00"))
GMV = (None, Decimal("0.00"), Decimal("0.01"), Decimal("99999999.99"))
EVENTS = ("bid_change", "budget_change", "login", None)
ITEMS = (None, "i1", "i2", "日本")
LATE = datetime.timedelta(days=300)


@st.composite
def worlds(draw: st.DrawFn, *, advertisers: int) -> tuple[World, datetime.datetime | None]:
    """A world of ``advertisers`` odd advertisers and a regular one, and until when its rows are known."""
    shape, config = draw(configs())
    generator = random.Random(draw(st.integers(0, 2**64)))
    more = range(100, 100 + advertisers - len(WORDS))
    ids: list[Any] = [*NUMBERS, *more] if shape.bigint_ids else [*WORDS, *map(str, more)]
    scenarios = SCENARIOS[: draw(st.integers(2, len(SCENARIOS)))]
    tables: dict[str, list[Row]] = {name: [] for name in ("behavior", "performance", "orders")}
    days = (config.raw.last_day - config.raw.first_day).days + 1
    regular = 99 if shape.bigint_ids else "regular"
    for day in range(days):
        _add_fact(tables, config, (regular, day, "feed"), Fact(choice=1, second=3, times=1, late=False))
    for advertiser in ids:
        only_day = generator.randrange(days) if generator.random() < 0.3 else None
        for _ in range(generator.randrange(1, 16)):
            day = generator.randrange(days) if only_day is None else only_day
            key = (advertiser, day, generator.choice([None, *scenarios, *scenarios]))
            _add_fact(tables, config, key, _fact(generator))
    # Daily facts have one row per key; the last one drawn is as good as any.
    by_key = {(row["advertiser_id"], row["scenario_id"], row["day"]): row for row in tables["performance"]}
    tables["performance"] = list(by_key.values())
    values = {"industry": ITEMS, "tier": (1, 10, None), "wallet": WALLETS}
    tables["profile"] = _snapshots(generator, config, "advertiser_id", ids, values)
    values = {"medium": ("web", None, "日本"), "traffic": (None, 0, -5, 2**40)}
    tables["scenarios"] = [
        {"scenario_id": "feed", "day": config.raw.first_day - DAY, "medium": "web", "traffic": 10},
        *_snapshots(generator, config, "scenario_id", scenarios, values),
    ]
    known = {row["scenario_id"] for row in tables["scenarios"]}
    for name, column in (("behavior", "scenario_id"), ("performance", "scenario_id"), ("orders", "channel")):
        tables[name] = [row for row in tables[name] if row[column] is None or row[column] in known]
    noon = datetime.datetime.combine(config.raw.last_day + DAY, datetime.time(12), datetime.UTC)
    return World(tables=tables, schemas=schemas(shape), config=config), draw(st.sampled_from([None, noon]))


@st.composite
def configs(draw: st.DrawFn) -> tuple[Shape, EtlConfig]:
    zone, odd_day = draw(st.sampled_from(ODD_DAYS))
    shape = Shape(
        length=draw(st.integers(1, 14)),
        horizon=draw(st.integers(1, 3)),
        lag=draw(st.integers(0, 2)),
        history_weeks=draw(st.integers(1, 2)),
        bigint_ids=draw(st.booleans()),
        timezone=zone,
    )
    days = 40 + shape.lag + shape.length - 1 + shape.horizon
    first = odd_day - draw(st.integers(0, days - 1)) * DAY
    raw = make_config(shape).model_dump()["raw"] | {"first_day": first, "last_day": first + (days - 1) * DAY}
    strides = {f"{name}_stride": draw(st.integers(1, 2)) for name in ("train", "validation", "test")}
    populations = st.sampled_from(["own", "live"])
    population = {
        "activity": draw(st.sampled_from(["count(*) > 0", "sum(clicks) > 0"])),
        "min_active_days": draw(st.integers(1, min(2, shape.length))),
        "train": draw(populations),
        "evaluate": draw(populations),
    }
    split: dict[str, Any] = {"ratio": (2, 1, 1)} | strides
    return shape, make_config(shape, raw=raw, split=split, population=population)


@dataclass(frozen=True, kw_only=True)
class Fact:
    choice: int
    """Picks the tables and the values."""
    second: int
    """Of the local day."""
    times: int
    """How many equal events."""
    late: bool


def _fact(generator: random.Random) -> Fact:
    return Fact(
        choice=generator.randrange(10**6),
        second=generator.choice(SECONDS),
        times=generator.choice([1, 1, 3]),
        late=generator.random() < 0.2,
    )


def _add_fact(tables: dict[str, list[Row]], config: EtlConfig, key: tuple[Any, int, str | None], fact: Fact) -> None:
    advertiser, number, scenario = key
    day, zone, choice = config.raw.first_day + number * DAY, ZoneInfo(config.raw.timezone), fact.choice
    # Seconds of absolute time, so that days of 23 and 25 hours are reached to their last second.
    start = datetime.datetime.combine(day, datetime.time(), zone).astimezone(datetime.UTC)
    moment = start + datetime.timedelta(seconds=fact.second)
    arrived = moment + (LATE if fact.late else datetime.timedelta())
    if choice % 3 != 2:
        values = {"clicks": CLICKS[choice % len(CLICKS)], "views": (0, 3, None)[choice % 3], "spend": SPEND[choice % 5]}
        keys = {"advertiser_id": advertiser, "scenario_id": scenario, "day": day, "landed": arrived}
        tables["performance"].append(keys | values | {"quality": (None, 0, 9, -4)[choice % 4]})
    inside = config.raw.first_day <= moment.astimezone(zone).date() <= config.raw.last_day
    if inside and choice % 2:
        event = {"event": EVENTS[choice % 4], "amount": AMOUNTS[choice % 5], "item": ITEMS[choice // 5 % 4]}
        seen = {"advertiser_id": advertiser, "scenario_id": scenario, "happened": moment, "arrived_at": arrived}
        order = {"seller": advertiser, "channel": scenario, "ordered_at": moment, "arrived_at": arrived}
        tables["behavior"] += [seen | event] * fact.times
        tables["orders"] += [order | {"gmv": GMV[choice % 4]}] * fact.times


def _snapshots(
    generator: random.Random, config: EtlConfig, key: str, names: Sequence[Any], values: Mapping[str, Sequence[Any]]
) -> list[Row]:
    """Up to three snapshots of each name, one a day, from the calendar's first day on."""
    days = (config.raw.last_day - config.raw.first_day).days
    rows = []
    for name in names:
        for offset in generator.sample(range(days), generator.randrange(4)):
            drawn = {column: generator.choice(choices) for column, choices in values.items()}
            rows.append({key: name, "day": config.raw.first_day + offset * DAY} | drawn)
    return rows
