"""The synthetic world's laws once more, one pair and one day at a time, from docs/synthetic_world.md alone."""

import datetime
import math
import random
from dataclasses import dataclass

from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.simulate import Block
from etl.sources.synthetic.world import World

FIRST_DAY = datetime.date(2020, 9, 1)


def small_world(days: int = 100, **changes: object) -> World:
    """The frozen world, with ``changes``, on a short calendar."""
    return World(Parameters(**changes), FIRST_DAY, days)  # type: ignore[arg-type]


@dataclass
class Pair:
    """One pair's states and constants."""

    world: World
    block: Block
    day: int
    advertiser: int
    scenario: int

    def draw(self, rng: random.Random, horizon: int) -> tuple[float, ...]:
        """Labels of the ``horizon`` days after ``day``: pv, clicks, expenditure, gmv, active days."""
        block, p = self.block, self.world.parameters
        at = (self.day, self.advertiser, self.scenario)
        engagement, appetite = (int(getattr(block, n)[at[:2]]) for n in ("engagement", "appetite"))
        status, level, budget = (int(getattr(block, n)[at]) for n in ("status", "level", "budget"))
        totals = [0.0] * 5
        for day in range(self.day + 1, self.day + horizon + 1):
            engagement = rng.choices(range(3), p.engagement[engagement])[0]
            appetite = self._ball(rng, appetite, p.appetite_balls, p.appetite_move)
            status = self._status(rng, status, engagement, day)
            level = self._ball(rng, level, p.level_balls, p.level_move)
            if rng.random() < p.budget_move:
                budget = min(max(budget + rng.choice((-1, 1)), 0), p.budget_steps - 1)
            if status == 1 and rng.random() >= p.idle:
                seen = min(self._demand(rng, day, appetite, level), int(self._of_pair("cap")[budget]))
                totals = [total + value for total, value in zip(totals, self._results(rng, seen), strict=True)]
        return tuple(totals)

    def _of_pair(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self.block.population, name)[self.advertiser, self.scenario]

    @staticmethod
    def _ball(rng: random.Random, state: int, balls: int, move: float) -> int:
        if rng.random() >= move:
            return state
        return state + (1 if rng.random() < (balls - state) / balls else -1)

    def _status(self, rng: random.Random, status: int, engagement: int, day: int) -> int:
        p, population = self.world.parameters, self.block.population
        scenario = p.scenarios[self.scenario]
        if status == 1:
            return 2 if rng.random() < p.pause[engagement] else 1
        if status == 2:
            return 1 if rng.random() < p.resume[engagement] else 2
        is_open = scenario.name != p.new_scenario or day >= self.world.launch_day
        size = p.size_step * int(population.scale[self.advertiser])
        chance = scenario.adopt_daily * math.exp(scenario.adopt_size * size)
        return 1 if is_open and engagement == 0 and rng.random() < chance else 0

    def _demand(self, rng: random.Random, day: int, appetite: int, level: int) -> int:
        p, population = self.world.parameters, self.block.population
        scenario, category = p.scenarios[self.scenario], int(population.category[self.advertiser])
        date = FIRST_DAY + datetime.timedelta(days=day)
        log_median = scenario.demand + scenario.size_loading * p.size_step * int(population.scale[self.advertiser])
        log_median += float(self.world.categories.demand[category, self.scenario])
        log_median += scenario.weekend if date.weekday() >= 5 else 0.0
        if scenario.name == p.new_scenario:
            log_median += p.launch_ramp * max(0.0, 1 - (day - self.world.launch_day) / p.launch_ramp_days)
        for festival in p.festivals:
            if festival.first <= date <= festival.last:
                log_median += float(self.world.categories.elasticity[category]) * festival.lift
        log_median += p.appetite_sd * (appetite - p.appetite_balls / 2) / (math.sqrt(p.appetite_balls) / 2)
        log_median += scenario.level_sd * (level - p.level_balls / 2) / (math.sqrt(p.level_balls) / 2)
        chance = rng.random()
        return math.floor(math.exp(log_median) * (chance / (1 - chance)) ** (1 / p.demand_shape))

    def _results(self, rng: random.Random, seen: int) -> tuple[float, ...]:
        p = self.world.parameters
        scenario = p.scenarios[self.scenario]
        clicks = sum(rng.random() < self._of_pair("ctr") for _ in range(seen))
        units = seen * scenario.ctr if scenario.pricing == "impression" else clicks
        spend = rng.gammavariate(units * p.price_spread, 1 / self._of_pair("unit_rate")) if units else 0.0
        orders = sum(_poisson(rng, float(self._of_pair("conversion"))) for _ in range(clicks))
        gmv = rng.gammavariate(orders * p.order_spread, 1 / self._of_pair("order_rate")) if orders else 0.0
        return seen, clicks, spend / 100, gmv / 100, float(seen > 0)


def _poisson(rng: random.Random, mean: float) -> int:
    count, product = 0, rng.random()
    while product > math.exp(-mean):
        count, product = count + 1, product * rng.random()
    return count


def smape_terms(forecast: float, labels: list[float]) -> list[float]:
    return [0.0 if y == forecast == 0 else 2 * abs(forecast - y) / (forecast + y) for y in labels]
