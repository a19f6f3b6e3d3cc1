"""A run whose features somebody else publishes: a model and feature days without Spark, jobs that are processes."""

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from m2m_model.contracts.drift import Histograms, feature_sizes
from m2m_model.contracts.store import Folder, publish
from m2m_model.zoo.registry import build_model
from tests.nightly.processes import finish, start_job
from tests.training.run_toml import write_run
from tests.training.tiny import DAY, MODEL, SPEC, publish_tables, random_table, same_rules
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.loop import LoopState, Snapshot
from training.nightly.summary import Summary, night_folder, read_summary

ROWS = 30
MORE = """
[engagement.lists.fading]
task = "days"
cool_down_days = 1
[keeper]
total_ratio = [0, 1e9]
zero_share = 1.0
[monitor]
activity = [0, 1e9]
scenario_rows = [0, 1e9]
"""


@dataclass(frozen=True)
class PublishedRun:
    out: Path
    ray_address: str
    """Of a cluster that the predictions join."""

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        arguments = (*arguments, "--features-published")
        return start_job("daily", self.out / "config.toml", *arguments, RAY_ADDRESS=self.ray_address)

    def daily(self, *arguments: str, status: int = 0) -> str:
        """Run nights to their end; what they printed, errors included."""
        return finish(self.start(*arguments), status=status)

    def summary(self, date: datetime.date) -> Summary:
        summary = read_summary(night_folder(str(self.out / "daily"), date))
        assert summary is not None
        return summary

    def publish_features(self, date: datetime.date, *, seed: int = 0) -> None:
        table = random_table(ROWS, seed=seed, day=date, labels=False)
        location = str(self.out / f"features/dt={date}")
        tables = {"part-0": (table, {"dt": str(date)})}
        manifest = publish_tables(location, "features", tables, histograms=histograms("features"))
        publish(Folder.at(location), manifest.model_copy(update={"content": {"inputs": {}, "dropped": {}}}))


def histograms(split: str) -> Histograms:
    counts = {name: (5,) * size for name, size in feature_sizes(SPEC).items()}
    return Histograms(feature_fingerprint=SPEC.feature_fingerprint, newest_days=7, splits={split: counts})


def prepare(out: Path, ray_address: str) -> PublishedRun:
    """A run with a model and no day."""
    write_run(out / "config.toml", out=out, more=MORE)
    dataset = publish_tables(str(out / "dataset"), "dataset", {}, histograms=histograms("train"))
    about = {"feature_fingerprint": SPEC.feature_fingerprint}
    publish(Folder.at(out / "dataset"), dataset.model_copy(update={"content": about}))
    torch.manual_seed(0)
    snapshot = Snapshot(model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=LoopState(best_loss=1.0))
    content = run_content(MODEL, TrainingConfig(), dataset_generation="g")
    rules = same_rules(0.5, 0.9)
    publish_model(str(out / "model"), snapshot=snapshot, spec=SPEC, content=content, rules=rules, grace_seconds=0)
    return PublishedRun(out, ray_address)


__all__ = ["DAY", "ROWS", "PublishedRun", "prepare"]
