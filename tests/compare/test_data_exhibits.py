"""Tables 1 and 3 against counts by hand."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from tests.training.datasets import write_dataset
from tests.training.tiny import SPEC
from training.compare.data_exhibits import TABLE1, TABLE3, data_markdown, write_data_exhibits


def test_sizes_zeros_and_correlations_of_eligible_rows(tmp_path: Path) -> None:
    dataset, out = tmp_path / "dataset", tmp_path / "out"
    splits = {"validation": [50], "test": [70, 70]}
    write_dataset(dataset, SPEC, rows_per_day=[60, 60], row_group_rows=20, other_splits=splits)
    assert data_markdown(out) == []
    write_data_exhibits(dataset, out)
    files = [str(path) for path in dataset.rglob("*.parquet")]
    table: pa.Table = pads.dataset(files, partitioning="hive", partition_base_dir=str(dataset)).to_table()
    frame = table.select(["split", "scenario_id", "advertiser_id", "as_of", "eligible", "label_units"]).to_pandas()
    frame = frame[frame["eligible"]]
    with (out / TABLE3).open() as file:
        sizes = list(csv.DictReader(file))
    assert len(sizes) == 3 * len(SPEC.scenarios)
    for row in sizes:
        own = frame[(frame["split"] == row["split"]) & (frame["scenario_id"] == row["scenario"])]
        assert int(row["samples"]) == len(own)
        assert int(row["advertisers"]) == own["advertiser_id"].nunique()
        assert int(row["days"]) == own["as_of"].nunique()
        assert float(row["zero_units"]) == pytest.approx(np.mean(own["label_units"] == 0))
    with (out / TABLE1).open() as file:
        pairs = list(csv.DictReader(file))
    assert {(row["task"], row["scenario_a"], row["scenario_b"]) for row in pairs} == {
        ("units", "b", "a"),
        ("days", "b", "a"),
    }
    page = "\n".join(data_markdown(out))
    assert f"| {sizes[0]['split']}, a | 2 |" in page
