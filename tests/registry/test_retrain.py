"""Retraining as a scheduler starts it: real Spark, real Ray, a version, and the nights that follow the pointer."""

import datetime
import json
from pathlib import Path

import pytest

from jobs.config import RunConfig
from jobs.retrain import period
from m2m_model.contracts.store import Folder, read_manifest
from tests.nightly.run import DAY, Run, write_config

REGISTRY = "\nregistry = {{location = {location}, resamples = 200}}\n"


def with_registry(run: Run) -> Run:
    write_config(run)
    path = run.folder / "run.toml"
    path.write_text(path.read_text() + REGISTRY.format(location=json.dumps(str(run.folder / "registry"))))
    return run


def listed(run: Run) -> dict[str, object]:
    found, _ = json.JSONDecoder().raw_decode(run.job("registry", "list", "--json"))
    assert isinstance(found, dict)
    return found


@pytest.mark.spark
@pytest.mark.ray
@pytest.mark.slow
def test_a_week_later_with_other_edges(run: Run) -> None:
    """The candidate's bucket edges are its own, so that the promoted model needs the same rows in its features."""
    run = with_registry(run)
    run.job("registry", "register", "--why", "the first")
    first = listed(run)["versions"][0]["version"]  # type: ignore[index]
    run.job("registry", "promote", str(first), "--why", "the first")

    last = run.last - 3 * DAY
    tolerant = ("--set", "registry.tolerance=1e9")
    said = run.job("retrain", "--date", str(last), *tolerant)
    assert "interval [" in said
    after = listed(run)
    assert len(after["versions"]) == 2  # type: ignore[arg-type]
    assert after["promoted"] not in (None, first)
    dataset = read_manifest(Folder.at(run.out / f"retrain/dt={last}/dataset"), kind="dataset", build_hint="")
    assert dataset.content["config"]["raw"]["last_day"] == str(last)
    assert len(list((run.out / f"retrain/dt={last}/backtests").iterdir())) == 1

    again = run.job("retrain", "--date", str(last), *tolerant)
    assert "is promoted already" in again
    assert "published" not in again

    date = run.last - 2 * DAY
    run.job("daily", "--date", str(date))
    assert run.summary(date).model.version == after["promoted"]
    run.job("registry", "promote", str(first), "--why", "back", "--force")
    run.job("daily", "--date", str(date), "--with-promoted")
    assert run.summary(date).model.version == first
    assert run.steps(date)["features"] == "done", "the other model has other features"


CONFIG = """
[run]
name = "tiny"
out = "out"
[raw]
first_day = 2017-01-01
last_day = 2017-12-31
facts = {performance = {}}
[features]
[tasks.units]
expr = "sum(units)"
unit = "units"
"""
DATES = """
[split]
train = [2017-02-09, 2017-10-10]
validation = [2017-10-18, 2017-11-16]
test = [2017-11-24, 2017-12-23]
"""


def test_splits_move_along_and_training_begins_where_it_did(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG)
    last = datetime.date(2018, 1, 7)
    assert period(RunConfig.read(path), last) == ["raw.last_day=2018-01-07", "checks.dates_out_of_range=drop"]
    path.write_text(CONFIG + DATES)
    moved = RunConfig.read(path, period(RunConfig.read(path), last))
    assert moved.split.train == (datetime.date(2017, 2, 9), datetime.date(2017, 10, 17))
    assert moved.split.test == (datetime.date(2017, 12, 1), datetime.date(2017, 12, 30))
    assert moved.raw.last_day == last
