"""What a published day or dataset holds: its spec, its Parquet files and their rows."""

import datetime
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, damaged_file, first_line


def read_spec(folder: Folder, manifest: Manifest) -> DatasetSpec:
    """The spec that the rows of a published folder were built with."""
    (entry,) = manifest.select(role="spec")
    text = folder.read_file(entry, hint=f"make the {manifest.kind} again").decode()
    return DatasetSpec.from_json(text, source=f"{folder.uri}/{entry.path}")


def parquet_files(manifest: Manifest, **partition: str) -> tuple[FileEntry, ...]:
    return tuple(entry for entry in manifest.select(**partition) if entry.path.endswith(".parquet"))


def newest_input_days(features: Manifest) -> dict[str, datetime.date | None]:
    """Per raw table, the newest day of it that the features were made from; None where it is not filed by day, or has
    no file of the days that were looked at (see :func:`tables_without_files`)."""
    filed = {
        table: [part for part in parts or () if part[:4].isdigit()]
        for table, parts in features.content.get("inputs", {}).items()
    }
    return {table: datetime.date.fromisoformat(max(days)) if days else None for table, days in filed.items()}


def tables_without_files(features: Manifest) -> tuple[str, ...]:
    """Raw tables that are filed by day, and have no file of the days that the features could be made from."""
    return tuple(table for table, parts in features.content.get("inputs", {}).items() if parts == {})


def paired_files(features: Manifest, predictions: Manifest) -> list[tuple[FileEntry, FileEntry]]:
    """Each file of features with that of its predictions, which has its name."""
    by_name = {_name(entry): entry for entry in parquet_files(predictions)}
    return [(entry, by_name[_name(entry)]) for entry in parquet_files(features)]


def read_rows(
    folder: Folder, entry: FileEntry, columns: Sequence[str] | None, *, hint: str = "make that day again"
) -> pa.Table:
    """One Parquet file of a published folder, in memory, as it was published.

    Raises:
        UserError: it is missing or damaged; ``hint`` says what to do.
    """
    folder.check_content([entry], hint=hint)
    try:
        with folder.filesystem.open_input_file(folder.join(entry.path)) as stream:
            return pq.read_table(stream, columns=None if columns is None else list(columns)).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise damaged_file(folder, entry, first_line(error), hint=hint) from None


def _name(entry: FileEntry) -> str:
    return entry.path.rpartition("/")[2]
