"""Configuration of the dashboard."""

from pydantic import Field

from m2m_model.contracts.config import StrictConfig


class DashboardConfig(StrictConfig):
    days: int = Field(default=90, ge=1)
    """Nights that are shown, up to the newest."""
    advertisers_per_file: int = Field(default=200, ge=1)
    """An advertiser's page loads one file of so many."""
    explained_rows: int = Field(default=50_000, ge=0)
    """Rows whose attention and scenario knowledge are computed, those of the largest advertisers first."""
