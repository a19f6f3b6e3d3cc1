"""Configuration of the nightly job: how far back it catches up, and the thresholds of its checks."""

from typing import Self

from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig


class KeeperConfig(StrictConfig):
    """The checks look at a night's published predictions and inputs; what they find is an alert and stops nothing."""

    catch_up_days: int = Field(default=7, ge=0)
    """How many days before ``--date`` are looked through for missed nights."""
    min_rows: int = Field(default=1, ge=0)
    """Predicted rows."""
    rows_ratio: tuple[float, float] = (0.5, 2.0)
    """Predicted rows against those of the newest earlier day of the week before."""
    zero_share: float = Field(default=0.99, ge=0, le=1)
    """Largest share of a task's point forecasts that are 0 (counts and spends)."""
    total_ratio: tuple[float, float] = (0.33, 3.0)
    """Summed mean forecast of a task against last week's actual sum of the same rows (counts and spends)."""
    dropped_rows: int = Field(default=0, ge=0)
    """Bad raw rows that ``[checks]`` may let go."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("rows_ratio", "total_ratio"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be [lowest, highest], both at least 0, however: [{low}, {high}]")
        return self
