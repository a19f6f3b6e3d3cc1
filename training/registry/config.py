"""Configuration of the model registry, and of when a model may be promoted."""

from typing import Literal

from pydantic import Field

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.locations import Location


class RegistryConfig(StrictConfig):
    location: Location = ""
    """Folder or URI of the registry; empty: there is none, and the run's own model forecasts."""
    metric: Literal["nmae", "smape"] = "nmae"
    """Macro average over scenario x task cells that decides, lower is better."""
    forecast: Literal["mean", "point", "smape"] = "point"
    tolerance: float = Field(default=0.0, ge=0)
    """A candidate whose metric lies above the promoted model's by more than this is refused."""
    resamples: int = Field(default=2000, ge=100)
    level: float = Field(default=0.95, gt=0, lt=1)
    """Of the paired interval."""
