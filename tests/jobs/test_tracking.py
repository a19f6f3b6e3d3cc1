"""MLflow as a tracker: what training and evaluation leave in its SQLite store, by real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, read_manifest
from tests.training.run_toml import SMALL_MODEL, write_run
from tests.training.tiny import publish_tables, random_table
from training.tracking.config import TrackingConfig
from training.tracking.tracker import open_tracker

mlflow = pytest.importorskip("mlflow")
ROOT = Path(__file__).parents[2]
MORE = """
[train]
epochs = 2
batch_size = 8
refit = true
[baselines]
names = ["last_7_days", "lightgbm_l1_log"]
lightgbm_rounds = 3
lightgbm_min_rows = 2
[tracking]
tracker = "mlflow"
"""


def run(job: str, config: Path) -> None:
    command = [sys.executable, "-m", f"jobs.{job}", "--config", str(config)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_per_model_with_parameters_metrics_pictures_and_the_model(tmp_path: Path) -> None:
    rows = {"train": 20, "validation": 9, "test": 15}
    tables = {
        name: (random_table(count, seed=count, labels=True), {"split": name, "dt": "2017-03-01"})
        for name, count in rows.items()
    }
    publish_tables(str(tmp_path / "dataset"), "dataset", tables)
    config = tmp_path / "config.toml"
    write_run(config, out=tmp_path, more=SMALL_MODEL + MORE)
    run("train", config)
    run("evaluate", config)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    (found,) = client.search_runs([experiment.experiment_id])
    published = read_manifest(Folder.at(tmp_path / "model"), kind="model", build_hint="")
    assert found.data.tags["model_version"] == published.generation
    assert found.info.status == "FINISHED"
    assert found.data.params["train.batch_size"] == "8"
    assert found.data.params["model.name"] == "m2m"
    assert len(client.get_metric_history(found.info.run_id, "loss/validation")) == 2
    for model in ("m2m", "last_7_days", "lightgbm_l1_log"):
        for task in ("units", "days", "overall"):
            for scenario in ("a", "b", "overall"):
                assert f"nmae.point/{model}/{task}/{scenario}" in found.data.metrics
    card = next((tmp_path / "model").rglob("model_card.md")).read_text()
    assert "on the eligible rows of training and validation together" in card
    files = {file.path for folder in ("model", "pictures") for file in client.list_artifacts(found.info.run_id, folder)}
    assert {"model/model.pt", "model/spec.json", "model/forecast_rules.json"} < files
    assert {"pictures/training.svg", "pictures/error_by_scenario.svg"} < files


def test_it_is_off_by_default_and_wants_a_server_beside_an_object_store() -> None:
    assert open_tracker(TrackingConfig(), out="s3://bucket/run", run="tiny") is None
    with pytest.raises(UserError, match=r"\[tracking\] uri"):
        open_tracker(TrackingConfig(tracker="mlflow"), out="s3://bucket/run", run="tiny")
