"""Training's reader and the prediction job on an object store: a real S3 server, credentials in the environment."""

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
from m2m_model.contracts.schema import prediction_schema
from m2m_model.contracts.store import Folder, Manifest, below, publish, read_manifest
from m2m_model.zoo.registry import build_model
from tests.jobs.test_predict import RULES
from tests.training.datasets import write_dataset
from tests.training.run_toml import NO_GRACE, write_run
from tests.training.tiny import DAY, MODEL, SPEC, publish_tables, random_table
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.dataset import open_split
from training.loop import LoopState, Snapshot
from training.readers.parquet import ParquetReader

KILLED_BEFORE_PUBLISHING = (
    "import os, signal, sys, training.predict as p; "
    "p.publish = lambda *a: os.kill(os.getpid(), signal.SIGKILL); "
    "from jobs.predict import main; main(sys.argv[1:])"
)


def test_the_training_reader_reads_what_was_published(s3: str, tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, SPEC, rows_per_day=(40, 25), row_group_rows=16)
    local, remote = Folder.at(tmp_path), Folder.at(s3)
    for entry in manifest.files:
        copied = remote.write_bytes(entry.path, local.read_bytes(entry.path))
        assert (copied.bytes, copied.sha256) == (entry.bytes, entry.sha256)
    publish(remote, manifest)
    epochs = []
    for location in (str(tmp_path), s3):
        reader = ParquetReader(
            split=open_split(location, "train"),
            spec=SPEC,
            batch_size=10,
            seed=0,
            shuffle_blocks=2,
            group_rows=1,
            rank=0,
            world=1,
        )
        epochs.append([batch.labels.tolist() for batch, _ in reader.epoch(0)])
    assert sum(map(len, epochs[0])) == manifest.rows
    assert epochs[0] == epochs[1]
    assert open_split(s3, "train").find_damage() is None


@pytest.fixture
def run(s3: str, tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A run on the store with a published model and a day's features; its place and the job's arguments."""
    config = tmp_path / "config.toml"
    write_run(config, out=s3, more=NO_GRACE)
    torch.manual_seed(0)
    snapshot = Snapshot(model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=LoopState(best_loss=1.0))
    content = run_content(MODEL, TrainingConfig(), dataset_generation="g")
    publish_model(below(s3, "model"), snapshot=snapshot, spec=SPEC, content=content, rules=RULES, grace_seconds=0)
    publish_features(s3, seed=0)
    # Ray's workers take the environment of the process that starts them.
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield s3, ["--config", str(config), "--date", str(DAY)]
    ray.shutdown()


def publish_features(s3: str, *, seed: int) -> None:
    table = random_table(20, seed=seed, labels=False)
    publish_tables(below(s3, "features", f"dt={DAY}"), "features", {"part-0": (table, {"dt": str(DAY)})})


def predictions(s3: str) -> tuple[Folder, Manifest, pa.Table]:
    folder = Folder.at(below(s3, "predictions", f"dt={DAY}"))
    manifest = read_manifest(folder, kind="predictions", build_hint="")
    tables = [pq.read_table(folder.join(f.path), filesystem=folder.filesystem) for f in manifest.files]
    return folder, manifest, pa.concat_tables(tables)


@pytest.mark.ray
def test_predictions_are_published_replaced_and_survive_a_crash(run: tuple[str, list[str]]) -> None:
    s3, arguments = run
    assert predict.main(arguments) == 0
    _, first, table = predictions(s3)
    assert table.select(prediction_schema(SPEC, quantiles=False).names).num_rows == first.rows == 20

    publish_features(s3, seed=1)
    address = ray.get_runtime_context().gcs_address
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_PUBLISHING, *arguments],
        check=False,
        env=os.environ | {"RAY_ADDRESS": address},
        capture_output=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    folder, unchanged, same = predictions(s3)
    assert (unchanged, same.equals(table)) == (first, True)

    assert predict.main(arguments) == 0
    folder, second, other = predictions(s3)
    assert second.generation != first.generation
    assert other["advertiser_id"].to_pylist() != table["advertiser_id"].to_pylist()
    assert not folder.exists(first.files[0].path), "superseded, and the grace period is 0"
