"""Who is there: the static part of a block of advertisers.

Letters: A advertisers of the block, S scenarios.
"""

from dataclasses import dataclass

import numpy as np

from etl.sources.synthetic.world import World


@dataclass(frozen=True)
class Population:
    """Static attributes; all but the four latent rates can be seen in profile snapshots and budget events."""

    first_id: int
    joined: np.ndarray
    """[A]: day of joining, 0 for all who were there before."""
    scale: np.ndarray
    size: np.ndarray
    """[A]: log size, ``size_step`` times the scale class."""
    category: np.ndarray
    star: np.ndarray
    """[A]: stars at the start."""
    tenure: np.ndarray
    """[A]: days since the last star at the start."""
    start_chance: np.ndarray
    """[A, S]: chance that a scenario runs from the first day."""
    log_median: np.ndarray
    """[A, S]: log median demand on a plain day at middle appetite and level."""
    cap: np.ndarray
    """[A, S, budget steps]: impressions that each budget buys a day."""
    budget_cents: np.ndarray
    """[A, S, budget steps]: the budgets."""
    ctr: np.ndarray
    """[A, S], latent: clicks per impression."""
    unit_rate: np.ndarray
    """[A, S], latent: rate of the Gamma law of a unit's price, in 1 / cents."""
    conversion: np.ndarray
    """[A, S], latent: orders per click."""
    order_rate: np.ndarray
    """[A, S], latent: rate of the Gamma law of an order's value, in 1 / cents."""

    def __len__(self) -> int:
        return len(self.joined)


@dataclass(frozen=True)
class Priors:
    """Laws [A, S] of the latent rates given what can be seen: Beta(a, b) for ctr, Gamma(shape, rate) for the others."""

    ctr_a: np.ndarray
    ctr_b: np.ndarray
    unit_shape: np.ndarray
    unit_rate: np.ndarray
    conversion_shape: np.ndarray
    conversion_rate: np.ndarray
    order_shape: np.ndarray
    order_rate: np.ndarray


def priors(world: World, size: np.ndarray, category: np.ndarray, star: np.ndarray) -> Priors:
    """Laws of the latent rates of advertisers with that log size, main category and stars at the start."""
    p = world.parameters
    one = np.ones((len(size), 1))
    ctr, ctr_shape = np.array(p.column("ctr")), np.array(p.column("ctr_shape"))
    price = np.array(p.column("price")) * np.exp(
        world.categories.price[category][:, None] + np.array(p.column("price_size")) * size[:, None]
    )
    unit_shape = np.array(p.column("price_shape"))
    conversion = np.array(p.column("conversion")) * (1 + p.star_conversion * star[:, None])
    value = 100 * p.order_value * np.exp(world.categories.price[category][:, None]) * one
    # A rate of Gamma(a, b) makes the mean price spread / rate an inverse Gamma with mean spread * b / (a - 1).
    return Priors(
        ctr_a=one * ctr_shape,
        ctr_b=one * ctr_shape * (1 - ctr) / ctr,
        unit_shape=one * unit_shape,
        unit_rate=100 * price * (unit_shape - 1) / p.price_spread,
        conversion_shape=np.full_like(conversion, p.conversion_shape),
        conversion_rate=p.conversion_shape / conversion,
        order_shape=np.full_like(conversion, p.order_value_shape),
        order_rate=value * (p.order_value_shape - 1) / p.order_spread * np.ones_like(conversion),
    )


def priced_units(world: World, scenario: np.ndarray, seen: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """What is charged for: clicks, or the impressions that bring one click on average."""
    by_impression = np.array([s.pricing == "impression" for s in world.parameters.scenarios])[scenario]
    units: np.ndarray = np.where(by_impression, seen * np.array(world.parameters.column("ctr"))[scenario], clicks)
    return units


def draw_population(world: World, rng: np.random.Generator, *, first_id: int, count: int) -> Population:
    p, scenarios = world.parameters, len(world.parameters.scenarios)
    scale_weight = p.scale_decay ** np.arange(p.scale_classes)
    scale = rng.choice(p.scale_classes, count, p=scale_weight / scale_weight.sum())
    size = p.size_step * scale
    category = rng.choice(p.categories, count, p=world.categories.weight)
    star = np.minimum(rng.geometric(1 - p.star_decay, count) - 1, p.star_levels - 1)
    later = rng.integers(1, world.days, count)
    joined = np.where(rng.random(count) < p.joined_before, 0, later)
    tenure = np.where(joined == 0, rng.integers(0, p.star_every_days, count), 0)
    start = np.array(p.column("start_logit")) + np.array(p.column("adopt_size")) * size[:, None]
    log_median = (
        np.array(p.column("demand"))
        + np.array(p.column("size_loading")) * size[:, None]
        + world.categories.demand[category]
    )
    step = p.budget_middle + p.budget_step * (np.arange(p.budget_steps) - p.budget_steps // 2)
    law = priors(world, size, category, star)
    cap, cents = budgets(world, log_median, step)
    shape = (count, scenarios)
    return Population(
        first_id=first_id,
        joined=joined,
        scale=scale,
        size=size,
        category=category,
        star=star,
        tenure=tenure,
        start_chance=1 / (1 + np.exp(-start)),
        log_median=log_median,
        cap=cap,
        budget_cents=cents,
        ctr=rng.beta(law.ctr_a, law.ctr_b, shape),
        unit_rate=rng.gamma(law.unit_shape, 1 / law.unit_rate, shape),
        conversion=rng.gamma(law.conversion_shape, 1 / law.conversion_rate, shape),
        order_rate=rng.gamma(law.order_shape, 1 / law.order_rate, shape),
    )


def budgets(world: World, log_median: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Impressions that budgets buy [A, S, steps], and the budgets in cents, at the scenario's list price."""
    p = world.parameters
    list_price = 100 * np.array(p.column("price")) * np.array(p.column("ctr"))
    cap = np.maximum(np.floor(np.exp(log_median[..., None] + step)), 1).astype(np.int64)
    return cap, np.round(cap * list_price[:, None]).astype(np.int64)
