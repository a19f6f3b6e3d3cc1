"""A block's history as rows of the canonical raw tables. Rows carry counts: one is not one impression or one click.

performance (events): ``delivery`` rows, one to three per pair and day by impressions, with impressions, clicks and
spend; an ``order`` row per pair and day with orders, with orders and gmv. behavior (events): one row per kind, pair and
day, with its ``count``; logins have no scenario. profile: a snapshot when an advertiser joins and at every new star.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from etl.sources.synthetic.simulate import EVENTS, Block, stream
from etl.sources.synthetic.world import NEVER, World

TIMEZONE = "Asia/Shanghai"
UTC_OFFSET_SECONDS = 8 * 3600
"""China has had no daylight saving time since 1991."""
MORE_ROWS_FROM = (300, 3000)
"""Impressions a day from which a pair has one more delivery row."""
HOUR_WEIGHT = np.array([3, 2, 1, 1, 1, 1, 2, 3, 5, 7, 8, 7, 6, 6, 7, 7, 6, 5, 5, 7, 9, 10, 8, 5]) / 122
DAY_SECONDS = 86_400
MICROSECONDS = 1_000_000

PERFORMANCE = pa.schema(
    [
        ("advertiser_id", pa.int64()),
        ("scenario_id", pa.string()),
        ("event", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("campaign_id", pa.int32()),
        ("impressions", pa.int64()),
        ("clicks", pa.int64()),
        ("spend", pa.decimal128(18, 2)),
        ("orders", pa.int64()),
        ("gmv", pa.decimal128(18, 2)),
        ("arrived_at", pa.timestamp("us", tz="UTC")),
    ]
)
BEHAVIOR = pa.schema(
    [
        ("advertiser_id", pa.int64()),
        ("scenario_id", pa.string()),
        ("event", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
        ("count", pa.int64()),
        ("amount", pa.decimal128(18, 2)),
        ("arrived_at", pa.timestamp("us", tz="UTC")),
    ]
)
PROFILE = pa.schema(
    [
        ("advertiser_id", pa.int64()),
        ("day", pa.date32()),
        ("scale", pa.int32()),
        ("main_category", pa.string()),
        ("star_level", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Clock:
    """Draws the times of events."""

    first_day: int
    """Days since 1970-01-01."""
    late_rate: float
    rng: np.random.Generator

    def times(self, day: np.ndarray) -> tuple[pa.Array, pa.Array, int]:
        """Times on local days, when the rows landed, and how many of them landed after their day by a day or more."""
        rows = len(day)
        hour = self.rng.choice(24, rows, p=HOUR_WEIGHT)
        local = (self.first_day + day) * DAY_SECONDS + hour * 3600 + self.rng.integers(0, 3600, rows)
        time = (local - UTC_OFFSET_SECONDS) * MICROSECONDS + self.rng.integers(0, MICROSECONDS, rows)
        late = self.rng.random(rows) < self.late_rate
        delay = self.rng.integers(60, 3600, rows) + late * self.rng.integers(1, 6, rows) * DAY_SECONDS
        kind = pa.timestamp("us", tz="UTC")
        return pa.array(time, kind), pa.array(time + delay * MICROSECONDS, kind), int(late.sum())


@dataclass(frozen=True)
class RawTables:
    """Raw tables of a block, and how many rows are late."""

    performance: pa.Table
    behavior: pa.Table
    profile: pa.Table
    late: dict[str, int]


def raw_tables(world: World, block: Block, *, seed: int, late_rate: float) -> RawTables:
    rng = stream(seed, block.number, EVENTS)
    clock = Clock((world.first_day.toordinal() - 719_163), late_rate, rng)
    performance, late_performance = _performance(world, block, clock)
    behavior, late_behavior = _behavior(world, block, clock)
    late = {"performance": late_performance, "behavior": late_behavior}
    return RawTables(performance, behavior, _profile(world, block), late)


def _performance(world: World, block: Block, clock: Clock) -> tuple[pa.Table, int]:
    day, advertiser, scenario = np.nonzero(block.impressions)
    seen = block.impressions[day, advertiser, scenario]
    copies = 1 + sum((seen >= least).astype(np.int64) for least in MORE_ROWS_FROM)
    cell = np.repeat(np.arange(len(seen)), copies)
    weight = clock.rng.uniform(0.5, 1.5, len(cell))
    last = np.cumsum(copies) - 1
    weight /= np.bincount(cell, weights=weight)[cell] if len(cell) else 1.0
    delivered = {
        name: _divide(getattr(block, name)[day, advertiser, scenario], weight, cell, last)
        for name in ("impressions", "clicks", "spend")
    }
    ordered = np.flatnonzero(block.orders[day, advertiser, scenario])
    cell = np.concatenate([cell, ordered])
    is_order = np.arange(len(cell)) >= len(weight)
    none = np.zeros(len(ordered), np.int64)
    at = (day[ordered], advertiser[ordered], scenario[ordered])
    time, arrived, late = clock.times(day[cell])
    columns = {
        "advertiser_id": block.population.first_id + advertiser[cell],
        "scenario_id": _words(world.parameters.names, scenario[cell]),
        "event": _words(("delivery", "order"), is_order.astype(np.int64)),
        "time": time,
        "campaign_id": clock.rng.integers(1, 4, len(cell)).astype(np.int32),
        "impressions": np.concatenate([delivered["impressions"], none]),
        "clicks": np.concatenate([delivered["clicks"], none]),
        "spend": money(np.concatenate([delivered["spend"], none])),
        "orders": np.concatenate([np.zeros(len(weight), np.int64), block.orders[at]]),
        "gmv": money(np.concatenate([np.zeros(len(weight), np.int64), block.gmv[at]])),
        "arrived_at": arrived,
    }
    return pa.table(columns, schema=PERFORMANCE), late


def _divide(total: np.ndarray, weight: np.ndarray, cell: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Whole parts of each cell's ``total`` by weight; what rounding down leaves goes to the cell's ``last`` row."""
    parts: np.ndarray = np.floor(total[cell] * weight).astype(np.int64)
    if len(cell):
        parts[last] += total - np.add.reduceat(parts, np.append(0, last[:-1] + 1))
    return parts


def _behavior(world: World, block: Block, clock: Clock) -> tuple[pa.Table, int]:
    known = block.status != NEVER
    before = np.concatenate([np.zeros_like(known[:1]), known[:-1]])
    created = known & ~before
    moved = np.concatenate([np.zeros_like(known[:1]), block.budget[1:] != block.budget[:-1]])
    cents = np.take_along_axis(block.population.budget_cents[None], block.budget[..., None].astype(np.int64), 3)[..., 0]
    cap = np.take_along_axis(block.population.cap[None], block.budget[..., None].astype(np.int64), 3)[..., 0]
    kinds = {
        "campaign_create": (created.astype(np.int64), None),
        "budget_change": ((known & (created | moved)).astype(np.int64), cents),
        "budget_exhausted": ((block.impressions == cap).astype(np.int64), cents),
        "bid_change": (block.bids, None),
        "campaign_edit": (block.edits, None),
    }
    tables = [_behavior_rows(world, block, clock, "login", block.logins, None)]
    tables += [_behavior_rows(world, block, clock, kind, counts, amounts) for kind, (counts, amounts) in kinds.items()]
    return pa.concat_tables([table for table, _ in tables]), sum(late for _, late in tables)


def _behavior_rows(
    world: World, block: Block, clock: Clock, kind: str, counts: np.ndarray, amounts: np.ndarray | None
) -> tuple[pa.Table, int]:
    cells = np.nonzero(counts)
    rows = len(cells[0])
    has_scenario = counts.ndim == 3
    time, arrived, late = clock.times(cells[0])
    columns = {
        "advertiser_id": block.population.first_id + cells[1],
        "scenario_id": _words(world.parameters.names, cells[2]) if has_scenario else pa.nulls(rows, pa.string()),
        "event": _words((kind,), np.zeros(rows, np.int64)),
        "time": time,
        "count": counts[cells],
        "amount": pa.nulls(rows, pa.decimal128(18, 2)) if amounts is None else money(amounts[cells]),
        "arrived_at": arrived,
    }
    return pa.table(columns, schema=BEHAVIOR), late


def _profile(world: World, block: Block) -> pa.Table:
    """A snapshot on the first day, and one on every day that brings a star."""
    population, p = block.population, world.parameters
    member_days = np.arange(world.days)[:, None] - population.joined + population.tenure
    stars = np.minimum(population.star + member_days // p.star_every_days, p.star_levels - 1)
    is_here = np.arange(world.days)[:, None] >= population.joined
    is_new = np.concatenate([is_here[:1], (is_here[1:] & ~is_here[:-1]) | (is_here[1:] & (stars[1:] != stars[:-1]))])
    day, advertiser = np.nonzero(is_new)
    columns = {
        "advertiser_id": population.first_id + advertiser,
        "day": pa.array((world.first_day.toordinal() - 719_163 + day).astype(np.int32), pa.date32()),
        "scale": population.scale[advertiser].astype(np.int32),
        "main_category": _words([f"c{i:03d}" for i in range(p.categories)], population.category[advertiser]),
        "star_level": stars[day, advertiser].astype(np.int32),
    }
    return pa.table(columns, schema=PROFILE)


def money(cents: np.ndarray) -> pa.Array:
    """Cents as DECIMAL(18, 2), exactly.

    Example:
        >>> money(np.array([105, -20])).to_pylist()
        [Decimal('1.05'), Decimal('-0.20')]
    """
    words = np.stack([cents.astype(np.int64), cents.astype(np.int64) >> 63], axis=1)
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words.tobytes())])


def _words(words: tuple[str, ...] | list[str], index: np.ndarray) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(index))
