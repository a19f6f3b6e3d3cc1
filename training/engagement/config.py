"""The lists that a day's predictions become: who gets a rewarded task or a message, under what rules."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig

ListName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""A list's name is a folder's, too."""


class RewardConfig(StrictConfig):
    """The personal task: the least value of ``task`` that the advertiser reaches unaided with at most this chance."""

    task: str
    probability: float = Field(default=0.3, gt=0, lt=1)
    """Reachable, and still a stretch. It must lie within the quantiles that predictions carry."""
    step: float = Field(default=1.0, gt=0)
    """Targets are multiples of it, in the task's unit."""


class ListConfig(StrictConfig):
    """One list: who is in question, in what order, how many, and what stands in the way."""

    audience: Literal["active", "inactive"] = "active"
    """Pairs that are eligible in the scenario now (fading is prevented), or that are not (growth is invited)."""
    task: str = "active_days"
    """Whose mean forecast selects and orders."""
    order: Literal["lowest", "highest"] = "lowest"
    at_least: float = 0.0
    at_most: float = Field(default=float(2**53), ge=0)
    """Bounds on the forecast, in the task's unit per horizon."""
    budget: int = Field(default=1000, ge=0)
    """Pairs per scenario and day."""
    budgets: dict[str, int] = {}
    """Of scenarios that have another budget."""
    reward: RewardConfig | None = None
    minimum_scale: dict[str, float] = {}
    """Task -> least sum over the T days and all scenarios of the advertiser."""
    cool_down_days: int = Field(default=0, ge=0)
    """A pair that was on the list this many days before, or fewer, is passed over."""
    exclude: tuple[str, ...] = ()
    """Advertiser ids that are never on the list."""
    exclude_file: Path | None = None
    """A text file of more of them, one a line."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least} must not lie above at_most {self.at_most}")
        return self

    def budget_of(self, scenario: str) -> int:
        return self.budgets.get(scenario, self.budget)


class EngagementConfig(StrictConfig):
    lists: dict[ListName, ListConfig] = {"rewarded": ListConfig(at_most=1.0)}
