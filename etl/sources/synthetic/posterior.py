"""Draws of the latent states given what was seen: from the particle filter, and the rates' conjugate laws.

Letters: N samples, Q filters, R draws.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from etl.sources.synthetic.particle_filter import FilterSize, ParticleFilter
from etl.sources.synthetic.population import Population, priced_units, priors
from etl.sources.synthetic.simulate import Block
from etl.sources.synthetic.truth import Samples, States
from etl.sources.synthetic.world import NEVER, World


def posterior_states(
    world: World,
    block: Block,
    samples: Mapping[int, Samples],
    *,
    size: FilterSize,
    draws: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Samples, States]]:
    """Draws of the states of samples given all that was seen by each day of ``samples`` (its keys).

    The draws of filter q are those at ``[:, q * draws / filters : (q + 1) * draws / filters]``.
    """
    chosen = np.unique(np.concatenate([of_day.advertiser for of_day in samples.values()]))
    filter_ = ParticleFilter(world, _of_advertisers(block, chosen), size, rng)
    for day in range(max(samples) + 1):
        filter_.advance()
        if of_day := samples.get(day):
            position = np.searchsorted(chosen, of_day.advertiser)
            yield of_day, draw_states(filter_, Samples(of_day.day, position, of_day.scenario), draws)


def _of_advertisers(block: Block, chosen: np.ndarray) -> Block:
    """The block without the other advertisers, which say nothing about the chosen ones."""
    arrays = {field.name: getattr(block, field.name) for field in dataclasses.fields(Block)}
    population = arrays.pop("population")
    static = {field.name: getattr(population, field.name) for field in dataclasses.fields(Population)}
    of_chosen = {name: values[chosen] for name, values in static.items() if name != "first_id"}
    moving = {name: values[:, chosen] for name, values in arrays.items() if name != "number"}
    return dataclasses.replace(block, population=dataclasses.replace(population, **of_chosen), **moving)


def draw_states(filter_: ParticleFilter, samples: Samples, draws: int) -> States:
    world, block, rng, size = filter_.world, filter_.block, filter_.rng, filter_.size
    p, n, each = world.parameters, len(samples), draws // size.filters
    cumulative = np.cumsum(filter_.weights(), axis=-1)[samples.advertiser]
    pick = rng.random((n, size.filters, each))
    particle = np.minimum((cumulative[..., None, :] < pick[..., None]).sum(axis=-1), size.particles - 1)
    owner, of_filter = samples.advertiser[:, None, None], np.arange(size.filters)[:, None]
    levels = p.level_balls + 1
    state = rng.binomial(p.level_balls, 0.5, particle.shape)
    status = np.full(particle.shape, NEVER)
    pair_of = np.full((len(block.population), len(p.scenarios)), -1)
    pair_of[filter_.owner, filter_.scenario] = np.where(filter_.first <= filter_.day, np.arange(len(filter_.owner)), -1)
    pair = pair_of[samples.advertiser, samples.scenario]
    known = pair >= 0
    belief = filter_.beliefs[pair[known][:, None, None], of_filter, particle[known]]
    totals = np.cumsum(belief.reshape(*belief.shape[:3], 2 * levels), axis=-1)
    chosen = (totals < rng.random(totals.shape[:3])[..., None] * totals[..., -1:]).sum(axis=-1)
    status[known], state[known] = 1 + chosen // levels, chosen % levels
    budget = np.where(
        known[:, None, None],
        block.budget[filter_.day, samples.advertiser, samples.scenario][:, None, None],
        rng.integers(0, p.budget_steps, particle.shape),
    )
    arrays = {
        "engagement": filter_.engagement[owner, of_filter, particle],
        "appetite": filter_.appetite[owner, of_filter, particle],
        "status": status,
        "level": state,
        "budget": budget,
    }
    flat = {name: values.reshape(n, draws).astype(np.int8) for name, values in arrays.items()}
    return States(day=filter_.day, **flat, **_rates(filter_, samples, draws))


def _rates(filter_: ParticleFilter, samples: Samples, draws: int) -> dict[str, np.ndarray]:
    """Draws [N, R] of the latent rates from their conjugate laws, given all days so far."""
    world, block, rng, p = filter_.world, filter_.block, filter_.rng, filter_.world.parameters
    population, pair = block.population, (samples.advertiser, samples.scenario)
    law = priors(world, population.size, population.category, population.star)
    seen, clicks, spend, orders, gmv = (
        getattr(block, name)[: filter_.day + 1, *pair].sum(axis=0)
        for name in ("impressions", "clicks", "spend", "orders", "gmv")
    )
    units = priced_units(world, samples.scenario, seen, clicks)
    shape = (draws, len(samples))

    def gamma(prior_shape: np.ndarray, prior_rate: np.ndarray, count: np.ndarray, total: np.ndarray) -> np.ndarray:
        drawn: np.ndarray = (rng.gamma(prior_shape[pair] + count, 1.0, shape) / (prior_rate[pair] + total)).T
        return drawn

    return {
        "ctr": rng.beta(law.ctr_a[pair] + clicks, law.ctr_b[pair] + seen - clicks, shape).T,
        "unit_rate": gamma(law.unit_shape, law.unit_rate, p.price_spread * units, spend),
        "conversion": gamma(law.conversion_shape, law.conversion_rate, orders, clicks),
        "order_rate": gamma(law.order_shape, law.order_rate, p.order_spread * orders, gmv),
    }
