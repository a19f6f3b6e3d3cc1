"""What the monitor says of a night: ``monitor.json``, for machines and the dashboard."""

import datetime
import math
from typing import Annotated

from pydantic import PlainSerializer

from m2m_model.contracts.config import StrictConfig
from training.nightly.summary import Alert

REPORT = "monitor.json"

Number = Annotated[float | None, PlainSerializer(lambda value: None if value is None else round(value, 6))]
"""None where it is undefined: JSON knows no NaN."""


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


class Overall(StrictConfig):
    """Macro averages over the eligible rows' task x scenario cells."""

    forecaster: str
    """``model`` or a naive rule."""
    forecast: str
    nmae: Number
    smape: Number
    rows: int


class Scored(StrictConfig):
    """The day whose labels matured; ``missing`` says why it could not be scored."""

    as_of: datetime.date
    missing: str = ""
    due: bool = True
    """False: no day up to this one was ever predicted, so that nothing is amiss where it is missing."""
    model_version: str = ""
    predicted: int = 0
    scored: int = 0
    overall: tuple[Overall, ...] = ()
    bias: dict[str, Number] = {}
    """Of the mean forecasts, by task, over all eligible rows."""
    calibration: dict[str, dict[str, Number]] = {}
    """By task and quantile, the share of eligible labels below it; empty without a predictive distribution."""


class Drift(StrictConfig):
    missing: str = ""
    psi: dict[str, Number] = {}
    """Of every feature against training, less what so many rows give by chance; worst first."""
    unseen: dict[str, Number] = {}
    """Share of a feature's ids that no training row has; features without any are left out."""


class TableVolume(StrictConfig):
    rows: int
    """Raw rows of the newest day of facts."""
    usual_rows: Number = None
    """Median of the same weekday in the weeks before; None if there is none."""


class ScenarioVolume(StrictConfig):
    rows: int
    usual_rows: Number = None
    """Median of the earlier days; None if there is none."""
    active_rows: int = 0
    """Rows with any count or spend in the weeks that ``activity`` compares."""
    activity: dict[str, Number] = {}
    """By count or spend, the newest week's sum over the mean of the weeks before."""


class Inputs(StrictConfig):
    missing: str = ""
    built_at: str = ""
    days_compared: int = 0
    newest_day: dict[str, datetime.date | None] = {}
    """Per raw table; None where its files are not by day, and of those ``without_files``."""
    without_files: tuple[str, ...] = ()
    """Raw tables that have no file of any day that the night could read."""
    dropped: dict[str, int] = {}
    tables: dict[str, TableVolume] = {}
    """By table of facts."""
    scenarios: dict[str, ScenarioVolume] = {}


class MonitorReport(StrictConfig):
    date: datetime.date
    """The night: the as-of day of the newest features."""
    created_at: str
    scored: Scored
    drift: Drift
    inputs: Inputs
    alerts: tuple[Alert, ...] = ()
