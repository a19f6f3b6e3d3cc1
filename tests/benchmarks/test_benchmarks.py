"""The benchmarks' worlds are what they say, and every benchmark can be started."""

import importlib
import json
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks.predict.day import KEYS, day_keys, write_day
from benchmarks.train.keys import HISTOGRAMS, batches
from benchmarks.train.world import BATCH_ROWS, paper_spec
from m2m_model.contracts.store import Folder, read_manifest
from training.published import parquet_files
from training.scoring import Source

ELSEWHERE = "benchmarks.train.peer"
"""Runs in the peer's environment."""
MODULES = [module.name for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]


@pytest.mark.parametrize("name", [name for name in MODULES if name != ELSEWHERE and not name.endswith("__main__")])
def test_every_module_can_be_imported(name: str) -> None:
    importlib.import_module(name)


def test_the_files_of_a_day_share_its_rows_and_more_rows_bring_keys_of_their_own() -> None:
    histogram = json.loads(KEYS.read_text())
    half = histogram["rows"] // 2
    both = np.concatenate([day_keys(half, part=part, parts=2) for part in range(2)])
    sizes, keys = np.unique(np.unique(both, return_counts=True)[1], return_counts=True)
    assert dict(zip(sizes.tolist(), keys.tolist(), strict=True)) == {
        int(size): count for size, count in histogram["keys_by_rows"].items()
    }
    more = day_keys(2 * half, part=0, parts=2)
    assert len(np.unique(more)) == pytest.approx(2 * len(np.unique(day_keys(half, part=0, parts=2))), rel=0.01)


def test_a_day_can_be_scored(tmp_path: Path) -> None:
    write_day(tmp_path, files=2, rows=300)
    entries = parquet_files(read_manifest(Folder.at(tmp_path), kind="features", build_hint=""))
    source = Source(location=str(tmp_path), spec=paper_spec(), batch_size=1000)
    (tables, _) = (list(source.tables(entry)) for entry in entries)
    batch = source.batch(tables[0])
    assert batch.behavior.shape == (300, 40, 5)
    ids = np.concatenate([batch.profile.numpy(), batch.attributes.numpy()], axis=1)
    assert len(np.unique(ids, axis=0)) == len(np.unique(day_keys(300, part=0, parts=2)))


@pytest.mark.parametrize("source", ["16", *HISTOGRAMS, *(f"{name}_grouped" for name in HISTOGRAMS)])
def test_batches_of_keys(source: str) -> None:
    keys = next(batches(source, seed=0))
    assert keys.shape == (BATCH_ROWS,)
    if source.isdigit():
        assert len(np.unique(keys)) == int(source)
