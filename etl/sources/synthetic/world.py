"""The world laid on a calendar: parameters turned into arrays, and the laws by which states move and demand comes.

Letters: S scenarios, D days of the calendar, C categories. Functions work on arrays of any common shape; chances come
in as uniform numbers, so that the simulation and the truth share every law.
"""

import datetime
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from etl.sources.synthetic.parameters import Parameters

ATTENTIVE, DRIFTING, GONE = range(3)
NEVER, RUNNING, PAUSED = range(3)
"""Status of an (advertiser, scenario) pair."""
SATURDAY = 5


@dataclass(frozen=True)
class World:
    """Parameters on the days ``first_day`` and the ``days - 1`` after it."""

    parameters: Parameters
    first_day: datetime.date
    days: int

    @cached_property
    def launch_day(self) -> int:
        """Day of the new scenario's first snapshot; nobody runs it before."""
        return int(self.days * self.parameters.launch_at)

    @cached_property
    def is_live(self) -> np.ndarray:
        """[D, S]"""
        live = np.ones((self.days, len(self.parameters.scenarios)), bool)
        live[: self.launch_day, self.parameters.names.index(self.parameters.new_scenario)] = False
        return live

    @cached_property
    def festival(self) -> np.ndarray:
        """[D]: log lift of each day for a category of elasticity 1."""
        lift = np.zeros(self.days)
        for festival in self.parameters.festivals:
            start, stop = ((day - self.first_day).days for day in (festival.first, festival.last))
            lift[max(start, 0) : max(stop + 1, 0)] += festival.lift
        return lift

    @cached_property
    def day_effect(self) -> np.ndarray:
        """[D, S]: log effect of weekday and launch ramp."""
        p = self.parameters
        weekday = (self.first_day.weekday() + np.arange(self.days)) % 7
        effect = np.where(weekday[:, None] >= SATURDAY, np.array(p.column("weekend")), 0.0)
        age = np.arange(self.days) - self.launch_day
        ramp = p.launch_ramp * np.clip(1 - age / p.launch_ramp_days, 0, 1)
        effect[:, p.names.index(p.new_scenario)] += ramp
        return effect

    @cached_property
    def categories(self) -> "Categories":
        p = self.parameters
        rng = np.random.Generator(np.random.PCG64(p.category_seed))
        weight = (1.0 + np.arange(p.categories)) ** -p.category_exponent
        return Categories(
            weight=weight / weight.sum(),
            demand=rng.normal(0.0, p.category_demand_sd, (p.categories, len(p.scenarios))),
            price=rng.normal(0.0, p.category_price_sd, p.categories),
            elasticity=rng.uniform(*p.festival_elasticity, p.categories),
        )

    @cached_property
    def engagement_cumulative(self) -> np.ndarray:
        cumulative: np.ndarray = np.cumsum(np.array(self.parameters.engagement), axis=1)
        return cumulative

    def next_engagement(self, engagement: np.ndarray, chance: np.ndarray) -> np.ndarray:
        edges = self.engagement_cumulative[engagement]
        moved: np.ndarray = ((chance > edges[..., 0]).astype(np.int8) + (chance > edges[..., 1])).astype(np.int8)
        return moved

    def next_status(
        self, status: np.ndarray, engagement: np.ndarray, adopt: np.ndarray, chance: np.ndarray
    ) -> np.ndarray:
        """Status after today's move, given today's engagement and the chance ``adopt`` of a pair that never ran."""
        pause, resume = np.array(self.parameters.pause)[engagement], np.array(self.parameters.resume)[engagement]
        to_running = np.where(status == NEVER, adopt, resume)
        moved = np.where(status == RUNNING, chance < pause, chance < to_running)
        return np.where(moved, np.where(status == RUNNING, PAUSED, RUNNING), status).astype(np.int8)

    def adoption(self, size: np.ndarray, engagement: np.ndarray) -> np.ndarray:
        """[..., S]: daily chance to take up a live scenario, of advertisers of that size; only attentive ones do."""
        p = self.parameters
        daily = np.array(p.column("adopt_daily")) * np.exp(np.array(p.column("adopt_size")) * size[..., None])
        return np.where((engagement == ATTENTIVE)[..., None], np.minimum(daily, 1.0), 0.0)

    def next_budget(self, budget: np.ndarray, chance: np.ndarray) -> np.ndarray:
        move = self.parameters.budget_move / 2
        step = (chance < move).astype(np.int8) - (chance > 1 - move).astype(np.int8)
        return np.clip(budget + step, 0, self.parameters.budget_steps - 1).astype(np.int8)


@dataclass(frozen=True)
class Categories:
    """What main categories differ in."""

    weight: np.ndarray
    demand: np.ndarray
    """[C, S]: log affinity."""
    price: np.ndarray
    elasticity: np.ndarray


def next_ball(state: np.ndarray, balls: int, move: float, chance: np.ndarray) -> np.ndarray:
    """One step of an Ehrenfest urn: its law is Binomial(balls, 1/2), its memory 1 - 2 move / balls a day."""
    up, down = move * (balls - state) / balls, move * state / balls
    return (state + (chance < up) - (chance > 1 - down)).astype(np.int8)


def ball_matrix(balls: int, move: float) -> np.ndarray:
    """[balls + 1, balls + 1]: transition matrix of :func:`next_ball`."""
    state = np.arange(balls + 1)
    up, down = move * (balls - state) / balls, move * state / balls
    return np.diag(1 - up - down) + np.diag(up[:-1], 1) + np.diag(down[1:], -1)


def ball_law(balls: int) -> np.ndarray:
    """[balls + 1]: the urn's stationary law."""
    law = np.ones(1)
    for _ in range(balls):
        law = np.convolve(law, [0.5, 0.5])
    return law


def ball_value(state: np.ndarray, balls: int) -> np.ndarray:
    """The urn's state as a number of mean 0 and variance 1."""
    value: np.ndarray = (state - balls / 2) / (np.sqrt(balls) / 2)
    return value


def impressions(
    parameters: Parameters, log_median: np.ndarray, cap: np.ndarray, idle: np.ndarray, chance: np.ndarray
) -> np.ndarray:
    """A running pair's impressions on a day: log-logistic demand, rounded down, cut where the budget runs out.

    ``idle`` and ``chance`` are uniform numbers.
    """
    noise = np.log(chance / (1 - chance)) / parameters.demand_shape
    demand = np.floor(np.exp(np.minimum(log_median + noise, 40.0)))
    return np.where(idle < parameters.idle, 0, np.minimum(demand, cap)).astype(np.int64)


def impressions_probability(
    parameters: Parameters, log_median: np.ndarray, cap: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Chance of ``seen`` impressions of a running pair: the density of :func:`impressions`."""
    shape, idle = parameters.demand_shape, parameters.idle
    with np.errstate(divide="ignore", over="ignore"):
        low = shape * (np.log(seen) - log_median)
        high = np.where(seen >= cap, np.inf, shape * (np.log(seen + 1.0) - log_median))
        # F(high) - F(low) of the logistic law, without cancellation: F(low) may be next to 0 or to 1.
        below = -np.expm1(np.where(np.isinf(low) | np.isinf(high), -np.inf, low - high))
        chance = below / ((1 + np.exp(-high)) * (1 + np.exp(low)))
    probability: np.ndarray = np.where(seen == 0, idle, 0.0) + (1 - idle) * chance
    return probability
