"""The experiments that a platform runs: who is dealt to which arm, on which days, and what is compared.

docs/experiments.md says how to run one.
"""

import datetime
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.locations import Location
from training.engagement.config import ListName

MAY_CHANGE = {"last"}
"""What may change once somebody is enrolled; with anything else it would be another experiment."""


class Arm(StrictConfig):
    name: str
    share: int = Field(default=1, ge=1)
    """Its part of the sum of all shares."""


class ExperimentArm(Arm):
    name: ListName
    predictions: Location = ""
    """Of design ``arms``: folder of the days' predictions that this arm's list is selected by; default: the run's."""


class ExperimentConfig(StrictConfig):
    """One experiment. The unit is the advertiser; its outcome is over the horizon after the day that enrols it."""

    design: Literal["holdout", "arms"]
    """``holdout``: who is on the published list is dealt to incentive and holdout: what the incentive does.
    ``arms``: everybody is dealt before anything is selected, and each arm's model selects within it: which selects
    better."""
    list: ListName = "rewarded"
    """Key of ``[engagement.lists]``: whose advertisers are enrolled, or by whose rule each arm selects."""
    arms: tuple[ExperimentArm, ...] = (ExperimentArm(name="holdout"), ExperimentArm(name="incentive"))
    """The first is what the others are compared with."""
    salt: str = Field(min_length=1)
    """Of the hash that deals: another salt, another deal."""
    first: datetime.date
    last: datetime.date
    """As-of days that enrol."""
    active: str = "active_days"
    """Task that counts active days (``daily_max = 1``): its sum over the days of the horizon is the active rate."""
    spend: str
    """Task whose sum over all scenarios is what a user brings (ARPU)."""
    cap: float = Field(gt=0)
    """What an advertiser's spend counts at most, per horizon; without it a few advertisers are the mean."""

    @property
    def control(self) -> ExperimentArm:
        return self.arms[0]

    @property
    def frozen(self) -> dict[str, object]:
        """What must stay as it is once somebody is enrolled; as JSON has it."""
        return self.model_dump(mode="json", exclude=MAY_CHANGE)

    @model_validator(mode="after")
    def _arms(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(names) < 2 or len(set(names)) != len(names):
            raise ValueError(f"arms must be two or more of different names, however: {names}")
        if self.design == "arms" and "arms" not in self.model_fields_set:
            raise ValueError('design "arms" needs arms = [{ name = "a" }, { name = "b", predictions = "FOLDER" }]')
        if self.design == "holdout" and any(arm.predictions for arm in self.arms):
            raise ValueError('predictions of an arm are for design "arms": in a holdout one list is dealt')
        return self

    @model_validator(mode="after")
    def _days(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first {self.first} must not lie after last {self.last}")
        return self


def find_experiment(experiments: Mapping[str, ExperimentConfig], name: str) -> ExperimentConfig:
    """
    Raises:
        UserError: there is none of that name.
    """
    if name not in experiments:
        raise UserError(f"--experiment must be one of {sorted(experiments)} of [experiments], however: {name!r}")
    return experiments[name]
