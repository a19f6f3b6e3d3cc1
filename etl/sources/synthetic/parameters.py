"""Every number of the synthetic advertising platform, frozen and hashed: ``docs/synthetic_world.md`` explains them.

Change none of them once a model was trained on the world: results on two worlds do not compare. Logs are natural.
"""

import dataclasses
import datetime
import hashlib
import json
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One marketing scenario. "Size" is an advertiser's log size, ``size_step`` times its scale class."""

    name: str
    placement: str
    pricing: Literal["click", "impression"]
    samples: float
    """Training samples in the paper's Table 3, millions: the target of the scenario's share."""
    demand: float
    """Log of the median daily impressions wanted by the smallest advertiser."""
    size_loading: float
    """How demand follows size."""
    level_sd: float
    """Stationary standard deviation of an advertiser's own level in the scenario."""
    start_logit: float
    """Log odds that the smallest advertiser runs the scenario when it joins (or on day 0)."""
    adopt_daily: float
    """Daily chance of the smallest attentive advertiser to take the scenario up later."""
    adopt_size: float
    """How both chances follow size."""
    ctr: float
    ctr_shape: float
    """Advertisers' click-through rates are Beta(ctr_shape, .) with mean ``ctr``."""
    price: float
    """Mean price of a click, or of the impressions that bring one click on average."""
    price_shape: float
    price_size: float
    """How log price follows size."""
    conversion: float
    """Mean orders per click, before the star level's effect."""
    weekend: float
    """Log effect of Saturday and Sunday."""


@dataclass(frozen=True, kw_only=True)
class Festival:
    """A sales festival (or, with a negative lift, a holiday): log lift of demand for a category of elasticity 1."""

    first: datetime.date
    last: datetime.date
    lift: float


SCENARIOS = (
    Scenario(
        name="sponsored_search",
        placement="search",
        pricing="click",
        samples=25.28,
        demand=4.8,
        size_loading=0.9,
        level_sd=0.3,
        start_logit=1.8,
        adopt_daily=0.010,
        adopt_size=0.1,
        ctr=0.04,
        ctr_shape=40.0,
        price=1.2,
        price_shape=2.9,
        price_size=0.0,
        conversion=0.030,
        weekend=-0.15,
    ),
    Scenario(
        name="display",
        placement="banner",
        pricing="impression",
        samples=0.51,
        demand=5.0,
        size_loading=0.83,
        level_sd=1.10,
        start_logit=-4.6,
        adopt_daily=0.00005,
        adopt_size=0.5,
        ctr=0.010,
        ctr_shape=1.0,
        price=0.7,
        price_shape=12.0,
        price_size=0.0,
        conversion=0.012,
        weekend=0.10,
    ),
    Scenario(
        name="star_shop",
        placement="shop",
        pricing="click",
        samples=0.47,
        demand=4.2,
        size_loading=0.7,
        level_sd=0.80,
        start_logit=-4.5,
        adopt_daily=0.00035,
        adopt_size=0.5,
        ctr=0.05,
        ctr_shape=4.0,
        price=0.9,
        price_shape=6.0,
        price_size=0.1,
        conversion=0.040,
        weekend=0.20,
    ),
    Scenario(
        name="news_feed",
        placement="feed",
        pricing="impression",
        samples=7.29,
        demand=5.4,
        size_loading=0.9,
        level_sd=0.36,
        start_logit=-2.0,
        adopt_daily=0.0010,
        adopt_size=0.5,
        ctr=0.015,
        ctr_shape=1.6,
        price=0.8,
        price_shape=20.0,
        price_size=0.1,
        conversion=0.015,
        weekend=0.15,
    ),
    Scenario(
        name="brand_search",
        placement="search",
        pricing="click",
        samples=0.84,
        demand=3.8,
        size_loading=0.8,
        level_sd=0.60,
        start_logit=-4.4,
        adopt_daily=0.00006,
        adopt_size=0.6,
        ctr=0.10,
        ctr_shape=6.0,
        price=1.5,
        price_shape=6.0,
        price_size=0.1,
        conversion=0.060,
        weekend=-0.05,
    ),
)

FESTIVALS = (
    Festival(first=datetime.date(2019, 12, 12), last=datetime.date(2019, 12, 12), lift=0.6),
    Festival(first=datetime.date(2020, 1, 22), last=datetime.date(2020, 1, 30), lift=-0.9),
    Festival(first=datetime.date(2020, 3, 6), last=datetime.date(2020, 3, 8), lift=0.4),
    Festival(first=datetime.date(2020, 6, 1), last=datetime.date(2020, 6, 3), lift=0.4),
    Festival(first=datetime.date(2020, 6, 16), last=datetime.date(2020, 6, 18), lift=0.8),
    Festival(first=datetime.date(2020, 9, 9), last=datetime.date(2020, 9, 9), lift=0.4),
    Festival(first=datetime.date(2020, 10, 1), last=datetime.date(2020, 10, 7), lift=-0.3),
    Festival(first=datetime.date(2020, 11, 1), last=datetime.date(2020, 11, 3), lift=0.7),
    Festival(first=datetime.date(2020, 11, 10), last=datetime.date(2020, 11, 11), lift=1.1),
    Festival(first=datetime.date(2020, 12, 11), last=datetime.date(2020, 12, 12), lift=0.6),
)

Rates = tuple[float, float, float]
"""By engagement: attentive, drifting, gone."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """The whole truth about the world; sizes, seeds and calendars are not part of it."""

    mechanism: int = 1
    """Raised whenever the code of the mechanism changes its law."""
    scenarios: tuple[Scenario, ...] = SCENARIOS
    festivals: tuple[Festival, ...] = FESTIVALS
    new_scenario: str = "star_shop"
    launch_at: float = 0.55
    """When the new scenario starts, as a part of the calendar."""
    launch_ramp_days: int = 28
    launch_ramp: float = -1.2
    """Log traffic on the launch day; it grows linearly to 0."""

    scale_classes: int = 10
    scale_decay: float = 0.62
    """Advertisers of a scale class are this many times those of the class below."""
    size_step: float = 0.5
    categories: int = 160
    category_exponent: float = 1.1
    """Zipf exponent of main categories."""
    category_seed: int = 20220221
    category_demand_sd: float = 0.30
    category_price_sd: float = 0.25
    festival_elasticity: tuple[float, float] = (0.4, 1.6)
    star_levels: int = 21
    star_decay: float = 0.75
    star_every_days: int = 75
    """Days of membership that bring one more star; only the stars at the start say anything about quality."""
    star_conversion: float = 0.05
    """Gain of the conversion rate per star at the start."""
    joined_before: float = 0.65
    """Part of the advertisers that are there on day 0; the others join uniformly over the calendar."""

    engagement_start: Rates = (0.72, 0.18, 0.10)
    """On day 0; whoever joins later starts attentive."""
    engagement: tuple[Rates, Rates, Rates] = ((0.988, 0.011, 0.001), (0.040, 0.945, 0.015), (0.009, 0.003, 0.988))
    """Daily transition matrix."""
    appetite_balls: int = 4
    appetite_move: float = 0.05
    appetite_sd: float = 0.5
    """The advertiser's appetite, common to its scenarios: an Ehrenfest urn, a discrete AR(1)."""
    level_balls: int = 16
    level_move: float = 0.20
    """Its own level in a scenario: an Ehrenfest urn, with the scenario's ``level_sd``."""
    pause: Rates = (0.020, 0.080, 0.600)
    resume: Rates = (0.120, 0.040, 0.000)
    """Daily chances of a running scenario to pause, and of a paused one to go on."""
    idle: float = 0.04
    """Chance that a running scenario shows nothing on a day."""
    demand_shape: float = 4.5
    """Daily demand is log-logistic around its median with this shape, rounded down: over-dispersed, heavy-tailed."""

    budget_steps: int = 5
    budget_step: float = 0.5
    budget_middle: float = 0.8
    """Log of (impressions that the middle budget buys a day / the pair's median demand on a plain day)."""
    budget_move: float = 0.03
    """Daily chance of a budget change, half up and half down."""

    price_spread: float = 2.0
    """Shape of the price of one unit, so that n units cost Gamma(n * price_spread, .)."""
    conversion_shape: float = 3.0
    order_value: float = 60.0
    order_value_shape: float = 4.0
    order_spread: float = 1.5

    logins: Rates = (1.8, 0.5, 0.02)
    """Mean logins a day; all behavior counts are geometric."""
    bids_running: Rates = (0.50, 0.15, 0.01)
    bids_paused: Rates = (0.06, 0.03, 0.01)
    edits_running: Rates = (0.25, 0.06, 0.01)
    edits_paused: Rates = (0.10, 0.03, 0.01)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(scenario.name for scenario in self.scenarios)

    def column(self, field: str) -> list[float]:
        """One number of every scenario, in order."""
        return [getattr(scenario, field) for scenario in self.scenarios]

    @property
    def digest(self) -> str:
        """Hash of all parameters."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
