"""Daily scenario snapshots: what each is, its last 28 days, and the festivals that the platform has announced."""

import numpy as np
import pyarrow as pa

from etl.sources.synthetic.events import money
from etl.sources.synthetic.world import World

TRAILING_DAYS = 28
ANNOUNCED_DAYS = 7

SCHEMA = pa.schema(
    [
        ("scenario_id", pa.string()),
        ("day", pa.date32()),
        ("placement", pa.string()),
        ("pricing", pa.string()),
        ("age_days", pa.int32()),
        ("active_advertisers", pa.float64()),
        ("impressions", pa.int64()),
        ("spend", pa.decimal128(18, 2)),
        ("ctr", pa.float64()),
        ("festival_days_ahead", pa.int32()),
        ("holiday_days_ahead", pa.int32()),
    ]
)
"""``active_advertisers`` is the daily mean, ``impressions``, ``spend`` and ``ctr`` are over the trailing days, today
included; days ahead are counted within the next week. ``age_days`` counts from day 0 for scenarios older than that."""


def scenario_snapshots(world: World, sums: dict[str, list[int]]) -> pa.Table:
    """A row per day and live scenario, by day; the new scenario has none before its launch."""
    scenarios = world.parameters.scenarios
    shape = (world.days, len(scenarios))
    trailing = {
        name: _trailing(np.array(sums[name]).reshape(shape)) for name in ("active", "impressions", "clicks", "spend")
    }
    day, scenario = np.nonzero(world.is_live)
    at = (day, scenario)
    observed = np.minimum(day + 1, TRAILING_DAYS)
    started = np.where(world.is_live[0], 0, world.launch_day)
    ahead = np.stack([world.festival[np.minimum(day + i, world.days - 1)] for i in range(1, ANNOUNCED_DAYS + 1)])
    ahead *= day + np.arange(1, ANNOUNCED_DAYS + 1)[:, None] < world.days
    seen = trailing["impressions"][at]
    columns = {
        "scenario_id": _of(scenario, [s.name for s in scenarios]),
        "day": pa.array((world.first_day.toordinal() - 719_163 + day).astype(np.int32), pa.date32()),
        "placement": _of(scenario, [s.placement for s in scenarios]),
        "pricing": _of(scenario, [s.pricing for s in scenarios]),
        "age_days": (day - started[scenario]).astype(np.int32),
        "active_advertisers": trailing["active"][at] / observed,
        "impressions": seen,
        "spend": money(trailing["spend"][at]),
        "ctr": pa.array(trailing["clicks"][at] / np.maximum(seen, 1), mask=seen == 0),
        "festival_days_ahead": (ahead > 0).sum(axis=0).astype(np.int32),
        "holiday_days_ahead": (ahead < 0).sum(axis=0).astype(np.int32),
    }
    return pa.table(columns, schema=SCHEMA)


def _trailing(values: np.ndarray) -> np.ndarray:
    """Sums of the last TRAILING_DAYS days, fewer at the start."""
    totals = np.cumsum(values, axis=0)
    totals[TRAILING_DAYS:] -= totals[:-TRAILING_DAYS].copy()
    return totals


def _of(index: np.ndarray, words: list[str]) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(index))
