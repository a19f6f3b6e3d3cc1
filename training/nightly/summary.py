"""What a night says of itself: ``<out>/daily/dt=D/summary.json``, whole or not at all."""

import datetime
from typing import Literal

from pydantic import ValidationError

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, below

SUMMARY, PAGE = "summary.json", "index.html"
ATTEMPT = "attempt.json"
"""Beside the summary while a night runs; it stays where one was cut off."""

Status = Literal["complete", "failed", "alert"]
StepStatus = Literal["done", "skipped", "failed", "not run"]
"""``skipped``: complete for the same inputs."""


class ModelUsed(StrictConfig):
    version: str = ""
    """Generation id of the published model; empty: there was none."""
    fingerprint: str = ""
    """Feature fingerprint of its spec."""


class StepRun(StrictConfig):
    name: str
    status: StepStatus
    seconds: float
    detail: str = ""
    """Rows and generation, or why it failed: one line."""


class Alert(StrictConfig):
    """A check that a published day did not pass: for a person to look at, the forecasts are in force."""

    check: str
    value: float | str
    threshold: float | str
    message: str


class Inputs(StrictConfig):
    """What the day was made from, as its features' manifest says."""

    rows: int = 0
    rows_by_scenario: dict[str, int] = {}
    dropped: dict[str, int] = {}
    """Bad raw rows that ``[checks]`` let go, by check."""
    newest_day: dict[str, datetime.date | None] = {}
    """Per raw table, the newest day with files that the night could read; None where files are not by day."""


class Summary(StrictConfig):
    date: datetime.date
    """The as-of day."""
    started: datetime.datetime
    finished: datetime.datetime
    status: Status
    exit_code: int
    model: ModelUsed = ModelUsed()
    steps: tuple[StepRun, ...] = ()
    inputs: Inputs = Inputs()
    alerts: tuple[Alert, ...] = ()


def night_folder(daily: str, date: datetime.date) -> Folder:
    """Where the night of an as-of day lies, below ``daily``, the folder of all nights."""
    return Folder.at(below(daily, f"dt={date}"))


def write_summary(folder: Folder, summary: Summary) -> None:
    folder.replace_bytes(SUMMARY, (summary.model_dump_json(indent=1) + "\n").encode())


def read_summary(folder: Folder) -> Summary | None:
    """The night's summary; None where none was written.

    Raises:
        UserError: it is damaged.
    """
    if not folder.exists(SUMMARY):
        return None
    try:
        return Summary.model_validate_json(folder.read_bytes(SUMMARY))
    except ValidationError as error:
        raise UserError(
            f"{folder.uri}/{SUMMARY} is damaged ({error.error_count()} problems): run m2m daily for that day again"
        ) from None
