"""A published dataset as seen from the training side: its files, its spec, and its columns as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import torch

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, exposure_columns, task_columns
from m2m_model.contracts.store import FileEntry, Folder, damaged_file, first_line, read_manifest
from m2m_model.losses import LabelStatistics

PAGE_CHECKSUMS = int(pa.__version__.partition(".")[0]) >= 15
"""Whether this pyarrow verifies the checksums of Parquet pages as it reads them; petastorm's does not."""


REBUILD = "rebuild the dataset"


@dataclass(frozen=True)
class SplitFiles:
    """The Parquet files of one split, or of several, in manifest order."""

    folder: Folder
    files: tuple[FileEntry, ...]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def check_sizes(self) -> None:
        """Raises UserError, naming the file, if one is missing or has another size than the manifest says."""
        infos = self.folder.filesystem.get_file_info([self.folder.join(file.path) for file in self.files])
        for file, info in zip(self.files, infos, strict=True):
            if info.type == pafs.FileType.NotFound:
                raise self._damaged(file, "the file is missing")
            if info.size != file.bytes:
                raise self._damaged(file, f"must have {file.bytes} bytes, however: {info.size}")

    def _damaged(self, file: FileEntry, reason: str) -> UserError:
        return damaged_file(self.folder, file, reason, hint=REBUILD)

    def find_damage(self, files: Sequence[FileEntry] | None = None) -> UserError | None:
        """The error that names the first of ``files`` (default: all) whose content is not what was published."""
        try:
            self.folder.check_content(self.files if files is None else files, hint=REBUILD)
        except UserError as error:
            return error
        return None

    def read(self, file: FileEntry, row_groups: Sequence[int], names: Sequence[str]) -> pa.Table:
        """Columns of some row groups.

        Raises:
            UserError: the file is missing or damaged, or is not what the manifest says; the message names it.
        """
        options = {"page_checksum_verification": True} if PAGE_CHECKSUMS else {}
        try:
            with self.folder.filesystem.open_input_file(self.folder.join(file.path)) as stream:
                parquet = pq.ParquetFile(stream, **options)
                refuse_extension_types(parquet.schema_arrow, f"{self.folder.uri}/{file.path}")
                table = parquet.read_row_groups(list(row_groups), columns=list(names))
        except UserError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(file, first_line(error)) from None
        except Exception as error:  # what a damaged footer makes pyarrow raise is anybody's guess
            raise (self.find_damage([file]) or error) from None
        # pyarrow leaves out columns that a file does not have, and a batch takes missing labels for zeros.
        if missing := set(names) - set(table.column_names):
            raise self._damaged(file, f"it lacks {', '.join(sorted(missing))}")
        if len(table) != (rows := sum(file.row_groups[number] for number in row_groups)):
            raise self._damaged(file, f"row groups {list(row_groups)} must have {rows} rows, however: {len(table)}")
        return table


def refuse_extension_types(schema: pa.Schema, where: str) -> None:
    """Only plain columns are read: Ray's type for Python objects, for one, unpickles what it holds on conversion.

    Raises:
        UserError: a column has an extension type; the message names it.
    """
    for field in schema:
        if _has_extension_type(field.type):
            raise UserError(f"{where}: column {field.name!r} must be of a plain type, however: {field.type}")


def _has_extension_type(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_extension_type(kind.value_type)
    nested = (kind.field(position).type for position in range(kind.num_fields))
    return isinstance(kind, pa.BaseExtensionType) or any(map(_has_extension_type, nested))


def open_split(location: str, *splits: str) -> SplitFiles:
    """Files of one or more splits of the dataset published at ``location``."""
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind="dataset", build_hint="run m2m build first")
    files = SplitFiles(folder, tuple(entry for split in splits for entry in manifest.select(split=split)))
    files.check_sizes()
    return files


def batch_column_names(spec: DatasetSpec) -> list[str]:
    """The columns that a batch is made of."""
    names = ["scenario_index", "eligible", "behavior_ids", "performance_ids", "profile_ids", "attribute_ids", "dense"]
    return [*names, *task_columns(spec, "history"), *task_columns(spec, "label"), *exposure_columns(spec).values()]


def label_statistics(split: SplitFiles, spec: DatasetSpec) -> LabelStatistics:
    """Sums of a split's labels by scenario, from its label columns alone."""
    label_sums = np.zeros((len(spec.scenarios) + 1, len(spec.tasks)))
    exposure_sums = np.zeros(len(spec.tasks))
    labels, exposures = list(task_columns(spec, "label")), exposure_columns(spec)
    names = ["scenario_index", *labels, *exposures.values()]
    for file in split.files:
        table = split.read(file, range(len(file.row_groups)), names)
        scenario = table["scenario_index"].to_numpy()
        for index, name in enumerate(labels):
            label_sums[:, index] += np.bincount(scenario, table[name].to_numpy(), minlength=len(label_sums))
            exposed = table[exposures[index]].to_numpy().sum() if index in exposures else len(table)
            exposure_sums[index] += exposed
    return LabelStatistics(
        rows=split.rows,
        label_sums=torch.from_numpy(label_sums),
        exposure_sums=torch.from_numpy(exposure_sums),
    )


def batch_columns(table: pa.Table, spec: DatasetSpec) -> dict[str, np.ndarray]:
    """The batch columns that ``table`` has as arrays: [rows], or [rows, length] for lists.

    Raises:
        UserError: a column holds nulls, or its lists differ in length.
    """
    wanted: Sequence[str] = [name for name in batch_column_names(spec) if name in table.column_names]
    return {name: _array(table[name], name) for name in wanted}


def _array(column: pa.ChunkedArray, name: str) -> np.ndarray:
    if column.null_count:
        raise UserError(f"{name} must not be null, however: {column.null_count} of {len(column)} rows are")
    if not pa.types.is_list(column.type):
        values: np.ndarray = column.to_numpy()
        return values
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # pyarrow < 15 keeps an empty column chunked
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    flat = array.flatten().to_numpy(zero_copy_only=False)
    rows = len(array)
    if rows == 0:
        return np.zeros((0, 0), flat.dtype)
    lengths = pc.min_max(pc.list_value_length(array)).as_py()
    if lengths["min"] != lengths["max"]:
        raise UserError(f"{name} must have lists of one length, however: {lengths['min']} to {lengths['max']}")
    reshaped: np.ndarray = flat.reshape(rows, lengths["max"])
    return reshaped
