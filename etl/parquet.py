"""A Parquet writer for dataset rows: required flat columns and required lists of one fixed length.

General writers walk a list column value by value: levels, dictionary look-ups, bit-packing. Here every row of a list
column has the same length, so its levels are one constant, and ids below 256 are dictionary indices of 8 bits: the
bytes of the array are the page. That costs a copy and the compression, and rows stay byte-aligned, so that zstd finds
what neighbouring days and rows share. What comes out is plain Parquet (format version 1, pages with checksums) that
every reader understands; the tests read it back with pyarrow, Spark, DuckDB and Polars.

Source: the Apache Parquet format specification (parquet.thrift, Encodings.md).
"""

import zlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from etl.thrift import Value, binary, i32, i64, list_, struct, varint

PAGE_BYTES = 1 << 20
"""Pages hold whole rows and about this many bytes before compression."""
MAGIC = b"PAR1"
CODECS = {"none": 0, "snappy": 1, "zstd": 6}
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_REQUIRED, _OPTIONAL, _REPEATED = 0, 1, 2
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_UTF8, _LIST, _DATE, _INT8, _INT16 = 0, 3, 6, 15, 16
_BOOLEAN, _INT32, _INT64, _FLOAT, _DOUBLE, _BYTE_ARRAY = 0, 1, 2, 4, 5, 6

_TYPES: dict[pa.DataType, tuple[int, int | None, Any]] = {
    pa.bool_(): (_BOOLEAN, None, np.bool_),
    pa.int8(): (_INT32, _INT8, np.int32),
    pa.int16(): (_INT32, _INT16, np.int32),
    pa.int32(): (_INT32, None, np.int32),
    pa.date32(): (_INT32, _DATE, np.int32),
    pa.int64(): (_INT64, None, np.int64),
    pa.float32(): (_FLOAT, None, np.float32),
    pa.float64(): (_DOUBLE, None, np.float64),
    pa.string(): (_BYTE_ARRAY, _UTF8, None),
}
"""Arrow type -> Parquet's physical type, its converted type, and how numpy holds the physical values."""


class Sink(Protocol):
    def write(self, data: bytes) -> Any: ...


@dataclass
class ParquetWriter:
    """Writes row groups of ``schema`` to ``sink``; the caller closes the sink after :meth:`close`."""

    sink: Sink
    schema: pa.Schema
    compression: str
    position: int = 0
    rows: int = 0
    row_groups: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._codec = None if self.compression == "none" else pa.Codec(self.compression)
        self._write(MAGIC)

    def write_row_group(self, table: pa.Table) -> None:
        """Write ``table``, which has the writer's schema, no nulls and at least a row, as one row group."""
        start = self.position
        chunks = [self._write_chunk(column, _values(table[column.name])) for column in self.schema]
        rows = table.num_rows
        self.rows += rows
        uncompressed = sum(size for _, size in chunks)
        self.row_groups.append(
            struct(
                {
                    1: list_([chunk for chunk, _ in chunks]),
                    2: i64(uncompressed),
                    3: i64(rows),
                    5: i64(start),
                    6: i64(self.position - start),
                }
            )
        )

    def close(self) -> None:
        """Write the footer."""
        elements = [element for column in self.schema for element in _schema_elements(column)]
        root = struct({4: binary("schema"), 5: i32(len(self.schema))})
        schema, groups = list_([root, *elements]), list_(self.row_groups)
        _, footer = struct({1: i32(1), 2: schema, 3: i64(self.rows), 4: groups, 6: binary("m2m-advertisers")})
        self._write(footer + len(footer).to_bytes(4, "little") + MAGIC)

    def _write_chunk(self, column: pa.Field, values: np.ndarray | pa.Array) -> tuple[Value, int]:
        """Write the pages of one column; returns its ColumnChunk and its size before compression."""
        is_list = pa.types.is_list(column.type)
        physical, _, dtype = _TYPES[column.type.value_type if is_list else column.type]
        start, uncompressed = self.position, 0
        values, dictionary = _dictionary_encoded(values)
        if dictionary is not None:
            header = struct({1: i32(len(dictionary)), 2: i32(_PLAIN)})
            uncompressed += self._write_page(_DICTIONARY_PAGE, 7, header, _plain(dictionary, dtype))
        data_start, length = self.position, values.shape[1] if is_list else 1
        rows_per_page = max(1, PAGE_BYTES // max(1, _row_bytes(values)))
        for first in range(0, len(values), rows_per_page):
            page = values[first : first + rows_per_page]
            body = _levels(len(page), length) if is_list else b""
            body += _indices(page) if dictionary is not None else _plain(page, dtype)
            header = struct(
                {
                    1: i32(len(page) * max(length, 1)),
                    2: i32(_PLAIN if dictionary is None else _RLE_DICTIONARY),
                    3: i32(_RLE),
                    4: i32(_RLE),
                }
            )
            uncompressed += self._write_page(_DATA_PAGE, 5, header, body)
        encodings = [_PLAIN, _RLE] + ([] if dictionary is None else [_RLE_DICTIONARY])
        path = [column.name, *(["list", "element"] if is_list else [])]
        meta = struct(
            {
                1: i32(physical),
                2: list_([i32(encoding) for encoding in encodings]),
                3: list_([binary(name) for name in path]),
                4: i32(CODECS[self.compression]),
                5: i64(len(values) * max(length, 1)),
                6: i64(uncompressed),
                7: i64(self.position - start),
                9: i64(data_start),
                11: None if dictionary is None else i64(start),
            }
        )
        return struct({2: i64(start), 3: meta}), uncompressed

    def _write_page(self, kind: int, header_field: int, header: Value, body: bytes) -> int:
        """Write one page; returns its size with header before compression."""
        data = body if self._codec is None else self._codec.compress(body, asbytes=True)
        checksum = zlib.crc32(data)
        _, head = struct(
            {
                1: i32(kind),
                2: i32(len(body)),
                3: i32(len(data)),
                4: i32(checksum - (1 << 32) if checksum >= 1 << 31 else checksum),
                header_field: header,
            }
        )
        self._write(head)
        self._write(data)
        return len(head) + len(body)

    def _write(self, data: bytes) -> None:
        self.sink.write(data)
        self.position += len(data)


def _values(column: pa.ChunkedArray) -> np.ndarray | pa.Array:
    """A value per row [n], strings as an Arrow array; lists as [n, length]."""
    array = column.combine_chunks()
    if pa.types.is_string(array.type):
        return array
    if not pa.types.is_list(array.type):
        return (array.cast(pa.int32()) if pa.types.is_date(array.type) else array).to_numpy(zero_copy_only=False)
    return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)


def _schema_elements(column: pa.Field) -> list[Value]:
    """SchemaElements of a column: itself, or for a list the standard three levels with optional elements."""
    is_list = pa.types.is_list(column.type)
    physical, converted, _ = _TYPES[column.type.value_type if is_list else column.type]
    leaf = {
        1: i32(physical),
        3: i32(_OPTIONAL if is_list else _REQUIRED),
        4: binary("element" if is_list else column.name),
        6: None if converted is None else i32(converted),
    }
    if not is_list:
        return [struct(leaf)]
    outer = struct({3: i32(_REQUIRED), 4: binary(column.name), 5: i32(1), 6: i32(_LIST)})
    return [outer, struct({3: i32(_REPEATED), 4: binary("list"), 5: i32(1)}), struct(leaf)]


def _dictionary_encoded(values: np.ndarray | pa.Array) -> tuple[Any, Any]:
    """Values as 8-bit indices and what they index, where that is possible; else the values and None."""
    if isinstance(values, pa.Array):
        encoded = values.dictionary_encode()
        if len(encoded.dictionary) > 256:
            return values, None
        return encoded.indices.to_numpy(zero_copy_only=False).astype(np.uint8), encoded.dictionary
    if values.dtype.kind == "i" and values.size and values.min() >= 0 and values.max() < 256:
        return values.astype(np.uint8), np.arange(int(values.max()) + 1)
    return values, None


def _row_bytes(values: np.ndarray | pa.Array) -> int:
    return values.nbytes // max(1, len(values))


def _levels(rows: int, length: int) -> bytes:
    """Repetition and definition levels of ``rows`` full lists: a row starts with 0, every element is there."""
    starts = np.ones((rows, max(length, 1)), np.uint8)
    starts[:, 0] = 0
    packed = np.packbits(starts, bitorder="little").tobytes()
    repetition = varint(-(-starts.size // 8) << 1 | 1) + packed
    definition = varint(starts.size << 1) + bytes([2 if length else 0])
    return b"".join(len(part).to_bytes(4, "little") + part for part in (repetition, definition))


def _indices(indices: np.ndarray) -> bytes:
    """8-bit dictionary indices as one bit-packed run: bit width, run header, the indices, padded to groups of 8."""
    groups = -(-indices.size // 8)
    padding = bytes(groups * 8 - indices.size)
    return b"".join((b"\x08", varint(groups << 1 | 1), np.ascontiguousarray(indices).data, padding))


def _plain(values: np.ndarray | pa.Array, dtype: Any) -> bytes:
    if isinstance(values, pa.Array):
        return _plain_strings(values)
    if dtype is np.bool_:
        return np.packbits(values, bitorder="little").tobytes()
    return np.ascontiguousarray(values, dtype).tobytes()


def _plain_strings(values: pa.Array) -> bytes:
    """Each string after its length in 4 bytes."""
    values = pa.concat_arrays([values])  # offsets from 0
    _, offsets, content = values.buffers()
    ends = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    first = ends[0]
    heads = (ends[:-1] - first) + 4 * np.arange(len(values))
    out = np.empty(int(ends[-1] - first) + 4 * len(values), np.uint8)
    is_text = np.ones(len(out), bool)
    lengths = np.diff(ends).astype("<u4").view(np.uint8).reshape(-1, 4)
    for byte in range(4):
        out[heads + byte] = lengths[:, byte]
        is_text[heads + byte] = False
    if content is not None:
        out[is_text] = np.frombuffer(content, np.uint8)[first : ends[-1]]
    return out.tobytes()
