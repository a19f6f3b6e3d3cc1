"""What a sample costs in each layout: sort order, encoding and codec of the sequence columns.

``python -m benchmarks.etl.layouts`` builds two datasets, one of features of the own scenario, one whose sequences hold
the features of every scenario, reads the sequences of their training days back and writes them again in every layout:
bytes per sample, and nanoseconds per id to write and to read on one core.
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

from benchmarks.etl.measure import run
from benchmarks.etl.world import HORIZON, LENGTH, Shape, write_world
from etl.parquet import ParquetWriter
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.store import Folder, read_manifest

SHAPES = (
    Shape(advertisers=1_000, days=LENGTH + HORIZON + 7 * 12),
    Shape(advertisers=200, days=LENGTH + HORIZON + 7 * 12, participation=(0.9,) * 5, scope="each_scenario"),
)
COLUMNS = ("behavior_ids", "performance_ids")
ROW_GROUP_ROWS = 2048
REPEATS = 3


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
    for shape in SHAPES:
        raw, out = folder / f"raw-{shape.scope}", folder / f"out-{shape.scope}"
        write_world(shape, raw)
        run("ours", shape, raw=raw, out=out)
        days = read_days(str(out))
        ids = sum(len(days[0][name].combine_chunks().flatten()) for name in COLUMNS) // days[0].num_rows
        print(f"\nscope {shape.scope}, {len(shape.scenarios)} scenarios: {ids} ids per sample\n")
        print("| layout | rows sorted by | a file holds | bytes per sample | write ns/id | read ns/id |")
        print("|---|---|---|---|---|---|")
        for files, tables in (("one day", days), ("all days", [pa.concat_tables(days)])):
            for layout in LAYOUTS:
                size, write, read = measured(layout, [ordered(table, layout.order) for table in tables])
                line = f"| {layout.name} | {layout.order} | {files} | {size:.1f} | {write:.2f} | {read:.2f} |"
                print(line, flush=True)


def read_days(dataset: str) -> list[pa.Table]:
    """Keys and sequences of every training day."""
    folder = Folder.at(dataset)
    manifest = read_manifest(folder, kind="dataset", build_hint="build it first")
    by_day: dict[str, list[str]] = {}
    for file in manifest.select(split="train"):
        by_day.setdefault(file.partition["dt"], []).append(folder.join(file.path))
    names = [*KEYS, *COLUMNS]
    return [
        pa.concat_tables(pq.read_table(p, columns=names, partitioning=None) for p in by_day[d]) for d in sorted(by_day)
    ]


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
