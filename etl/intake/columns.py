"""What the columns of a stranger's CSV or Parquet table hold, from all of its rows.

A kind is what every value of a column is: of texts the narrowest that all of them have. Where nearly all have one and a
few do not, that is an error that names the first of the few: guessing on would turn a misprint into a feature.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds

from m2m_model.contracts.errors import UserError

Kind = Literal["int", "decimal", "date", "timestamp", "bool", "text", "empty"]

PATTERNS: dict[Kind, str] = {
    # A number with leading zeros is a name.
    "int": r"^-?(0|[1-9]\d{0,17})$",
    "decimal": r"^-?((0|[1-9]\d{0,13})(\.\d{0,6})?|\.\d{1,6})$",
    "date": r"^\d{4}-\d\d-\d\d$",
    "timestamp": r"^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)?$",
    "bool": r"^([Tt]rue|[Ff]alse|TRUE|FALSE)$",
}
WORDS: dict[Kind, str] = {
    "int": "no whole number",
    "decimal": "no number",
    "date": "no date like 2024-12-31",
    "timestamp": "no time like 2024-12-31 23:59:59",
    "bool": "neither true nor false",
}
NULLS = ["", "NULL", "null", "NA", "N/A", "nan", "NaN", "None", "\\N"]
NEARLY = 0.9
"""Part of a column's values that make it a misprinted column of a kind instead of text."""
MOST_DISTINCT = 1_000_000
MOST_DIGITS = 6
BLOCK = 1 << 22


@dataclass(kw_only=True)
class Column:
    """One column of a table, as far as its values tell."""

    name: str
    kind: Kind = "empty"
    rows: int = 0
    nulls: int = 0
    distinct: int = 0
    """At most :data:`MOST_DISTINCT`."""
    low: Any = None
    high: Any = None
    digits: int = 0
    """Decimal digits that its values need."""
    words: tuple[str, ...] = ()
    """Its values as text, ascending, where they are few."""

    @property
    def is_number(self) -> bool:
        return self.kind in ("int", "decimal")


@dataclass(frozen=True, kw_only=True)
class InputTable:
    """A table as it came: where it lies, how to read it, and its columns."""

    path: Path
    name: str
    rows: int
    columns: dict[str, Column] = field(default_factory=dict)

    def has(self, *names: str) -> bool:
        return set(names) <= set(self.columns)


FEW = 50
"""Values of a column that are kept as words."""


def inspect(path: Path, name: str) -> InputTable:
    """Read all of a table once.

    Raises:
        UserError: it is not there, is neither CSV nor Parquet, has no rows, or a column with misprints.
    """
    dataset = open_table(path)
    folds = {column: _Fold(column) for column in dataset.schema.names}
    rows = 0
    for batch in batches(dataset, path):
        rows += len(batch)
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            folds[column].add(values)
    if not rows:
        raise UserError(f"{path} must have rows, however: it is empty")
    return InputTable(path=path, name=name, rows=rows, columns={c: f.column(path) for c, f in folds.items()})


def open_table(path: Path) -> ds.Dataset:
    """A CSV or Parquet file or folder; every CSV column as text."""
    if not path.exists():
        raise UserError(f"table {path} does not exist: name CSV or Parquet files, or folders of them")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".csv", ".parquet"))
    suffixes = {file.suffix for file in files}
    try:
        if suffixes == {".parquet"}:
            return ds.dataset(path, format="parquet", partitioning="hive")
        if suffixes == {".csv"}:
            with files[0].open(encoding="utf-8-sig") as text:
                header = text.readline()
            delimiter = max(",;\t|", key=header.count)
            parsing = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
            with pyarrow.csv.open_csv(files[0], parse_options=parsing) as stream:
                schema = pa.schema([(column, pa.string()) for column in stream.schema.names])
            convert = pyarrow.csv.ConvertOptions(
                column_types=schema, null_values=NULLS, strings_can_be_null=True, quoted_strings_can_be_null=True
            )
            style = ds.CsvFileFormat(
                parse_options=parsing,
                convert_options=convert,
                read_options=pyarrow.csv.ReadOptions(block_size=BLOCK),
            )
            return ds.dataset([str(file) for file in files], format=style, schema=schema)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    raise UserError(f"table {path} must be .csv or .parquet (or a folder of one of them), however: {sorted(suffixes)}")


def batches(dataset: ds.Dataset, path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows, batch by batch, in order."""
    try:
        yield from dataset.to_batches(columns=columns, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"table {path} cannot be read: {str(error).splitlines()[0]}")


class _Fold:
    """A column, batch by batch."""

    def __init__(self, name: str) -> None:
        self.name, self.rows, self.nulls, self.digits = name, 0, 0, 0
        self.matched: dict[Kind, int] = dict.fromkeys(PATTERNS, 0)
        self.strange: dict[Kind, tuple[int, str]] = {}
        self.typed: Kind | None = None
        self.seen: pa.Array | None = None
        self.low: Any = None
        self.high: Any = None

    def add(self, values: pa.Array) -> None:
        first, self.rows = self.rows, self.rows + len(values)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        self.nulls += values.null_count
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            self._match(values, first)
            known = values.drop_null()
            self.digits = max(self.digits, _written_digits(known) if self.matched["decimal"] else 0)
        else:
            known = values.drop_null()
            self.typed = _kind_of(values.type, self.name)
            if self.typed == "decimal":
                self.digits = max(self.digits, _needed_digits(known))
            if len(known):
                ends = pc.min_max(known).as_py()
                self.low = ends["min"] if self.low is None else min(self.low, ends["min"])
                self.high = ends["max"] if self.high is None else max(self.high, ends["max"])
        if self.seen is None or len(self.seen) < MOST_DISTINCT:
            self.seen = pc.unique(known if self.seen is None else pa.concat_arrays([self.seen, known]))

    def _match(self, values: pa.Array, first: int) -> None:
        for kind, pattern in PATTERNS.items():
            hits = pc.match_substring_regex(values, pattern)
            self.matched[kind] += pc.sum(hits).as_py() or 0
            if kind not in self.strange and (at := pc.index(hits, False).as_py()) >= 0:
                self.strange[kind] = (first + at + 1, values[at].as_py())

    def column(self, path: Path) -> Column:
        known = self.rows - self.nulls
        kind = self.typed or self._kind_of_texts(known, path)
        seen = self.seen if self.seen is not None else pa.array([], pa.string())
        column = Column(name=self.name, kind=kind, rows=self.rows, nulls=self.nulls, distinct=len(seen))
        column.low, column.high = self.low, self.high
        if self.typed is None and kind in ("int", "decimal", "date", "timestamp"):
            values = seen.to_pylist()
            number = float if kind in ("int", "decimal") else str
            column.low, column.high = min(values, key=number), max(values, key=number)
            if number is float:
                column.low, column.high = float(column.low), float(column.high)
        column.digits = min(self.digits, MOST_DIGITS) if kind == "decimal" else 0
        if len(seen) <= FEW:
            column.words = tuple(sorted(str(value) for value in seen.to_pylist()))
        return column

    def _kind_of_texts(self, known: int, path: Path) -> Kind:
        if not known:
            return "empty"
        for kind, hits in self.matched.items():
            if hits == known:
                return kind
        # Widest kinds first: a column of decimals is no misprinted column of whole numbers.
        for kind in ("decimal", "timestamp", "date", "bool"):
            if self.matched[kind] >= NEARLY * known:
                row, value = self.strange[kind]
                raise UserError(
                    f"{path}: {known - self.matched[kind]} of {known} values of column {self.name!r} are "
                    f"{WORDS[kind]}, the first in row {row}: {value!r}; mend or empty them"
                )
        return "text"


def _written_digits(texts: pa.Array) -> int:
    found = pc.utf8_length(pc.struct_field(pc.extract_regex(texts, r"\.(?P<digits>\d+)$"), "digits"))
    return int(pc.max(found).as_py() or 0)


def _needed_digits(values: pa.Array) -> int:
    """Least digits that hold the values, of floats to their sixth."""
    if pa.types.is_decimal(values.type):
        return int(values.type.scale)
    for digits in range(MOST_DIGITS):
        off = pc.max(pc.abs(pc.subtract(values, pc.round(values, digits)))).as_py() or 0.0
        if off < 0.5 * 10**-MOST_DIGITS:
            return digits
    return MOST_DIGITS


def _kind_of(kind: pa.DataType, name: str) -> Kind:
    tests: dict[Kind, Any] = {
        "int": pa.types.is_integer,
        "decimal": lambda t: pa.types.is_floating(t) or pa.types.is_decimal(t),
        "date": pa.types.is_date,
        "timestamp": pa.types.is_timestamp,
        "bool": pa.types.is_boolean,
        "empty": pa.types.is_null,
    }
    found = next((known for known, test in tests.items() if test(kind)), None)
    if found is None:
        raise UserError(
            f"column {name!r} must hold numbers, texts, dates or times, however: {kind}; leave it out of the table"
        )
    return found
