"""The exported file, scored without the package, forecasts what the package forecasts, whatever the number of rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from m2m_model.config import ModelConfig
from m2m_model.contracts.schema import forecast_names
from m2m_model.contracts.store import Folder, Manifest, publish
from m2m_model.zoo.registry import build_model
from tests.training.run_toml import write_run
from tests.training.tiny import MODEL, SPEC, publish_tables, random_table, same_rules
from training.checkpoint import load_model, publish_model, run_content
from training.config import TrainingConfig
from training.forecast import ForecastRules
from training.loop import LoopState, Snapshot
from training.scoring import ModelForecaster, Source, forecast_columns

ROOT = Path(__file__).parents[2]
MODELS = {
    "m2m": MODEL,
    "m2m with all": MODEL.model_copy(
        update={
            "distribution": True,
            "offset": "history",
            "dense_inputs": True,
            "history_quartiles": True,
            "scenario_id_embedding": True,
            "share_meta_across_tasks": False,
        }
    ),
    "star": MODEL.model_copy(update={"name": "star"}),
}


def prepare(out: Path, config: ModelConfig) -> Manifest:
    """A published model and a feature day of two files; returns the day's manifest."""
    write_run(out / "config.toml", out=out)
    torch.manual_seed(0)
    module = build_model(config, SPEC)
    with torch.no_grad():
        for parameter in module.parameters():  # a start of zeros would hide what is left out
            parameter.add_(0.05 * torch.randn_like(parameter))
    snapshot = Snapshot(model=module.state_dict(), optimizer={}, state=LoopState(best_loss=1.0))
    content = run_content(config, TrainingConfig(), dataset_generation="g")
    rules = ForecastRules(point=same_rules(0.5, 1.1, cap=1.75).point, smape=same_rules(0.5, 0.9).smape)
    publish_model(str(out / "model"), snapshot=snapshot, spec=SPEC, content=content, rules=rules, grace_seconds=0)
    tables = {f"part-{n}": (random_table(rows, seed=n, labels=False), {}) for n, rows in enumerate((40, 1))}
    manifest = publish_tables(str(out / "features"), "features", tables)
    manifest = manifest.model_copy(update={"content": {"feature_fingerprint": SPEC.feature_fingerprint}})
    publish(Folder.at(out / "features"), manifest)
    return manifest


def run(out: Path, *command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=out,
        env=os.environ | (environment or {}),
        check=False,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.parametrize("name", MODELS)
def test_the_file_forecasts_without_the_package(tmp_path: Path, name: str) -> None:
    config = MODELS[name]
    manifest = prepare(tmp_path, config)
    made = run(tmp_path, "-m", "jobs.export", "--config", "config.toml", environment={"PYTHONPATH": str(ROOT)})
    assert made.returncode == 0, made.stderr
    model = load_model(str(tmp_path / "model"))
    source = Source(location=str(tmp_path / "features"), spec=SPEC, batch_size=1000)
    tables = [table for file in manifest.files if file.path.endswith(".parquet") for table in source.tables(file)]
    forecaster = ModelForecaster(model.module)
    wanted = [forecast_columns(SPEC, forecaster(source.batch(table)), model.rules) for table in tables]
    for rows in (7, 512):  # the program gets 7, 5 and 1 rows, then 40 and 1
        done = run(
            tmp_path,
            "-c",
            # Isolated, and none of the package's modules may be found.
            "import runpy, sys; sys.path = [p for p in sys.path if 'site-packages' in p or 'python3' in p]; "
            "sys.argv = sys.argv[1:]; sys.modules.update(dict.fromkeys(('m2m_model', 'training', 'jobs', 'etl'))); "
            "runpy.run_path(sys.argv[0], run_name='__main__')",
            str(ROOT / "examples" / "score_exported.py"),
            *("export/model.pt2", "features", "scored.parquet", "--rows", str(rows)),
        )
        assert done.returncode == 0, done.stderr
        scored = pq.read_table(tmp_path / "scored.parquet")
        names = forecast_names(SPEC, quantiles=config.distribution)
        assert scored.column_names == ["advertiser_id", "scenario_id", "as_of", *names]
        assert scored["advertiser_id"].to_pylist() == [a for t in tables for a in t["advertiser_id"].to_pylist()]
        for column in names:
            expected = np.concatenate([part[column] for part in wanted])
            assert (expected == 1.75).any() == column.endswith("_point"), column
            assert np.std(expected) > 0 or not column.endswith("_mean"), column
            np.testing.assert_allclose(scored[column].to_numpy(), expected, rtol=1e-5, atol=1e-5, err_msg=column)


def test_other_features_are_refused(tmp_path: Path) -> None:
    manifest = prepare(tmp_path, MODEL.model_copy(update={"name": "embedding_mlp"}))
    made = run(tmp_path, "-m", "jobs.export", "--config", "config.toml", environment={"PYTHONPATH": str(ROOT)})
    assert made.returncode == 0, made.stderr
    publish(Folder.at(tmp_path / "features"), manifest.model_copy(update={"content": {"feature_fingerprint": "x"}}))
    done = run(tmp_path, str(ROOT / "examples" / "score_exported.py"), "export/model.pt2", "features", "x.parquet")
    assert done.returncode == 1
    assert f"the model wants features {SPEC.feature_fingerprint}, features has x" in done.stderr
