"""Nights whose features are published elsewhere: who waits for whom, what is caught up, what an alert is."""

import datetime
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.exit_codes import ExitCode
from tests.nightly.published import DAY, ROWS, PublishedRun, prepare
from training.nightly.lock import lock_file
from training.nightly.status import PartStatus, night_status, predictions_status
from training.nightly.summary import ATTEMPT

pytestmark = pytest.mark.ray
ONE = datetime.timedelta(days=1)


@pytest.fixture
def run(tmp_path: Path, ray_address: str) -> PublishedRun:
    return prepare(tmp_path, ray_address)


def night(run: PublishedRun, date: datetime.date) -> PartStatus:
    return night_status(str(run.out / "daily"), date)


def predictions(run: PublishedRun, date: datetime.date) -> PartStatus:
    return predictions_status(str(run.out / "features"), str(run.out / "predictions"), date)


def test_missed_and_failed_nights_are_caught_up_in_order(run: PublishedRun) -> None:
    days = [DAY + number * ONE for number in range(3)]
    said = run.daily("--date", str(days[0]), status=ExitCode.FEATURES_FAILED)
    assert f"error: night of {days[0]}: features failed: " in said
    failed = run.summary(days[0])
    assert (failed.status, failed.exit_code) == ("failed", ExitCode.FEATURES_FAILED)
    assert [step.status for step in failed.steps] == ["done", "failed", *["not run"] * 5, "done"]
    assert (run.out / f"daily/dt={days[0]}/index.html").exists()
    assert night(run, days[0]).state == "failed"
    assert "features: " in night(run, days[0]).reason
    assert night(run, days[1]) == PartStatus("missing")
    for day in (days[0], days[2]):
        run.publish_features(day)
    said = run.daily("--date", str(days[2]), "--catch-up", status=ExitCode.FEATURES_FAILED)
    lines = [line[:10] for line in said.splitlines() if "report: done" in line]
    assert lines == [str(day) for day in days], "a day that fails does not hold up the later ones"
    states = [night(run, day).state for day in days]
    assert states == ["complete", "failed", "complete"]
    assert predictions(run, days[1]) == PartStatus("missing")
    assert predictions(run, days[2]).state == "complete"


def test_an_alert_a_second_run_and_other_features(run: PublishedRun) -> None:
    run.publish_features(DAY)
    said = run.daily("--date", str(DAY), "--set", "keeper.min_rows=31", status=ExitCode.ALERT)
    summary = run.summary(DAY)
    assert (summary.status, summary.exit_code, summary.inputs.rows) == ("alert", 4, ROWS)
    assert [alert.check for alert in summary.alerts] == ["rows"]
    assert summary.alerts[0].message in said
    assert summary.alerts[0].message in (run.out / f"daily/dt={DAY}/index.html").read_text()
    assert night(run, DAY) == PartStatus("alert", "rows")
    said = run.daily("--date", str(DAY))
    statuses = {step.name: step.status for step in run.summary(DAY).steps}
    assert statuses == {
        "model": "done",
        **dict.fromkeys(("features", "predictions", "lists", "labels"), "skipped"),
        **dict.fromkeys(("checks", "monitor", "report"), "done"),
    }
    run.publish_features(DAY, seed=1)
    assert predictions(run, DAY).state == "stale"
    run.daily("--date", str(DAY), "--set", "engagement.lists.fading.budget=3")
    assert predictions(run, DAY).state == "complete"
    assert night(run, DAY) == PartStatus("complete")


def test_a_second_run_of_a_day_goes_and_a_dead_holder_is_taken_over(run: PublishedRun) -> None:
    run.publish_features(DAY)
    folder = run.out / f"daily/dt={DAY}"
    first = run.start("--date", str(DAY))
    wait_for(lambda: len(holders(folder)) == 2, "the night and its first step")
    assert (folder / ATTEMPT).exists()
    assert night(run, DAY).state == "running"
    said = run.daily("--date", str(DAY), status=ExitCode.LOCKED)
    assert f"process {first.pid}" in said
    # The parent alone is killed: its step still holds the day.
    step = next(pid for pid in holders(folder) if pid != first.pid)
    os.kill(step, signal.SIGSTOP)
    first.kill()
    first.wait()
    said = run.daily("--date", str(DAY), status=ExitCode.LOCKED)
    assert f"process {first.pid}" in said
    assert "which died" in said
    os.kill(step, signal.SIGKILL)
    wait_for(lambda: night(run, DAY).state == "failed", "the step's end, which lets go of the lock")
    assert "was cut off" in night(run, DAY).reason
    said = run.daily("--date", str(DAY))
    assert f"taking over from process {first.pid}" in said
    assert night(run, DAY) == PartStatus("complete")


def holders(folder: Path) -> list[int]:
    """Processes that have the day's lock open."""
    lock, found = str(lock_file(str(folder)).resolve()), []
    for process in Path("/proc").iterdir():
        try:
            files = [os.readlink(file) for file in (process / "fd").iterdir()] if process.name.isdigit() else []
        except OSError:
            continue
        if lock in files:
            found.append(int(process.name))
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, f"no sign of {what}"
        time.sleep(0.05)
