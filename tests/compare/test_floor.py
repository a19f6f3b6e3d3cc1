"""The floor of a synthetic world as a contender: its cell is that of the truth's forecasts, row by row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.spec import task_columns
from tests.training.datasets import write_dataset
from tests.training.tiny import SPEC
from training.compare.floor import floor_sums
from training.compare.run_cell import open_dataset
from training.compare.sums import SUMS
from training.published import parquet_files


def write_truth(dataset: Path, folder: Path, *, rows: slice = slice(None)) -> pa.Table:
    """A truth that says the labels, and half of them for the mean, under the floor that is asked for alone."""
    manifest, source = open_dataset(str(dataset), batch_size=1000)
    entries = parquet_files(manifest, split="test")
    table = pa.concat_tables([table for entry in entries for table in source.tables(entry)])
    table = table.filter(table["eligible"])
    columns = {key: table[key] for key in KEYS}
    for task, label in zip(SPEC.task_names, task_columns(SPEC, "label"), strict=True):
        values = table[label].to_numpy()
        columns |= {f"{task}_mean": values / 2, f"{task}_median": values, f"{task}_smape": values}
    truth = pa.table(columns)
    order = np.random.default_rng(3).permutation(len(truth))[rows]
    folder.mkdir()
    for part, floor in ((0, "observable"), (1, "observable"), (0, "bayes")):
        scale = pa.array([floor] * len(order)), pa.array([part] * len(order), pa.int32())
        written = truth.take(order).append_column("floor", scale[0]).append_column("part", scale[1])
        if (part, floor) != (0, "observable"):
            written = written.set_column(
                len(KEYS), f"{SPEC.task_names[0]}_mean", pa.array(np.full(len(order), 1e9), pa.float64())
            )
        pq.write_table(written, folder / f"{floor}-{part}.parquet")
    return table


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    write_dataset(
        folder, SPEC, rows_per_day=[10], row_group_rows=20, other_splits={"validation": [10], "test": (40, 0, 30)}
    )
    return folder


def test_the_truth_s_forecasts_are_summed_as_a_model_s(dataset: Path, tmp_path: Path) -> None:
    rows = write_truth(dataset, tmp_path / "truth")
    cell = floor_sums(str(dataset), tmp_path / "truth", "observable", batch_size=16, leave_out=())
    total = {kind: sums.sum(axis=(1, 2, 3)) for kind, sums in cell.forecasts.items()}
    labels = np.array([rows[name].to_numpy().sum() for name in task_columns(SPEC, "label")])
    for kind in ("point", "smape"):
        np.testing.assert_array_equal(total[kind][SUMS.index("absolute_error")], 0)
        np.testing.assert_array_equal(total[kind][SUMS.index("rows")], len(rows))
    np.testing.assert_allclose(total["mean"][SUMS.index("absolute_error")], labels / 2)


def test_a_row_without_a_floor_is_named(dataset: Path, tmp_path: Path) -> None:
    write_truth(dataset, tmp_path / "truth", rows=slice(5))
    with pytest.raises(UserError, match="must have a floor for every eligible test row"):
        floor_sums(str(dataset), tmp_path / "truth", "observable", batch_size=16, leave_out=())
