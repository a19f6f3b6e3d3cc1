"""The synthetic jobs as they are called: raw tables, dataset, floors."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.truth import TASKS
from jobs.config import RunConfig
from jobs.floors import main
from m2m_model.contracts.errors import UserError

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "jobs" / "configs" / "synthetic.toml"
SMALL = [
    "synthetic.advertisers=300",
    "synthetic.floors.particles=8",
    "synthetic.floors.draws=80",
    "raw.last_day=2020-05-20",
    "split.train=[2020-01-18, 2020-04-12]",
    "split.validation=[2020-04-20, 2020-04-25]",
    "split.test=[2020-05-04, 2020-05-10]",
    "split.train_stride=20",
    "dataset.shards=1",
]


def _run(job: str, out: Path) -> str:
    overrides = [word for change in (*SMALL, f"run.out={out}") for word in ("--set", change)]
    command = [sys.executable, "-m", f"jobs.{job}", "--config", str(CONFIG), *overrides]
    done = subprocess.run(command, cwd=REPOSITORY, timeout=300, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.spark
@pytest.mark.slow
def test_the_jobs_run_one_after_the_other(tmp_path: Path) -> None:
    assert f"parameters {Parameters().digest}" in _run("make_synthetic", tmp_path)
    complete = json.loads((tmp_path / "raw" / "_complete.json").read_text())
    assert complete["parameters"] == Parameters().digest
    assert "are complete" in _run("make_synthetic", tmp_path)
    _run("build_dataset", tmp_path)
    assert "macro averages" in _run("floors", tmp_path)
    with (tmp_path / "floors" / "floors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["floor", "scenario", "task", "nmae", "smape", "n", "nmae_se", "smape_se"]
    assert {row["task"] for row in rows} == {*TASKS, "overall"}
    assert {row["floor"] for row in rows} == {"bayes", "observable"}


def test_floors_of_other_tasks_are_refused(tmp_path: Path) -> None:
    other = REPOSITORY / "jobs" / "configs" / "complete_journey.toml"
    with pytest.raises(UserError, match="floors are known for the tasks"):
        main(["--config", str(other), "--set", f"run.out={tmp_path}"])


def test_the_run_asks_for_the_truths_tasks() -> None:
    assert tuple(RunConfig.read(CONFIG).tasks) == TASKS
