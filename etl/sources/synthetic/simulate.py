"""The day by day simulation of one block of advertisers: what happened, and the latent states behind it.

Letters: D days, A advertisers of the block, S scenarios. A block is a function of (world, seed, block number) alone.
"""

from dataclasses import dataclass

import numpy as np

from etl.sources.synthetic.population import Population, draw_population, priced_units
from etl.sources.synthetic.world import (
    ATTENTIVE,
    GONE,
    NEVER,
    RUNNING,
    World,
    ball_value,
    impressions,
    next_ball,
)

BLOCK_ADVERTISERS = 500
POPULATION, DYNAMICS, EVENTS, DIRT, TRUTH = range(5)
"""Random streams of a block."""


@dataclass(frozen=True)
class Block:
    """Everything that happened to a block of advertisers. Arrays are [D, A, S], those of advertisers [D, A]."""

    number: int
    population: Population
    engagement: np.ndarray
    appetite: np.ndarray
    status: np.ndarray
    level: np.ndarray
    budget: np.ndarray
    impressions: np.ndarray
    clicks: np.ndarray
    spend: np.ndarray
    """Cents."""
    orders: np.ndarray
    gmv: np.ndarray
    """Cents."""
    logins: np.ndarray
    bids: np.ndarray
    edits: np.ndarray


def stream(seed: int, block: int, purpose: int) -> np.random.Generator:
    """One of a block's random streams."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(block, purpose))))


def block_sizes(advertisers: int) -> list[int]:
    """Advertisers in each block; ids are counted on from block to block, from 1."""
    full, rest = divmod(advertisers, BLOCK_ADVERTISERS)
    return [BLOCK_ADVERTISERS] * full + ([rest] if rest else [])


def simulate(world: World, *, seed: int, block: int, count: int) -> Block:
    population = draw_population(
        world, stream(seed, block, POPULATION), first_id=1 + block * BLOCK_ADVERTISERS, count=count
    )
    rng = stream(seed, block, DYNAMICS)
    states = _states(world, population, rng)
    return Block(block, population, **states, **_outcomes(world, population, states, rng))


def _states(world: World, population: Population, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Latent states of every day; before an advertiser joins it is gone and runs nothing."""
    p = world.parameters
    shape = (world.days, len(population), len(p.scenarios))
    states = {name: np.zeros(shape[:2], np.int8) for name in ("engagement", "appetite")}
    states |= {name: np.zeros(shape, np.int8) for name in ("status", "level", "budget")}
    engagement, appetite = np.full(shape[1], GONE, np.int8), rng.binomial(p.appetite_balls, 0.5, shape[1])
    status, level = np.full(shape[1:], NEVER, np.int8), rng.binomial(p.level_balls, 0.5, shape[1:])
    budget = rng.integers(0, p.budget_steps, shape[1:])
    start = np.where(world.is_live[population.joined], population.start_chance, 0.0)
    for day in range(world.days):
        joins, is_here = population.joined == day, population.joined < day
        chance = rng.random((2, shape[1]))
        first = rng.choice(3, shape[1], p=p.engagement_start) if day == 0 else np.full(shape[1], ATTENTIVE)
        engagement = np.where(is_here, world.next_engagement(engagement, chance[0]), np.where(joins, first, GONE))
        appetite = next_ball(appetite, p.appetite_balls, p.appetite_move, chance[1])
        chance = rng.random((3, *shape[1:]))
        adopt = np.where(world.is_live[day], world.adoption(population.size, engagement), 0.0)
        adopt = np.where(joins[:, None], start, adopt)
        status = world.next_status(status, engagement[:, None], adopt, chance[0])
        level = next_ball(level, p.level_balls, p.level_move, chance[1])
        budget = world.next_budget(budget, chance[2])
        for name, value in zip(states, (engagement, appetite, status, level, budget), strict=True):
            states[name][day] = value
    return states


def _outcomes(
    world: World, population: Population, states: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """What the states bring about, day by day: advertising results and behavior."""
    p, shape = world.parameters, states["status"].shape
    runs = states["status"] == RUNNING
    day, advertiser, scenario = np.nonzero(runs)
    seen = np.zeros(shape, np.int64)
    seen[runs] = impressions(
        p,
        log_median(world, population, states, day, advertiser, scenario),
        population.cap[advertiser, scenario, states["budget"][runs]],
        rng.random(len(day)),
        rng.random(len(day)),
    )
    outcomes = {name: np.zeros(shape, np.int64) for name in ("clicks", "spend", "orders", "gmv")}
    shown = seen > 0
    _, advertiser, scenario = np.nonzero(shown)
    pair = (advertiser, scenario)
    draws = purchases(world, population, pair, seen[shown], rng)
    for name, values in zip(outcomes, draws, strict=True):
        outcomes[name][shown] = values
    return {"impressions": seen, **outcomes, **_behavior(world, population, states, rng)}


def log_median(
    world: World,
    population: Population,
    states: dict[str, np.ndarray],
    day: np.ndarray,
    advertiser: np.ndarray,
    scenario: np.ndarray,
) -> np.ndarray:
    """Log median demand of pairs on days."""
    p = world.parameters
    value: np.ndarray = (
        population.log_median[advertiser, scenario]
        + world.day_effect[day, scenario]
        + world.categories.elasticity[population.category[advertiser]] * world.festival[day]
        + p.appetite_sd * ball_value(states["appetite"][day, advertiser], p.appetite_balls)
        + np.array(p.column("level_sd"))[scenario]
        * ball_value(states["level"][day, advertiser, scenario], p.level_balls)
    )
    return value


def purchases(
    world: World,
    population: Population,
    pair: tuple[np.ndarray, np.ndarray],
    seen: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clicks, spend in cents, orders and gmv in cents that ``seen`` impressions of pairs bring."""
    p = world.parameters
    clicks = rng.binomial(seen, population.ctr[pair])
    units = priced_units(world, pair[1], seen, clicks)
    spend = rng.gamma(units * p.price_spread) / population.unit_rate[pair]
    orders = rng.poisson(clicks * population.conversion[pair])
    gmv = rng.gamma(orders * p.order_spread) / population.order_rate[pair]
    return clicks, np.round(spend).astype(np.int64), orders, np.round(gmv).astype(np.int64)


def _behavior(
    world: World, population: Population, states: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    p, engagement, status = world.parameters, states["engagement"], states["status"]
    is_here = np.arange(len(engagement))[:, None] >= population.joined
    counts = {"logins": (rng.geometric(1 / (1 + np.array(p.logins)[engagement])) - 1) * is_here}
    known = status != NEVER
    owner = np.broadcast_to(engagement[..., None], status.shape)[known]
    for name in ("bids", "edits"):
        running, paused = np.array(getattr(p, f"{name}_running")), np.array(getattr(p, f"{name}_paused"))
        mean = np.where(status[known] == RUNNING, running[owner], paused[owner])
        counts[name] = np.zeros(status.shape, np.int64)
        counts[name][known] = rng.geometric(1 / (1 + mean)) - 1
    return counts
