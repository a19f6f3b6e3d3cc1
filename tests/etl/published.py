"""Reading published datasets and feature days back, as a reader does: only what the manifest lists."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from m2m_model.contracts.schema import sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, Manifest, read_manifest


def live_manifest(folder: Path, kind: str = "dataset") -> Manifest:
    return read_manifest(Folder.at(folder), kind=kind, build_hint="")


def read_rows(folder: Path, manifest: Manifest, **partition: str) -> pa.Table:
    paths = [file.path for file in manifest.select(**partition) if file.path.endswith(".parquet")]
    return pa.concat_tables([pq.read_table(folder / path, partitioning=None) for path in paths])


def read_spec(folder: Path, manifest: Manifest) -> DatasetSpec:
    (entry,) = manifest.select(role="spec")
    return DatasetSpec.read(folder / entry.path)


def features(table: pa.Table) -> pa.Table:
    return table.select([name for name in table.column_names if not name.startswith(("label_", "exposure_"))])


def feature_hash(table: pa.Table) -> str:
    return sorted_rows_hash(features(table))


def until(table: pa.Table, as_of: object) -> pa.Table:
    """Rows of as-of days not after ``as_of``."""
    return table.filter(pc.less_equal(table["as_of"], pa.scalar(as_of, pa.date32())))
