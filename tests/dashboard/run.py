"""A small run with everything that a dashboard shows: model, predicted and scored days, a night's summary."""

import datetime
from pathlib import Path

import numpy as np
import torch

from m2m_model.zoo.registry import build_model
from tests.training.test_monitor import AS_OF, NIGHT, Day
from tests.training.tiny import MODEL, SPEC, same_rules
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.dashboard.advertisers import AdvertiserDay
from training.dashboard.read import Places
from training.loop import EpochLosses, LoopState, Snapshot
from training.nightly.summary import Alert, ModelUsed, StepRun, Summary, night_folder, write_summary


def places(out: Path) -> Places:
    return Places(**{name: str(out / name) for name in Places.__dataclass_fields__})


def publish_run(day: Day) -> None:
    """A model with one epoch behind it, the monitoring of the night, and its summary."""
    out = day.out
    torch.manual_seed(0)
    state = LoopState(best_loss=1.0, history=(EpochLosses(epoch=0, step=9, train=1.5, validation=1.25),))
    snapshot = Snapshot(model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=state)
    content = run_content(MODEL, TrainingConfig(), dataset_generation="g")
    rules = same_rules(0.5, 0.9)
    publish_model(str(out / "model"), snapshot=snapshot, spec=SPEC, content=content, rules=rules, grace_seconds=0)
    assert day.run() == 4
    moment = datetime.datetime(2017, 3, 2, 3, tzinfo=datetime.UTC)
    summary = Summary(
        date=AS_OF,
        started=moment,
        finished=moment + datetime.timedelta(minutes=7),
        status="alert",
        exit_code=4,
        model=ModelUsed(version="m-1", fingerprint=SPEC.feature_fingerprint),
        steps=(StepRun(name="features", status="done", seconds=61.5, detail="150 rows, <b>generation</b> g"),),
        alerts=(Alert(check="rows_ratio", value=0.4, threshold=0.5, message="60 rows are predicted, 150 were"),),
    )
    write_summary(night_folder(str(out / "daily"), NIGHT), summary)


def many_advertisers(count: int) -> AdvertiserDay:
    """Generated advertisers with a pair each in both scenarios."""
    random = np.random.default_rng(0)
    rows, tasks = 2 * count, len(SPEC.tasks)
    history = random.poisson(3.0, (rows, tasks, SPEC.history_weeks)).astype(float)
    spread = np.sort(random.poisson(3.0, (rows, tasks, 3)), axis=2).astype(float)
    return AdvertiserDay(
        spec=SPEC,
        ids=[f"advertiser {number:06d}" for number in range(count)],
        advertiser=np.repeat(np.arange(count), 2),
        scenario=np.tile(np.array(SPEC.scenarios), count),
        eligible=np.ones(rows, bool),
        history=history,
        forecasts=np.concatenate([history.mean(axis=2, keepdims=True), spread], axis=2),
        attention=random.dirichlet(np.ones(2), (rows, tasks)),
        knowledge=random.normal(size=(rows, 4)),
    )
