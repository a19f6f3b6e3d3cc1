"""Nights as a scheduler starts them, Spark's part included: a second run, late data, bad data, and what status says."""

import json

import pytest

from jobs.exit_codes import ExitCode
from tests.nightly.run import DAY, SHAPE, Run

pytestmark = [pytest.mark.spark, pytest.mark.ray, pytest.mark.slow]
STEPS = ("model", "features", "predictions", "lists", "checks", "labels", "monitor", "report")
WORK = ("features", "predictions", "lists", "labels")


def states(run: Run, *arguments: str, status: int) -> list[tuple[str, str, str]]:
    found, _ = json.JSONDecoder().raw_decode(run.job("status", *arguments, "--json", status=status))
    return [(day["state"], day["predictions"]["state"], day["night"]["state"]) for day in found]


def test_a_night_a_second_run_late_data_and_bad_data(run: Run) -> None:
    date = run.last - 3 * DAY
    span = ("--from", str(date - DAY), "--to", str(date))
    matured = date - SHAPE.horizon * DAY
    run.job("daily", "--date", str(matured))
    assert run.steps(matured) == dict.fromkeys(STEPS, "done") | {"labels": "skipped"}
    said = run.job("daily", "--date", str(date))
    assert f"{matured}: " in next(line for line in said.splitlines() if "predictions scored" in line)
    assert f"{date}  report: done" in said
    assert str(matured) == json.loads((run.out / f"monitoring/dt={date}/monitor.json").read_text())["scored"]["as_of"]
    assert f"{run.out}/dashboard/index.html" in said
    summary = run.summary(date)
    assert (summary.status, summary.exit_code, summary.alerts) == ("complete", 0, ())
    assert run.steps(date) == dict.fromkeys(STEPS, "done")
    assert summary.inputs.rows == sum(summary.inputs.rows_by_scenario.values()) > 0
    assert summary.inputs.newest_day["performance"] == date
    assert summary.model.version in (run.out / f"daily/dt={date}/index.html").read_text()

    before = {kind: run.generation(kind, date) for kind in ("features", "predictions")}
    run.job("daily", "--date", str(date))
    assert run.steps(date) == dict.fromkeys(STEPS, "done") | dict.fromkeys(WORK, "skipped")
    assert before == {kind: run.generation(kind, date) for kind in before}

    late = run.late_row(date)
    assert states(run, *span, status=3) == [("missing",) * 3, ("stale", "complete", "complete")]
    run.job("daily", "--date", str(date))
    assert run.steps(date) == dict.fromkeys(STEPS, "done"), "the late row lies in the matured day's horizon"
    assert run.generation("predictions", date) != before["predictions"]

    late.unlink()
    run.late_row(date, advertiser_id=None)
    said = run.job("daily", "--date", str(date), status=ExitCode.FEATURES_FAILED)
    assert f"night of {date}: features failed" in said
    failed = run.summary(date)
    assert (failed.status, failed.exit_code) == ("failed", 11)
    assert "null 'advertiser_id'" in next(step.detail for step in failed.steps if step.name == "features")
    assert states(run, *span, status=3)[1] == ("failed", "complete", "failed")
