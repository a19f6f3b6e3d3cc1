"""The prediction job: refusal of foreign features, replacement of exactly one day, crashes that change nothing."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch

from jobs import predict
from jobs.config import run_job
from m2m_model.contracts.schema import prediction_schema
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.zoo.registry import build_model
from tests.training.run_toml import NO_GRACE, write_run
from tests.training.tiny import DAY, MODEL, SPEC, publish_tables, random_table, same_rules
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.loop import LoopState, Snapshot

RULES = same_rules(0.5, 0.9)

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run with a published model and the features of two days."""
    write_run(tmp_path / "config.toml", out=tmp_path, more=NO_GRACE)
    torch.manual_seed(0)
    module = build_model(MODEL, SPEC)
    snapshot = Snapshot(model=module.state_dict(), optimizer={}, state=LoopState(best_loss=1.0))
    content = run_content(MODEL, TrainingConfig(), dataset_generation="g")
    publish_model(str(tmp_path / "model"), snapshot=snapshot, spec=SPEC, content=content, rules=RULES, grace_seconds=0)
    for day in (1, 2):
        publish_features(tmp_path, day=day)
    return tmp_path


def publish_features(out: Path, *, day: int, seed: int = 0, spec: DatasetSpec = SPEC) -> None:
    date = DAY.replace(day=day)
    tables = {
        f"part-{n}": (random_table(20, seed=100 * seed + 10 * day + n, day=date, labels=False), {"dt": str(date)})
        for n in range(3)
    }
    publish_tables(str(out / f"features/dt={date}"), "features", tables, spec)


def run(out: Path, day: int, *more: str) -> int:
    arguments = ["--config", str(out / "config.toml"), "--date", str(DAY.replace(day=day)), *more]
    return run_job(lambda: predict.main(arguments))


def read_day(out: Path, day: int) -> pa.Table:
    folder = Folder.at(out / f"predictions/dt={DAY.replace(day=day)}")
    manifest = read_manifest(folder, kind="predictions", build_hint="")
    return pa.concat_tables([pq.read_table(folder.join(file.path), partitioning=None) for file in manifest.files])


def digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_predictions_follow_the_schema_one_row_per_feature_row(out: Path) -> None:
    assert run(out, 1) == 0
    table = read_day(out, 1)
    assert table.schema.equals(prediction_schema(SPEC, quantiles=False))
    assert len(table) == len(set(table["advertiser_id"].to_pylist())) == 60
    assert set(table["feature_fingerprint"].to_pylist()) == {SPEC.feature_fingerprint}


def test_another_models_predictions_may_lie_elsewhere(out: Path) -> None:
    elsewhere = out / "experiments/better/challenger"
    assert run(out, 1, "--model", str(out / "model"), "--out", str(elsewhere)) == 0
    assert not (out / "predictions").exists()
    assert read_manifest(Folder.at(elsewhere / "dt=2017-03-01"), kind="predictions", build_hint="").rows == 60


def test_a_rerun_replaces_exactly_that_day(out: Path) -> None:
    assert (run(out, 1), run(out, 2)) == (0, 0)
    first, other_day = read_day(out, 1), digests(out / "predictions/dt=2017-03-02")
    assert run(out, 1) == 0
    assert read_day(out, 1).equals(first)
    publish_features(out, day=1, seed=1)
    assert run(out, 1) == 0
    assert read_day(out, 1)["advertiser_id"].to_pylist() != first["advertiser_id"].to_pylist()
    assert digests(out / "predictions/dt=2017-03-02") == other_day
    assert len(list((out / "predictions/dt=2017-03-01/data").iterdir())) == 1


def test_other_features_are_refused_naming_both_fingerprints(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, 1) == 0
    before = digests(out / "predictions")
    other = SPEC.model_copy(update={"horizon": 14})
    publish_features(out, day=1, spec=other)
    assert run(out, 1) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert SPEC.feature_fingerprint in message
    assert other.feature_fingerprint in message
    assert digests(out / "predictions") == before


def test_a_missing_day_says_what_to_run(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, 3) == 2
    assert "m2m build --date" in capsys.readouterr().err
    assert not (out / "predictions").exists()


def test_secrets_of_the_environment_reach_no_output(
    out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the-name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret")
    assert run(out, 1) == 0
    written = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    said = "".join(capfd.readouterr())
    assert not any(word in written or word in said.encode() for word in (b"the-name", b"the-secret"))


def test_a_killed_prediction_leaves_the_previous_day(out: Path) -> None:
    assert run(out, 1) == 0
    before = read_day(out, 1)
    publish_features(out, day=1, seed=1)
    code = (
        "import os, signal, sys, training.predict as p; "
        "p.publish = lambda *a: os.kill(os.getpid(), signal.SIGKILL); "
        "from jobs.predict import main; main(sys.argv[1:])"
    )
    arguments = ["--config", str(out / "config.toml"), "--date", str(DAY)]
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"RAY_ADDRESS": address}
    killed = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, env=environment, capture_output=True, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list((out / "predictions/dt=2017-03-01/data").iterdir())) == 2
    assert read_day(out, 1).equals(before)
    assert run(out, 1) == 0
    assert not read_day(out, 1).equals(before)
