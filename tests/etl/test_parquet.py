"""Files of :mod:`etl.parquet`, read back by the readers that people use."""

import io
import random
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from etl.parquet import PAGE_BYTES, ParquetWriter

FLAT = {
    "few": (pa.string(), lambda n: [f"s{i % 3}" for i in range(n)]),
    "names": (pa.string(), lambda n: ["" if i % 7 == 0 else f"advertiser é {i}" for i in range(n)]),
    "ids": (pa.int64(), lambda n: [2**40 - i for i in range(n)]),
    "day": (pa.date32(), lambda n: np.arange(19_000, 19_000 + n, dtype=np.int32)),
    "small": (pa.int16(), lambda n: [i % 300 - 20 for i in range(n)]),
    "flag": (pa.bool_(), lambda n: [i % 3 == 0 for i in range(n)]),
    "label": (pa.float64(), lambda n: [i / 7 for i in range(n)]),
}
LISTS = {
    "bytes": (pa.int8(), 21, 18),
    "wide": (pa.int16(), 5, 16_000),
    "words": (pa.int32(), 3, 70_000),
    "dense": (pa.float32(), 4, 1),
    "history": (pa.float64(), 6, 1),
    "none": (pa.int32(), 0, 1),
}
SCHEMA = pa.schema(
    [pa.field(name, kind, nullable=False) for name, (kind, _) in FLAT.items()]
    + [pa.field(name, pa.list_(kind), nullable=False) for name, (kind, _, _) in LISTS.items()]
)


def make_table(rows: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    columns: dict[str, Any] = {name: pa.array(make(rows)).cast(kind) for name, (kind, make) in FLAT.items()}
    for name, (kind, length, limit) in LISTS.items():
        flat = (
            random.integers(0, limit + 1, rows * length) if pa.types.is_integer(kind) else random.random(rows * length)
        )
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * length)
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(flat).cast(kind, safe=False))
    return pa.table(columns, schema=SCHEMA)


def written(table: pa.Table, row_group_rows: int, compression: str = "zstd") -> bytes:
    sink = io.BytesIO()
    writer = ParquetWriter(sink, table.schema, compression)
    for first in range(0, table.num_rows, row_group_rows):
        writer.write_row_group(table.slice(first, row_group_rows))
    writer.close()
    return sink.getvalue()


@pytest.mark.parametrize("compression", ["zstd", "snappy", "none"])
@pytest.mark.parametrize("rows", [1, 7, 8, 1000])
def test_pyarrow_reads_what_was_written(rows: int, compression: str) -> None:
    table = make_table(rows)
    content = written(table, 300, compression)
    found = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    assert found.to_pylist() == table.to_pylist()
    assert [f.type.value_type if pa.types.is_list(f.type) else f.type for f in found.schema] == [
        f.type.value_type if pa.types.is_list(f.type) else f.type for f in table.schema
    ]
    metadata = pq.read_metadata(io.BytesIO(content))
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [
        min(300, rows - first) for first in range(0, rows, 300)
    ]


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), length=st.integers(0, 19), limit=st.sampled_from([1, 127, 255, 256, 32_000]))
def test_lists_of_any_length(rows: int, length: int, limit: int) -> None:
    values = np.random.default_rng(rows).integers(0, limit + 1, rows * length).astype(np.int32)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * length)
    column = pa.ListArray.from_arrays(offsets, pa.array(values))
    table = pa.table([column], schema=pa.schema([pa.field("ids", column.type, nullable=False)]))
    assert pq.read_table(io.BytesIO(written(table, 16))).to_pylist() == table.to_pylist()


def test_large_row_groups_are_cut_into_pages() -> None:
    rows = PAGE_BYTES // 100
    ids = np.random.default_rng(0).integers(0, 100, (rows, 300), np.int8)
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * 300)
    column = pa.ListArray.from_arrays(offsets, pa.array(ids.reshape(-1)))
    table = pa.table([column], schema=pa.schema([pa.field("ids", column.type, nullable=False)]))
    found = pq.read_table(io.BytesIO(written(table, rows)))["ids"].combine_chunks()
    assert np.array_equal(found.flatten().to_numpy().reshape(rows, 300), ids)


def test_a_file_without_rows() -> None:
    assert pq.read_table(io.BytesIO(written(make_table(3).slice(3), 5))).num_rows == 0


def test_a_damaged_page_is_noticed() -> None:
    table = make_table(2000).select(["bytes"])
    content = bytearray(written(table, 2000))
    content[len(content) // 2] ^= 0xFF
    with pytest.raises(OSError, match=r"CRC|checksum|corrupt"):
        pq.read_table(io.BytesIO(bytes(content)), page_checksum_verification=True)


def test_duckdb_and_polars_read_it(tmp_path: Path) -> None:
    table, path = make_table(1000), tmp_path / "rows.parquet"
    path.write_bytes(written(table, 300))
    names = [name for name in table.column_names if name != "dense"]  # a float prints differently in each
    relation = duckdb.sql(f"select * from '{path}'")
    assert relation.select(*map(duckdb.ColumnExpression, names)).fetchall() == [
        tuple(row.values()) for row in table.select(names).to_pylist()
    ]
    assert pl.read_parquet(path, columns=names).to_dicts() == table.select(names).to_pylist()


@pytest.mark.spark
@pytest.mark.parametrize("vectorized", ["true", "false"])
def test_spark_reads_it(spark: SparkSession, tmp_path: Path, vectorized: str) -> None:
    table, path = make_table(500), tmp_path / "rows.parquet"
    path.write_bytes(written(table, 300))
    spark.conf.set("spark.sql.parquet.enableNestedColumnVectorizedReader", vectorized)
    found = [row.asDict() for row in spark.read.parquet(str(path)).collect()]
    expected = table.to_pylist()
    for row in random.Random(0).sample(range(500), 50):
        assert found[row] == expected[row]
