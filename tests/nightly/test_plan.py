"""Which nights a call makes, and what it says in the end."""

import datetime
from pathlib import Path

import pytest

from jobs.config import RunConfig
from jobs.daily import missed_nights
from jobs.exit_codes import SEVERITY, ExitCode, worst
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder
from training.nightly.summary import ATTEMPT, SUMMARY, Status, Summary, night_folder, write_summary

DAY = datetime.timedelta(days=1)
TONIGHT = datetime.date(2017, 12, 20)
NOON = datetime.datetime(2017, 12, 21, 12, tzinfo=datetime.UTC)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    path = tmp_path / "run.toml"
    path.write_text(
        f'''
[run]
name = "tiny"
out = "{tmp_path}"
[raw]
first_day = 2017-01-01
last_day = 2017-12-31
timezone = "America/New_York"
known_after_hours = 6
[raw.facts.performance]
[features]
[tasks.units]
expr = "sum(units)"
unit = "units"
[keeper]
catch_up_days = 4
'''
    )
    return RunConfig.read(path)


def night(config: RunConfig, date: datetime.date, status: Status) -> Folder:
    folder = night_folder(config.run.path("daily"), date)
    moment = datetime.datetime.now(datetime.UTC)
    write_summary(folder, Summary(date=date, started=moment, finished=moment, status=status, exit_code=0))
    return folder


def test_missed_failed_cut_off_and_unreadable_nights_are_made_up_for(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert missed_nights(config, TONIGHT) == []
    night(config, TONIGHT - 9 * DAY, "complete")
    night(config, TONIGHT - 8 * DAY, "failed")
    night(config, TONIGHT - 4 * DAY, "failed")
    night(config, TONIGHT - 3 * DAY, "alert")
    night(config, TONIGHT - 2 * DAY, "complete").replace_bytes(ATTEMPT, b"{}")
    night(config, TONIGHT - DAY, "complete").replace_bytes(SUMMARY, b"")
    assert missed_nights(config, TONIGHT) == [TONIGHT - number * DAY for number in (4, 2, 1)]
    said = capsys.readouterr().err
    assert all(str(TONIGHT - number * DAY) in said for number in (8, 7, 6, 5))
    assert str(TONIGHT - 9 * DAY) not in said


def test_a_day_is_asked_for_when_its_facts_are_there(config: RunConfig) -> None:
    assert config.as_of_day(None, now=NOON) == TONIGHT
    assert config.as_of_day(None, now=NOON - datetime.timedelta(hours=2)) == TONIGHT - DAY  # 5 in New York, not yet 6
    assert config.as_of_day(TONIGHT - 9 * DAY, now=NOON) == TONIGHT - 9 * DAY
    with pytest.raises(UserError, match="2017-12-21 is later than 2017-12-20"):
        config.as_of_day(TONIGHT + DAY, now=NOON)


def test_forecasts_that_are_missing_outweigh_all_that_is_wrong_with_others() -> None:
    assert sorted(SEVERITY) == sorted(ExitCode)
    published = [ExitCode.ALERT, ExitCode.LOCKED, *(ExitCode(code) for code in range(14, 19))]
    for missing in (ExitCode.STORE_FAILED, *(ExitCode(code) for code in range(10, 13))):
        assert worst([*published, missing]) is missing
    assert worst([ExitCode.LOCKED, ExitCode.ALERT]) is ExitCode.ALERT
