"""A run whose features somebody else publishes: a model and feature days without Spark, jobs that are processes."""

import datetime
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from m2m_model.contracts.store import Folder, publish
from m2m_model.zoo.registry import build_model
from tests.training.tiny import DAY, MODEL, SPEC, publish_tables, random_table, same_rules
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.loop import LoopState, Snapshot
from training.nightly.summary import Summary, night_folder, read_summary

ROOT = Path(__file__).parents[2]
ROWS = 30
CONFIG = """
[run]
name = "tiny"
out = "{out}"
[raw]
first_day = 2017-01-01
last_day = 2017-03-31
facts = {{performance = {{}}}}
[features]
[tasks.units]
expr = "sum(units)"
unit = "units"
[engagement.lists.fading]
task = "days"
cool_down_days = 1
[keeper]
total_ratio = [0, 1e9]
zero_share = 1.0
"""


@dataclass(frozen=True)
class PublishedRun:
    out: Path
    ray_address: str
    """Of a cluster that the predictions join."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jobs.daily", "--config", str(self.out / "config.toml"), *arguments]
        command.append("--features-published")
        environment, pipe = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": self.ray_address}, subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)

    def daily(self, *arguments: str, status: int = 0) -> str:
        """Run nights to their end; what they printed, errors included."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=1200)
        assert process.returncode == status, f"status {process.returncode}\n{output[-3000:]}{errors[-3000:]}"
        return output + errors

    def summary(self, date: datetime.date) -> Summary:
        summary = read_summary(night_folder(str(self.out / "daily"), date))
        assert summary is not None
        return summary

    def publish_features(self, date: datetime.date, *, seed: int = 0) -> None:
        table = random_table(ROWS, seed=seed, day=date, labels=False)
        location = str(self.out / f"features/dt={date}")
        manifest = publish_tables(location, "features", {"part-0": (table, {"dt": str(date)})})
        publish(Folder.at(location), manifest.model_copy(update={"content": {"inputs": {}, "dropped": {}}}))


def prepare(out: Path, ray_address: str) -> PublishedRun:
    """A run with a model and no day."""
    (out / "config.toml").write_text(CONFIG.format(out=out))
    torch.manual_seed(0)
    snapshot = Snapshot(model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=LoopState(best_loss=1.0))
    content = run_content(MODEL, TrainingConfig(), dataset_generation="g")
    rules = same_rules(0.5, 0.9)
    publish_model(str(out / "model"), snapshot=snapshot, spec=SPEC, content=content, rules=rules, grace_seconds=0)
    return PublishedRun(out, ray_address)


__all__ = ["DAY", "ROWS", "PublishedRun", "prepare"]
