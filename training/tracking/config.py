"""Configuration of experiment tracking, which is off by default."""

from typing import Literal

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.locations import Location


class TrackingConfig(StrictConfig):
    tracker: Literal["none", "mlflow"] = "none"
    uri: Location = ""
    """MLflow's tracking URI; empty: an SQLite file and artifacts in ``<out>/mlflow``."""
    experiment: str = ""
    """Default: the run's name."""
