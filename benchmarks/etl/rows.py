"""What a contender wrote: its files, its rows, and a hash that is equal for equal rows.

Compared are the columns that all contenders write: the split, the keys, both bucketized sequences and the labels. The
real build writes more beside them (history, dense values, profile and scenario ids), and pays for it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.etl.world import TASKS

SCHEMA = pa.schema(
    [
        ("advertiser_id", pa.int64()),
        ("scenario_id", pa.string()),
        ("as_of", pa.date32()),
        ("behavior_ids", pa.list_(pa.int8())),
        ("performance_ids", pa.list_(pa.int8())),
        *((f"label_{task}", pa.float64()) for task in TASKS),
    ]
)
KEYS = ("advertiser_id", "scenario_id")


@dataclass(frozen=True)
class Written:
    rows: int
    bytes: int
    files: int
    row_groups: int
    codecs: frozenset[str]
    digest: str


def written(folder: Path) -> Written:
    """Read everything below ``folder`` back, an as-of day at a time."""
    digest, rows, files, row_groups, codecs = hashlib.sha256(), 0, 0, 0, set()
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    for split, paths in _days(folder):
        for path in paths:
            metadata = pq.read_metadata(path)
            row_groups += metadata.num_row_groups
            codecs.add(metadata.row_group(0).column(0).compression)
        files += len(paths)
        table = pa.concat_tables(
            pq.read_table(path, partitioning=None).select(SCHEMA.names).cast(SCHEMA) for path in paths
        )
        rows += table.num_rows
        digest.update(split.encode())
        _update(digest, table.take(pc.sort_indices(table, [(key, "ascending") for key in KEYS])))
    return Written(rows, size, files, row_groups, frozenset(codecs), digest.hexdigest())


def _days(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Files of every ``split=.../dt=...`` folder, by split and day."""
    by_day: dict[str, list[Path]] = {}
    for path in folder.rglob("*.parquet"):
        by_day.setdefault("/".join(path.parts[-3:-1]), []).append(path)
    yield from sorted(by_day.items())


def _update(digest: "hashlib._Hash", table: pa.Table) -> None:
    for name in SCHEMA.names:
        array = table[name].combine_chunks()
        if pa.types.is_string(array.type):
            digest.update("\n".join(array.to_pylist()).encode())
        elif pa.types.is_list(array.type):
            digest.update(pc.list_value_length(array).to_numpy().tobytes())
            digest.update(array.flatten().to_numpy().tobytes())
        else:
            values = array.cast(pa.int32()) if pa.types.is_date(array.type) else array
            digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
