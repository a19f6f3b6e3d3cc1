"""Hostile published folders: manifests that point elsewhere, columns that would be unpickled, specs that lie."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from ray.data.extensions import ArrowPythonObjectArray

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import MANIFEST
from tests.security.payload import Payload
from tests.training.tiny import SPEC, publish_tables, random_table
from training.dataset import open_split
from training.published import parquet_files
from training.scoring import Source

TRAIN = {"split": "train", "dt": "2017-03-01"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    publish_tables(str(tmp_path / "dataset"), "dataset", {"train-0": (random_table(8, seed=0, labels=True), TRAIN)})
    return tmp_path / "dataset"


def edit(folder: Path, **changes: Any) -> None:
    """Change the manifest's entry of the Parquet file."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][-1] |= changes
    (folder / MANIFEST).write_text(json.dumps(manifest))


def parquet_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.parquet")
    return path


@pytest.mark.parametrize(
    "path",
    ["../../etc/passwd", "/etc/passwd", "data/../../x", "data//x", "./x", "", "data/..", "..\\x", "data/\0x", "data/."],
)
def test_a_manifest_names_only_files_of_its_folder(dataset: Path, path: str) -> None:
    edit(dataset, path=path)
    with pytest.raises(UserError, match="is damaged"):
        open_split(str(dataset), "train")


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_that_lead_out_are_refused(tmp_path: Path, dataset: Path, linked: str) -> None:
    path = parquet_file(dataset)
    source = path if linked == "file" else path.parent
    shutil.move(source, tmp_path / "elsewhere")
    source.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link that leads out of the published folder"):
        open_split(str(dataset), "train")


def test_the_folder_itself_may_be_a_link(tmp_path: Path, dataset: Path) -> None:
    (tmp_path / "link").symlink_to(dataset)
    assert open_split(str(tmp_path / "link"), "train").rows == 8


@pytest.mark.parametrize("column", ["dense", "scenario_id", "label_units", "advertiser_id"])
def test_python_objects_in_a_column_are_not_unpickled(tmp_path: Path, column: str) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Payload(trace) for _ in range(8)], dtype=object)
    table = random_table(8, seed=0, labels=True)
    position = table.column_names.index(column)
    array = ArrowPythonObjectArray.from_objects(objects)
    if column == "dense":
        array = pa.FixedSizeListArray.from_arrays(array, 1)
    table = table.set_column(position, column, array)
    location = str(tmp_path / "dataset")
    manifest = publish_tables(location, "dataset", {"train-0": (table, TRAIN)})
    (file,) = parquet_files(manifest)
    with pytest.raises(UserError, match=f"column '{column}' must be of a plain type"):
        open_split(location, "train").read(file, 0, SPEC)
    with pytest.raises(UserError, match=f"column '{column}' must be of a plain type"):
        list(Source(location=location, spec=SPEC, batch_size=4).tables(file))
    assert not trace.exists()


def test_ids_outside_the_embedding_tables_are_refused(tmp_path: Path) -> None:
    table = random_table(8, seed=0, labels=True)
    ids = pa.array([[127] * 4] * 8, table.schema.field("behavior_ids").type)
    table = table.set_column(table.column_names.index("behavior_ids"), table.schema.field("behavior_ids"), ids)
    location = str(tmp_path / "dataset")
    manifest = publish_tables(location, "dataset", {"train-0": (table, TRAIN)})
    source = Source(location=location, spec=SPEC, batch_size=8)
    (rows,) = source.tables(parquet_files(manifest)[0])
    with pytest.raises(UserError, match="outside its feature's range"):
        source.batch(rows)


@pytest.mark.parametrize(
    "changes",
    [
        {"horizon": 14},
        {"schema_version": 2},
        {"tasks": []},
        {"scenarios": None},
        {"__class__": "os.system"},
        {"activity": {"table": "performance", "expr": "(select 1)", "min_active_days": 1}},
    ],
)
def test_an_edited_spec_is_refused(changes: dict[str, Any]) -> None:
    content = json.loads(SPEC.to_json()) | changes
    with pytest.raises(UserError, match=r"was edited or damaged|is not a dataset spec"):
        DatasetSpec.from_json(json.dumps(content), source="spec.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"feature_fingerprint": 1}', "[" * 100_000])
def test_no_spec_at_all_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a dataset spec"):
        DatasetSpec.from_json(text, source="spec.json")
