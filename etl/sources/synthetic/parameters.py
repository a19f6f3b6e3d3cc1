"""Every number of the synthetic advertising platform, frozen and hashed: ``docs/synthetic_world.md`` explains them.

Change none of them once a model was trained on the world: results on two worlds do not compare. Logs are natural.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from etl.sources.synthetic.scenarios import FESTIVALS, SCENARIOS, Festival, Scenario

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
