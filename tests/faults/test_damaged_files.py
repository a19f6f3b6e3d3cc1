"""Published files that are truncated, bit-flipped or missing: refused by name, or without any effect."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import predict
from m2m_model.contracts.errors import UserError
from tests.faults.fault import Fault
from tests.faults.processes import local_ray
from tests.faults.reader import watched
from tests.faults.world import FEATURES, PREDICTIONS, publish_features, read_day, ready_run, whole
from tests.training.datasets import write_dataset
from tests.training.tiny import SPEC
from training.dataset import label_statistics, open_split
from training.readers.parquet import ParquetReader

DAMAGES = ("truncated", "bit-flipped", "missing")


def damage(path: Path, how: str, fault: Fault) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    at = fault.random.randrange(len(content))
    if how == "truncated":
        path.write_bytes(content[:at])
        return
    # Every other flip hits the end, where the footer is.
    at = fault.random.randrange(max(0, len(content) - 600), len(content)) if fault.repetition % 2 else at
    content[at] ^= 1 << fault.random.randrange(8)
    path.write_bytes(content)


def an_epoch(location: Path) -> str:
    """Hash of all that training takes from a dataset: label statistics, then every batch."""
    split = open_split(str(location), "train")
    statistics, digest = label_statistics(split, SPEC), hashlib.sha256()
    digest.update(statistics.label_sums.numpy().tobytes())
    reader = ParquetReader(
        split=split, spec=SPEC, batch_size=16, seed=0, shuffle_blocks=2, group_rows=1, rank=0, world=1
    )
    for batch, _ in reader.epoch(0):
        for tensor in (batch.labels, batch.behavior, batch.performance, batch.attributes, batch.profile, batch.history):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.faults("a Parquet file of the dataset")
@pytest.mark.parametrize("how", DAMAGES)
def test_training_reads_the_same_or_refuses(fault: Fault, how: str, tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, SPEC, rows_per_day=(40, 25), row_group_rows=16)
    whole = an_epoch(tmp_path)
    victim = fault.random.choice([file for file in manifest.files if file.path.endswith(".parquet")])
    damage(tmp_path / victim.path, how, fault)
    found = outcome(tmp_path)
    assert found == whole or victim.path in found
    fault.saw.append("read as before" if found == whole else "error names the file")


def outcome(location: Path) -> str:
    try:
        return an_epoch(location)
    except UserError as error:
        return str(error)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A run whose day is predicted, and its job's arguments."""
    out = tmp_path_factory.mktemp("run")
    with local_ray(1):
        arguments = ready_run(out / "config.toml", str(out))
        assert predict.main(arguments) == 0
        assert whole(str(out))
        yield out, arguments


@pytest.mark.ray
@pytest.mark.faults("a file of the day's features")
@pytest.mark.parametrize("how", DAMAGES)
def test_prediction_is_refused(fault: Fault, how: str, run: tuple[Path, list[str]]) -> None:
    out, arguments = run
    before = read_day(str(out))
    features = publish_features(str(out), seed=1)
    victim = fault.random.choice(features.files)
    damage(out / FEATURES / victim.path, how, fault)
    with watched(out / PREDICTIONS) as seen, pytest.raises(UserError, match=victim.path.rpartition("/")[2]):
        predict.main(arguments)
    assert read_day(str(out)) == before
    assert len(seen[0].generations) == 1
    fault.saw.append("error names the file, old generation whole")
