"""A small platform as raw tables, with the irregularities that matter, and the config that reads it."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from etl.config import EtlConfig

FIRST = datetime.date(2020, 2, 20)  # leap day inside
DAYS = 90
LAST = FIRST + datetime.timedelta(days=DAYS - 1)
SCENARIOS = ("feed", "live", "search")  # "live" appears late
LATE_START = 30
ADVERTISERS = 12


def day(number: int) -> datetime.date:
    return FIRST + datetime.timedelta(days=number)


def make_tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(seed)
    spend, edits = [], []
    for advertiser in range(ADVERTISERS):
        for scenario in SCENARIOS:
            rate = random.choice([0.02, 0.2, 0.7])
            for number in range(LATE_START if scenario == "live" else 0, DAYS):
                if random.random() < rate:
                    clicks = int(random.poisson(3))
                    cents = int(random.lognormal(4, 2))
                    row = (f"a{advertiser}", scenario, day(number), clicks, Decimal(cents) / 100)
                    spend.append(row)
                if random.random() < 0.1:
                    # A login belongs to no scenario; local evening is the next day in UTC.
                    local = pd.Timestamp(day(number)) + pd.Timedelta(hours=int(random.integers(0, 24)), minutes=30)
                    time = local.tz_localize("America/New_York", nonexistent="shift_forward").tz_convert("UTC")
                    where = None if random.random() < 0.3 else scenario
                    edits.append((f"a{advertiser}", where, time, str(random.choice(["bid", "login"]))))
    profile = [
        (f"a{advertiser}", day(int(number)), str(random.choice(["x", "y", "z"])), float(random.integers(0, 50)))
        for advertiser in range(ADVERTISERS - 2)
        for number in random.choice(DAYS, 3, replace=False)
    ]
    scenarios = [
        (scenario, day(number), float(random.random()))
        for scenario in SCENARIOS
        for number in range(LATE_START if scenario == "live" else 0, DAYS, 10)
    ]
    return {
        "performance": pd.DataFrame(spend, columns=["advertiser_id", "scenario_id", "day", "clicks", "spend"]),
        "behavior": pd.DataFrame(edits, columns=["advertiser_id", "scenario_id", "time", "event"]),
        "profile": pd.DataFrame(profile, columns=["advertiser_id", "day", "category", "size"]),
        "scenarios": pd.DataFrame(scenarios, columns=["scenario_id", "day", "share"]),
    }


TYPES = {
    **dict.fromkeys(("advertiser_id", "scenario_id"), pa.string()),
    "clicks": pa.int64(),
    "spend": pa.decimal128(18, 2),
    "day": pa.date32(),
    "time": pa.timestamp("us", tz="UTC"),
}


def write_tables(tables: dict[str, pd.DataFrame], raw: Path) -> None:
    for name, frame in tables.items():
        table = pa.Table.from_pandas(frame, preserve_index=False)
        schema = pa.schema([pa.field(f.name, TYPES.get(f.name, f.type)) for f in table.schema])
        (raw / name).mkdir(parents=True, exist_ok=True)
        pq.write_table(table.cast(schema), raw / name / "part.parquet")


def make_config(*, lag: int = 0, horizon: int = 7, **sections: Any) -> EtlConfig:
    base: dict[str, Any] = {
        "raw": {
            "timezone": "America/New_York",
            "first_day": FIRST,
            "last_day": LAST,
            "facts": {"performance": {}, "behavior": {"kind": "events", "time": "time"}},
        },
        "sequence": {"length": 10, "horizon": horizon, "availability_lag_days": lag, "history_weeks": 2},
        "features": {
            "behavior": {
                "bids": {"expr": "count_if(event = 'bid')"},
                "logins": {"expr": "count_if(event = 'login')", "scope": "advertiser"},
            },
            "performance": {
                "clicks": {"expr": "sum(clicks)", "scope": "each_scenario", "buckets": 4},
                "spend": {"expr": "sum(spend)", "dense": True},
            },
            "profile": {"category": {"expr": "category"}, "size": {"expr": "size", "kind": "bucket", "buckets": 3}},
            "scenario": {
                "share": {"expr": "share", "kind": "bucket", "buckets": 4},
                "weekday": {"expr": "weekday(as_of)"},
            },
        },
        "tasks": {
            "clicks": {"expr": "sum(clicks)", "unit": "clicks"},
            "spend": {"expr": "sum(spend)", "unit": "dollars"},
            "active": {"expr": "cast(count(*) > 0 as int)", "unit": "days", "daily_max": 1},
        },
        "population": {"min_active_days": 2},
        "split": {"ratio": (6, 2, 2)},
        "dataset": {"shards": 2, "row_group_rows": 64},
    }
    return EtlConfig.model_validate(base | sections)
