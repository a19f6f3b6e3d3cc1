"""What a sample costs in each layout: sort order, encoding and codec of the sequence columns.

``python -m benchmarks.etl.layouts`` takes the sequences of weekly training days and writes them in every layout: bytes
per sample, and nanoseconds of processor time per id to write and to read. Twice: with features of the own scenario, and
with sequences that hold the features of every scenario, which all rows of an advertiser then share. The rows are the
Polars contender's, which equal the real build's and need no JVM.
"""

import argparse
import io
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.etl import polars_build
from benchmarks.etl.rows import SCHEMA as ALL_COLUMNS
from benchmarks.etl.world import HORIZON, LENGTH, Shape, make_config, write_world
from etl.parquet import ParquetWriter
from m2m_model.contracts.schema import KEYS

SHAPE = Shape(advertisers=400, days=LENGTH + HORIZON + 7 * 12, participation=(0.9,) * 3)
COLUMNS = ("behavior_ids", "performance_ids")
SCHEMA = pa.schema([ALL_COLUMNS.field(name) for name in (*KEYS, *COLUMNS)])
ROW_GROUP_ROWS = 2048
REPEATS = 2


@dataclass(frozen=True)
class Layout:
    name: str
    write: Callable[[pa.Table], bytes]
    order: str = "advertiser"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/bench-layouts"))
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    write_world(SHAPE, folder / "raw")
    polars_build.build(make_config(SHAPE), str(folder / "raw"), str(folder / "out"))
    own = [
        pa.concat_tables(
            pq.read_table(path, partitioning=None).select([*KEYS, *COLUMNS]).cast(SCHEMA) for path in paths
        )
        for paths in (sorted(day.iterdir()) for day in sorted((folder / "out" / "split=train").iterdir()))
    ]
    for scope, days in (("own", own), ("each_scenario", [of_every_scenario(day) for day in own])):
        ids = sum(len(days[0][name].combine_chunks().flatten()) for name in COLUMNS) // days[0].num_rows
        rows = sum(day.num_rows for day in days)
        print(
            f"\nscope {scope}, {len(SHAPE.scenarios)} scenarios, {len(days)} weekly days: "
            f"{rows:,} samples of {ids} ids\n"
        )
        print("| layout | rows sorted by | a file holds | bytes per sample | write ns/id | read ns/id |")
        print("|---|---|---|---|---|---|")
        for files, tables in (("one day", days), ("all days", [pa.concat_tables(days)])):
            for layout in LAYOUTS:
                size, write, read = measured(layout, [ordered(table, layout.order) for table in tables])
                line = f"| {layout.name} | {layout.order} | {files} | {size:.1f} | {write:.2f} | {read:.2f} |"
                print(line, flush=True)


def of_every_scenario(day: pa.Table) -> pa.Table:
    """The rows of a day with, day by day, the ids of all scenarios of their advertiser, 1 where it has no row."""
    advertisers, row_of = np.unique(day["advertiser_id"].to_numpy(), return_inverse=True)
    scenario = pc.index_in(day["scenario_id"], pa.array(SHAPE.scenarios)).to_numpy()
    for name in COLUMNS:
        ids = day[name].combine_chunks().flatten().to_numpy().reshape(day.num_rows, LENGTH, -1)
        shared = np.ones((len(advertisers), LENGTH, len(SHAPE.scenarios), ids.shape[2]), np.int8)
        shared[row_of, :, scenario] = ids
        flat = shared[row_of].reshape(day.num_rows, -1)
        offsets = pa.array(np.arange(day.num_rows + 1, dtype=np.int32) * flat.shape[1])
        column = pa.ListArray.from_arrays(offsets, pa.array(flat.reshape(-1)))
        day = day.set_column(day.schema.get_field_index(name), name, column)
    return day


def ordered(table: pa.Table, order: str) -> pa.Table:
    if order == "advertiser":
        return table.take(pc.sort_indices(table, [(key, "ascending") for key in KEYS])).select(COLUMNS)
    return table.take(pa.array(np.random.default_rng(0).permutation(table.num_rows))).select(COLUMNS)


def measured(layout: Layout, tables: list[pa.Table]) -> tuple[float, float, float]:
    """Bytes per sample, and the best of some nanoseconds per id to write and to read."""
    ids = sum(table[name].combine_chunks().flatten().__len__() for table in tables for name in COLUMNS)
    samples = sum(table.num_rows for table in tables)
    tables = [table.combine_chunks() for table in tables]
    write, read, contents = [], [], []
    for _ in range(REPEATS):
        started = time.process_time()
        contents = [layout.write(table) for table in tables]
        write.append(time.process_time() - started)
        started = time.process_time()
        for content in contents:
            pq.read_table(io.BytesIO(content), use_threads=False)
        read.append(time.process_time() - started)
    return sum(map(len, contents)) / samples, min(write) / ids * 1e9, min(read) / ids * 1e9


def _own(compression: str) -> Callable[[pa.Table], bytes]:
    def write(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        kinds = [pa.field(name, table.schema.field(name).type, nullable=False) for name in COLUMNS]
        writer = ParquetWriter(sink, pa.schema(kinds), compression)
        for first in range(0, table.num_rows, ROW_GROUP_ROWS):
            writer.write_row_group(table.slice(first, ROW_GROUP_ROWS))
        writer.close()
        return sink.getvalue()

    return write


def _arrow(**options: object) -> Callable[[pa.Table], bytes]:
    def write(table: pa.Table) -> bytes:
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=ROW_GROUP_ROWS, write_page_checksum=True, **options)
        return sink.getvalue()

    return write


def _encoded(encoding: str) -> dict[str, object]:
    return {"use_dictionary": False, "column_encoding": {f"{name}.list.element": encoding for name in COLUMNS}}


LAYOUTS = (
    Layout("byte-aligned dictionary indices, zstd (chosen)", _own("zstd")),
    Layout("byte-aligned dictionary indices, zstd", _own("zstd"), "nothing"),
    Layout("byte-aligned dictionary indices, snappy", _own("snappy")),
    Layout("byte-aligned dictionary indices, none", _own("none")),
    Layout("bit-packed dictionary (pyarrow's default), zstd", _arrow(compression="zstd")),
    Layout("bit-packed dictionary, zstd level 9", _arrow(compression="zstd", compression_level=9)),
    Layout("bit-packed dictionary, snappy", _arrow(compression="snappy")),
    Layout("PLAIN int32, zstd", _arrow(compression="zstd", use_dictionary=False)),
    Layout("DELTA_BINARY_PACKED, zstd", _arrow(compression="zstd", **_encoded("DELTA_BINARY_PACKED"))),
    Layout("BYTE_STREAM_SPLIT, zstd", _arrow(compression="zstd", **_encoded("BYTE_STREAM_SPLIT"))),
)

if __name__ == "__main__":
    main()
