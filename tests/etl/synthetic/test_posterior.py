"""The particle filter against the exact filter over the whole joint state space of a tiny world."""

import dataclasses
import datetime
import itertools
import math

import numpy as np
import pytest

from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.particle_filter import FilterSize, ParticleFilter
from etl.sources.synthetic.posterior import draw_states
from etl.sources.synthetic.scenarios import SCENARIOS
from etl.sources.synthetic.simulate import Block, simulate
from etl.sources.synthetic.truth import Samples
from etl.sources.synthetic.world import NEVER, World, ball_law, ball_matrix

DAYS, LEVELS = 45, 3
STATUS = ("never", "running", "paused")


def _tiny_world() -> World:
    parameters = Parameters(
        scenarios=(SCENARIOS[0], dataclasses.replace(SCENARIOS[2], adopt_daily=0.01)),
        launch_at=0.2,
        appetite_balls=1,
        level_balls=LEVELS - 1,
        level_move=0.3,
        appetite_move=0.2,
        joined_before=0.8,
    )
    return World(parameters, datetime.date(2020, 9, 1), DAYS)


def _exact(world: World, block: Block, advertiser: int) -> np.ndarray:
    """Chances [E, G, status, L, status, L] after the last day, by summing over every joint state."""
    p = world.parameters
    joined = int(block.population.joined[advertiser])
    appetite, level = ball_matrix(1, p.appetite_move), ball_matrix(LEVELS - 1, p.level_move)
    belief = np.zeros((3, 2, 3, LEVELS, 3, LEVELS))
    start = p.engagement_start if joined == 0 else (1.0, 0.0, 0.0)
    for e, g, k1, k2 in itertools.product(range(3), range(2), range(LEVELS), range(LEVELS)):
        chance = start[e] * ball_law(1)[g] * ball_law(LEVELS - 1)[k1] * ball_law(LEVELS - 1)[k2]
        first, second = (int(block.status[joined, advertiser, s] != NEVER) for s in (0, 1))
        belief[e, g, first, k1, second, k2] = chance
    belief *= _likelihood(world, block, advertiser, joined)
    for day in range(joined + 1, DAYS):
        belief = np.einsum("egakbl,eE->Egakbl", belief, np.array(p.engagement))
        belief = np.einsum("egakbl,gG->eGakbl", belief, appetite)
        belief = np.einsum("egakbl,kK->egaKbl", belief, level)
        belief = np.einsum("egakbl,lL->egakbL", belief, level)
        moves = [[_moves(world, block, advertiser, s, e, day) for e in range(3)] for s in (0, 1)]
        belief = np.einsum("egakbl,eaA->egAkbl", belief, np.array(moves[0]))
        belief = np.einsum("egakbl,ebB->egakBl", belief, np.array(moves[1]))
        belief = belief * _likelihood(world, block, advertiser, day)
        belief /= belief.sum()
    return belief


def _moves(world: World, block: Block, advertiser: int, scenario: int, engagement: int, day: int) -> list[list[float]]:
    p = world.parameters
    size = p.size_step * int(block.population.scale[advertiser])
    one = p.scenarios[scenario]
    adopt = one.adopt_daily * math.exp(one.adopt_size * size) if engagement == 0 and world.is_live[day, scenario] else 0
    pause, resume = p.pause[engagement], p.resume[engagement]
    return [[1 - adopt, adopt, 0], [0, 1 - pause, pause], [0, resume, 1 - resume]]


def _likelihood(world: World, block: Block, advertiser: int, day: int) -> np.ndarray:
    p = world.parameters
    chance = np.ones((3, 2, 3, LEVELS, 3, LEVELS))
    for state in itertools.product(range(3), range(2), range(3), range(LEVELS), range(3), range(LEVELS)):
        engagement, appetite, pairs = state[0], state[1], (state[2:4], state[4:6])
        value = _geometric(p.logins[engagement], int(block.logins[day, advertiser]))
        for scenario, (status, level) in enumerate(pairs):
            value *= _pair_likelihood(world, block, (day, advertiser, scenario), engagement, appetite, status, level)
        chance[state] = value
    return chance


def _pair_likelihood(
    world: World, block: Block, at: tuple[int, int, int], engagement: int, appetite: int, status: int, level: int
) -> float:
    p, population = world.parameters, block.population
    if (block.status[at] == NEVER) != (status == 0):
        return 0.0
    if status == 0:
        return 1.0
    value = 1.0
    for name in ("bids", "edits"):
        value *= _geometric(getattr(p, f"{name}_{STATUS[status]}")[engagement], int(getattr(block, name)[at]))
    seen = int(block.impressions[at])
    if status == 2:
        return value * (seen == 0)
    day, advertiser, scenario = at
    lift = world.categories.elasticity[population.category[advertiser]] * world.festival[day]
    median = math.exp(
        population.log_median[advertiser, scenario]
        + world.day_effect[day, scenario]
        + lift
        + p.appetite_sd * (2 * appetite - 1)
        + p.scenarios[scenario].level_sd * (level - (LEVELS - 1) / 2) / (math.sqrt(LEVELS - 1) / 2)
    )
    cap = int(population.cap[advertiser, scenario, block.budget[at]])
    demand = _below(seen + 1, median, p.demand_shape) - _below(seen, median, p.demand_shape)
    if seen == cap:
        demand = 1 - _below(seen, median, p.demand_shape)
    return value * ((1 - p.idle) * demand + p.idle * (seen == 0))


def _below(count: int, median: float, shape: float) -> float:
    return 0.0 if count == 0 else 1 / (1 + (median / count) ** shape)


def _geometric(mean: float, count: int) -> float:
    return (1 / (1 + mean)) * (mean / (1 + mean)) ** count


@pytest.fixture(scope="module")
def filtered() -> ParticleFilter:
    world = _tiny_world()
    block = simulate(world, seed=11, block=0, count=24)
    particles = ParticleFilter(world, block, FilterSize(filters=2, particles=1500), np.random.default_rng(0))
    for _ in range(DAYS):
        particles.advance()
    return particles


def test_the_particle_filter_agrees_with_the_exact_one(filtered: ParticleFilter) -> None:
    world, block = filtered.world, filtered.block
    weights = filtered.weights()
    late = block.status[-1, :, 1] != NEVER
    advertisers = [*np.flatnonzero(late)[:3], *np.flatnonzero(~late)[:2]]
    assert late.any()
    for advertiser in map(int, advertisers):
        exact = _exact(world, block, advertiser)
        weight = weights[advertiser]
        engagement = [(weight * (filtered.engagement[advertiser] == e)).sum() / 2 for e in range(3)]
        np.testing.assert_allclose(engagement, exact.sum(axis=(1, 2, 3, 4, 5)), atol=0.04)
        appetite = (weight * filtered.appetite[advertiser]).sum() / 2
        assert appetite == pytest.approx(exact.sum(axis=(0, 2, 3, 4, 5))[1], abs=0.06)
        for pair in np.flatnonzero(filtered.owner == advertiser):
            belief = np.einsum("qp,qpsl->sl", weight, filtered.beliefs[pair]) / 2
            axes = (0, 1, 4, 5) if filtered.scenario[pair] == 0 else (0, 1, 2, 3)
            np.testing.assert_allclose(belief, exact.sum(axis=axes)[1:], atol=0.05)


def test_draws_have_the_filters_law(filtered: ParticleFilter) -> None:
    world, block = filtered.world, filtered.block
    pair = int(np.flatnonzero(block.impressions[-1, :, 0] > 0)[0])
    samples = Samples(DAYS - 1, np.array([pair]), np.array([0]))
    states = draw_states(filtered, samples, 20_000)
    exact = _exact(world, block, pair).sum(axis=(0, 1, 4, 5))[1:].reshape(-1)
    drawn = np.bincount((states.status[0] - 1) * LEVELS + states.level[0], minlength=2 * LEVELS) / 20_000
    np.testing.assert_allclose(drawn, exact, atol=0.05)


def test_rates_are_learnt_from_what_was_seen(filtered: ParticleFilter) -> None:
    block = filtered.block
    seen = block.impressions[:, :, 0].sum(axis=0)
    advertiser = int(seen.argmax())
    samples = Samples(DAYS - 1, np.array([advertiser]), np.array([0]))
    states = draw_states(filtered, samples, 4000)
    truth = block.population
    for name in ("ctr", "unit_rate", "conversion", "order_rate"):
        drawn, true = getattr(states, name)[0], getattr(truth, name)[advertiser, 0]
        assert abs(drawn.mean() - true) < 5 * drawn.std(), name
