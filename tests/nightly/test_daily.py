"""Nights as a scheduler starts them: real processes, what a second run skips, who waits for whom, what is caught up."""

import json
import os
import signal
import time

import pytest

from jobs.exit_codes import ExitCode
from tests.nightly.run import DAY, Run
from training.nightly.lock import lock_file
from training.nightly.summary import ATTEMPT

pytestmark = [pytest.mark.spark, pytest.mark.ray, pytest.mark.slow]
STEPS = ("model", "features", "predictions", "lists", "checks", "report")
WORK = ("features", "predictions", "lists")


def states(run: Run, *arguments: str, status: int) -> list[tuple[str, str, str]]:
    found, _ = json.JSONDecoder().raw_decode(run.job("status", *arguments, "--json", status=status))
    return [(day["state"], day["predictions"]["state"], day["night"]["state"]) for day in found]


def test_a_night_a_second_run_and_late_data(run: Run) -> None:
    date = run.last - 3 * DAY
    span = ("--from", str(date - DAY), "--to", str(date))
    run.job("daily", "--date", str(date))
    summary = run.summary(date)
    assert (summary.status, summary.exit_code, summary.alerts) == ("complete", 0, ())
    assert run.steps(date) == dict.fromkeys(STEPS, "done")
    assert summary.inputs.rows == sum(summary.inputs.rows_by_scenario.values()) > 0
    assert summary.inputs.newest_day["performance"] == date
    page = (run.out / f"daily/dt={date}/index.html").read_text()
    assert summary.model.version in page
    assert states(run, *span, status=3) == [("missing",) * 3, ("complete",) * 3]

    before = {kind: run.generation(kind, date) for kind in ("features", "predictions")}
    run.job("daily", "--date", str(date))
    assert run.steps(date) == dict.fromkeys(STEPS, "done") | dict.fromkeys(WORK, "skipped")
    assert before == {kind: run.generation(kind, date) for kind in before}

    run.late_row(date)
    assert states(run, *span, status=3)[1] == ("stale", "complete", "complete")
    run.job("build_dataset", "--backfill", str(date), str(date), "--spec", str(run.out / "dataset/spec.json"))
    assert states(run, *span, status=3)[1] == ("complete", "stale", "complete")
    run.job("daily", "--date", str(date))
    assert run.steps(date) == dict.fromkeys(STEPS, "done") | {"features": "skipped"}
    assert run.generation("predictions", date) != before["predictions"]


def test_a_failed_step_says_why_and_missed_nights_are_caught_up_in_order(run: Run) -> None:
    first = run.last - 6 * DAY
    run.job("daily", "--date", str(first))
    bad = run.late_row(first + DAY, advertiser_id=None)
    said = run.job("daily", "--date", str(first + DAY), status=ExitCode.FEATURES_FAILED)
    assert f"night of {first + DAY}: features failed" in said
    failed = run.summary(first + DAY)
    assert (failed.status, failed.exit_code) == ("failed", 11)
    assert "null 'advertiser_id'" in next(step.detail for step in failed.steps if step.name == "features")
    assert run.steps(first + DAY) | {"features": "failed", "predictions": "not run", "checks": "not run"} == run.steps(
        first + DAY
    )
    span = ("--from", str(first + DAY), "--to", str(first + DAY))
    assert states(run, *span, status=3) == [("failed", "missing", "failed")]

    bad.unlink()
    said = run.job("daily", "--date", str(first + 3 * DAY), "--catch-up")
    lines = [line for line in said.splitlines() if "report: done" in line]
    assert [line[:10] for line in lines] == [str(first + number * DAY) for number in (1, 2, 3)]
    assert all(run.summary(first + number * DAY).status == "complete" for number in range(4))


def test_an_alert_is_an_exit_code_and_a_line(run: Run) -> None:
    date = run.last - 3 * DAY
    thresholds = ("--set", "keeper.min_rows=100000", "--set", "keeper.zero_share=0.0")
    said = run.job("daily", "--date", str(date), *thresholds, status=ExitCode.ALERT)
    summary = run.summary(date)
    assert summary.status == "alert"
    assert summary.alerts[0].check == "rows"
    assert summary.alerts[0].message in said
    assert summary.alerts[0].message in (run.out / f"daily/dt={date}/index.html").read_text()


def test_a_second_run_of_a_day_goes_and_a_dead_holder_is_taken_over(run: Run) -> None:
    date = run.last - 3 * DAY
    night = run.out / f"daily/dt={date}"
    first = run.start("daily", "--date", str(date))
    _wait_for(lambda: (night / ATTEMPT).exists())
    said = run.job("daily", "--date", str(date), status=ExitCode.LOCKED)
    assert f"process {first.pid}" in said
    # The parent alone is killed: its step still holds the day.
    first.send_signal(signal.SIGKILL)
    first.wait()
    said = run.job("daily", "--date", str(date), status=ExitCode.LOCKED)
    assert f"process {first.pid}" in said
    assert "which died" in said
    for pid in _descendants(night):
        os.kill(pid, signal.SIGKILL)
    _wait_for(lambda: not _descendants(night))
    span = ("--from", str(date), "--to", str(date))
    assert states(run, *span, status=3)[0][2] == "failed"
    said = run.job("daily", "--date", str(date))
    assert f"taking over from process {first.pid}" in said
    assert run.summary(date).status == "complete"


def _descendants(night: object) -> list[int]:
    """Processes that have the day's lock open."""
    lock, found = str(lock_file(str(night)).resolve()), []
    for folder in os.listdir("/proc"):
        if not folder.isdigit() or int(folder) == os.getpid():
            continue
        try:
            files = [os.readlink(f"/proc/{folder}/fd/{name}") for name in os.listdir(f"/proc/{folder}/fd")]
        except OSError:
            continue
        if lock in files:
            found.append(int(folder))
    return found


def _wait_for(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
