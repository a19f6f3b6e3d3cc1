"""Configuration of the monitor: what it calls an alert."""

from typing import Self

from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.drift import LARGE


class MonitorConfig(StrictConfig):
    """Scores are over eligible rows. An alert stops nothing; it is for a person to look at.

    The webhook has no key here: its address may be a secret, so that it comes from the environment
    (:mod:`training.monitor.webhook`).
    """

    nmae_over_naive: float = Field(default=1.1, gt=0)
    """Largest macro NMAE of the point forecast, relative to the best naive forecast's of the same day."""
    smape_over_naive: float = Field(default=1.1, gt=0)
    """The same of the smape forecast's SMAPE."""
    bias: float = Field(default=0.25, gt=0)
    """Largest |sum of mean forecasts / sum of labels - 1| of a task."""
    calibration: float = Field(default=0.1, gt=0, le=1)
    """Largest distance between a quantile's level and the share of labels below it, of a task."""
    min_rows: int = Field(default=100, ge=1)
    """Fewer scored rows raise no alert about scores, and fewer active ones of a scenario none about its activity."""
    unmatched: float = Field(default=0.01, ge=0, le=1)
    """Largest share of predictions that no label is found for."""
    psi: float = Field(default=LARGE, gt=0)
    """From this PSI on a feature counts as drifted from training; scenario attributes aside, see ``unseen``."""
    unseen: float = Field(default=0.01, ge=0, le=1)
    """Largest share of a feature's ids that no training row has. It is what can be said of scenario attributes: a day
    has one value of them per scenario, so that their PSI is large on any day."""
    drifted_features: int = Field(default=0, ge=0)
    """Features that may have drifted."""
    table_rows: tuple[float, float] = (0.6, 1.67)
    """Raw rows of a table of facts on the newest day against the median of the same weekday in the weeks before."""
    scenario_rows: tuple[float, float] = (0.5, 2.0)
    """Rows of a scenario against their median over the earlier days."""
    activity: tuple[float, float] = (0.5, 2.0)
    """A task's sum over the newest week, in a scenario, against the mean of the weeks before it."""
    days_compared: int = Field(default=14, ge=1)
    """Calendar days before the night whose feature days are compared with."""
    days_behind: int = Field(default=1, ge=0)
    """Days without files before the newest day that a night reads, per table of facts that is filed by day."""
    snapshot_days_behind: int | None = Field(default=None, ge=0)
    """The same of ``profile`` and ``scenarios``; None: they may be of any age, as where a table is written once."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("table_rows", "scenario_rows", "activity"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be [lowest, highest], both at least 0, however: [{low}, {high}]")
        return self
