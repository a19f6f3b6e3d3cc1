"""The scenarios and festivals of the synthetic world, part of its frozen parameters. Logs are natural."""

import datetime
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
        start_logit=-4.9,
        adopt_daily=0.00005,
        adopt_size=0.5,
        ctr=0.010,
        ctr_shape=1.25,
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
        start_logit=-2.15,
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
        start_logit=-4.5,
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
