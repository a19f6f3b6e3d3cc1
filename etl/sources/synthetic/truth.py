"""The law of a label given a state of the world: draws of the coming days, and the best forecasts they give.

Letters: N samples (advertiser, scenario, as-of day), R draws, M tasks.
"""

from dataclasses import dataclass

import numpy as np

from etl.sources.synthetic.population import Population, priced_units
from etl.sources.synthetic.simulate import Block
from etl.sources.synthetic.world import (
    RUNNING,
    World,
    ball_value,
    impressions,
    next_ball,
)

TASKS = ("pv", "clicks", "expenditure", "gmv", "active_days")
FORECASTS = ("mean", "median", "smape")
"""Of a task's draws: their mean, their median (the best forecast for NMAE), and the best forecast for SMAPE."""
SMAPE_CANDIDATES = np.linspace(0.02, 0.98, 33)
"""Quantiles of the draws among which, and zero, the best forecast for SMAPE is looked for."""


@dataclass(frozen=True)
class Samples:
    """Which pairs are asked about, as of one day: positions within a block, [N]."""

    day: int
    advertiser: np.ndarray
    scenario: np.ndarray

    def __len__(self) -> int:
        return len(self.advertiser)


@dataclass(frozen=True)
class States:
    """States of samples at the end of ``day``: R possible ones each, [N, R]; the truth has R = 1."""

    day: int
    engagement: np.ndarray
    appetite: np.ndarray
    status: np.ndarray
    level: np.ndarray
    budget: np.ndarray
    ctr: np.ndarray
    unit_rate: np.ndarray
    conversion: np.ndarray
    order_rate: np.ndarray


def true_states(block: Block, samples: Samples) -> States:
    """The states that the simulation went through."""
    population, pair = block.population, (samples.advertiser, samples.scenario)
    of_advertiser = {name: getattr(block, name)[samples.day, samples.advertiser] for name in ("engagement", "appetite")}
    of_pair = {name: getattr(block, name)[(samples.day, *pair)] for name in ("status", "level", "budget")}
    rates = {name: getattr(population, name)[pair] for name in ("ctr", "unit_rate", "conversion", "order_rate")}
    arrays = {name: values[:, None] for name, values in (of_advertiser | of_pair | rates).items()}
    return States(day=samples.day, **arrays)


def draw_labels(
    world: World,
    population: Population,
    samples: Samples,
    states: States,
    *,
    draws: int,
    horizon: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws [N, R, M] of the labels: sums over the ``horizon`` days after ``samples.day``.

    Days between ``states.day`` and ``samples.day``, which a forecast cannot see, are drawn and not counted.
    """
    p, shape = world.parameters, (len(samples), draws)
    pair = (samples.advertiser, samples.scenario)
    size = population.size[samples.advertiser]
    adoption = world.adoption(np.repeat(size[:, None], 3, 1), np.arange(3)[None])[np.arange(len(size)), :, pair[1]]
    rows, level_sd = np.arange(len(samples))[:, None], np.array(p.column("level_sd"))[samples.scenario][:, None]
    elasticity = world.categories.elasticity[population.category[samples.advertiser]]
    engagement, appetite, status, level, budget = (
        np.broadcast_to(getattr(states, name), shape)
        for name in ("engagement", "appetite", "status", "level", "budget")
    )
    seen, active = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for day in range(states.day + 1, samples.day + horizon + 1):
        chance = rng.random((7, *shape))
        engagement = world.next_engagement(engagement, chance[0])
        appetite = next_ball(appetite, p.appetite_balls, p.appetite_move, chance[1])
        adopt = np.where(world.is_live[day, samples.scenario][:, None], adoption[rows, engagement], 0.0)
        status = world.next_status(status, engagement, adopt, chance[2])
        level = next_ball(level, p.level_balls, p.level_move, chance[3])
        budget = world.next_budget(budget, chance[4])
        if day > samples.day:
            plain = population.log_median[pair] + world.day_effect[day, samples.scenario]
            log_median = (
                (plain + elasticity * world.festival[day])[:, None]
                + p.appetite_sd * ball_value(appetite, p.appetite_balls)
                + level_sd * ball_value(level, p.level_balls)
            )
            cap = population.cap[pair][rows, budget]
            shown = np.where(status == RUNNING, impressions(p, log_median, cap, chance[5], chance[6]), 0)
            seen, active = seen + shown, active + (shown > 0)
    return np.stack([seen, *_purchases(world, samples, states, seen, rng), active], axis=-1)


def _purchases(
    world: World, samples: Samples, states: States, seen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clicks, spend and gmv of a week's impressions: given the latent rates, days add up to a week's law."""
    p = world.parameters
    clicks = rng.binomial(seen, states.ctr)
    units = priced_units(world, samples.scenario[:, None], seen, clicks)
    spend = rng.gamma(units * p.price_spread) / states.unit_rate
    orders = rng.poisson(clicks * states.conversion)
    gmv = rng.gamma(orders * p.order_spread) / states.order_rate
    return clicks, np.round(spend) / 100, np.round(gmv) / 100


def best_forecasts(labels: np.ndarray) -> np.ndarray:
    """Forecasts [N, M, 3] in the order of ``FORECASTS`` from draws [N, R, M].

    Example:
        >>> best_forecasts(np.array([0.0, 0.0, 0.0, 8.0]).reshape(1, 4, 1)).ravel().tolist()
        [2.0, 0.0, 0.0]
    """
    candidates = np.quantile(labels, SMAPE_CANDIDATES, axis=1, method="nearest")
    best, least = np.zeros_like(candidates[0]), 2.0 * (labels > 0).mean(axis=1)
    for candidate in candidates:
        loss = expected_smape(labels, candidate)
        best, least = np.where(loss < least, candidate, best), np.minimum(loss, least)
    return np.stack([labels.mean(axis=1), np.median(labels, axis=1), best], axis=-1)


def expected_smape(labels: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    """Mean SMAPE [N, M] of one forecast [N, M] over draws [N, R, M]; 0/0 is 0."""
    total = labels + forecast[:, None]
    terms = np.divide(2.0 * np.abs(labels - forecast[:, None]), total, out=np.zeros_like(total), where=total > 0)
    mean: np.ndarray = terms.mean(axis=1)
    return mean
