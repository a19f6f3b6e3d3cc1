"""Raw tables for the ETL benchmarks: daily facts of a seeded platform, and the config that reads them.

Ten daily features (four of behavior, six of performance) and two tasks. Pairs of advertiser and scenario differ in how
often they are active and how large they are, both with long tails, so that values and gaps look like a platform's.
"""

import datetime
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from etl.config import EtlConfig
from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.spec import Scope

FIRST_DAY = datetime.date(2024, 1, 1)
BEHAVIOR = ("logins", "edits", "bids", "budgets")
PERFORMANCE = ("impressions", "clicks", "carts", "orders", "cost", "gmv")
TASKS = ("clicks", "cost")
LENGTH, HORIZON = 40, 7
ADVERTISERS_PER_FILE = 2_000
INDUSTRIES = 40


class Shape(StrictConfig):
    """Size of a world. Pair (a, s) exists with probability ``participation[s]``."""

    advertisers: int
    days: int = LENGTH + HORIZON + 7 * 52
    participation: tuple[float, ...] = (0.95, 0.8)
    activity: float = 0.35
    """Mean share of days on which a pair that exists has a row."""
    stride: int = 7
    """Days between as-of days."""
    shards: int = 2
    row_group_rows: int = 2048
    scope: Scope = "own"
    """Of every feature; the contenders beside the real build know ``own`` alone."""
    events: bool = False
    """Whether ``daily`` holds events with a timestamp instead of daily facts."""
    seed: int = 0

    @property
    def scenarios(self) -> tuple[str, ...]:
        return tuple(f"s{index}" for index in range(len(self.participation)))


def make_config(shape: Shape) -> EtlConfig:
    """The run's config: as-of days every ``stride`` days, about 8 : 1 : 1 of them for the splits."""
    first, last = LENGTH - 1, shape.days - HORIZON - 1
    steps = max(HORIZON, shape.stride)
    count = (last - first) // steps
    cuts = [last - steps * (count // 5), last - steps * (count // 10)]
    ends = {"train": cuts[0], "validation": cuts[1], "test": last}
    starts = {"train": first, "validation": cuts[0] + steps, "test": cuts[1] + steps}
    split = {name: (_date(starts[name]), _date(ends[name])) for name in ends}
    strides = {f"{name}_stride": shape.stride for name in ends}
    features = {
        name: {"expr": f"sum({name})", "table": "daily", "scope": shape.scope} for name in (*BEHAVIOR, *PERFORMANCE)
    }
    return EtlConfig.model_validate(
        {
            "raw": {
                "first_day": FIRST_DAY,
                "last_day": _date(shape.days - 1),
                "facts": {"daily": {"kind": "events" if shape.events else "daily"}},
            },
            "sequence": {"length": LENGTH, "horizon": HORIZON},
            "features": {
                "behavior": {name: features[name] for name in BEHAVIOR},
                "performance": {name: features[name] for name in PERFORMANCE},
                "profile": {"industry": {"expr": "industry"}},
                "scenario": {"kind": {"expr": "kind"}},
            },
            "tasks": {name: {"expr": f"sum({name})", "unit": "units", "table": "daily"} for name in TASKS},
            "population": {"table": "daily", "min_active_days": 1, "train": "own", "evaluate": "own"},
            "split": split | strides,
            "dataset": {"shards": shape.shards, "row_group_rows": shape.row_group_rows, "compression": "zstd"},
        }
    )


def write_world(shape: Shape, folder: Path) -> int:
    """Write the raw tables ``daily``, ``profile`` and ``scenarios`` below ``folder``; returns the rows of ``daily``."""
    for name in ("daily", "profile", "scenarios"):
        (folder / name).mkdir(parents=True)
    rows = 0
    for number, table in enumerate(_daily(shape)):
        pq.write_table(table, folder / "daily" / f"part-{number:05d}.parquet", compression="zstd")
        rows += table.num_rows
    ids = np.arange(shape.advertisers)
    industries = np.random.default_rng((shape.seed, 1)).integers(INDUSTRIES, size=shape.advertisers)
    profile = {"advertiser_id": ids, "day": _days(np.zeros(len(ids), np.int64))}
    profile["industry"] = pa.array([f"industry{n:02d}" for n in range(INDUSTRIES)]).take(pa.array(industries))
    pq.write_table(pa.table(profile), folder / "profile" / "part-0.parquet")
    scenarios = {"scenario_id": shape.scenarios, "day": [FIRST_DAY] * len(shape.scenarios), "kind": shape.scenarios}
    pq.write_table(pa.table(scenarios), folder / "scenarios" / "part-0.parquet")
    return rows


def _daily(shape: Shape) -> Iterator[pa.Table]:
    for number, first in enumerate(range(0, shape.advertisers, ADVERTISERS_PER_FILE)):
        random = np.random.default_rng((shape.seed, 0, number))
        count = min(ADVERTISERS_PER_FILE, shape.advertisers - first)
        exists = random.random((count, len(shape.participation))) < shape.participation
        activity = random.beta(shape.activity, 1 - shape.activity, exists.shape) * exists
        advertiser, scenario, day = np.nonzero(random.random((*exists.shape, shape.days)) < activity[..., None])
        size = random.lognormal(3.0, 1.5, exists.shape)[advertiser, scenario]
        # The platform hands over a day at a time, so rows of an advertiser lie scattered.
        order = np.argsort(day, kind="stable")
        yield _rows(advertiser[order] + first, scenario[order], day[order], size[order], shape, random)


def _rows(
    advertiser: np.ndarray,
    scenario: np.ndarray,
    day: np.ndarray,
    size: np.ndarray,
    shape: Shape,
    random: np.random.Generator,
) -> pa.Table:
    impressions = random.poisson(size * 20)
    clicks = random.binomial(impressions, 0.05)
    orders = random.binomial(clicks, 0.1)
    actions = {
        name: random.poisson(rate, len(day)).astype(np.int32)
        for name, rate in zip(BEHAVIOR, (2, 0.5, 1, 0.1), strict=True)
    }
    return pa.table(
        {
            "advertiser_id": advertiser,
            "scenario_id": pa.array(shape.scenarios).take(pa.array(scenario)),
            "day": _days(day),
            **actions,
            "impressions": impressions,
            "clicks": clicks,
            "carts": random.binomial(clicks, 0.2),
            "orders": orders,
            "cost": clicks * random.integers(20, 200, len(day)),
            "gmv": orders * random.integers(500, 20_000, len(day)),
        }
    )


def _days(numbers: np.ndarray) -> pa.Array:
    epoch = (FIRST_DAY - datetime.date(1970, 1, 1)).days
    return pa.array((numbers + epoch).astype(np.int32)).cast(pa.date32())


def _date(day: int) -> datetime.date:
    return FIRST_DAY + datetime.timedelta(days=day)
