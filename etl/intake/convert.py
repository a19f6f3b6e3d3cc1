"""A stranger's tables as canonical raw tables: Parquet with ids, UTC times, dates and exact decimals.

One pass per table, batch by batch. Facts without a scenario get a null one; snapshots without a day hold from the first
day of the facts on; scenarios without a table of their own get a row each from the day they are first seen.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl.intake.columns import Column, InputTable, batches, open_table
from etl.intake.roles import FACTS, Guess
from m2m_model.contracts.errors import UserError

PRECISION = 18
NOON = datetime.timedelta(hours=12)
ADVERTISER, SCENARIO, DAY = "advertiser_id", "scenario_id", "day"


@dataclass(kw_only=True)
class Facts:
    """A written table of facts, as the TOML must name it."""

    name: str
    table: InputTable
    time: str
    is_daily: bool
    has_scenario: bool


@dataclass(kw_only=True)
class RawTables:
    """What was written, and what the TOML needs to know of it."""

    facts: list[Facts]
    first_day: datetime.date
    last_day: datetime.date
    profile: InputTable | None
    profile_has_days: bool
    scenarios: InputTable | None
    scenario_ids: tuple[str, ...]
    pairs: int
    """Different (advertiser, scenario) pairs of the performance table."""


def write_raw(tables: list[InputTable], guess: Guess, folder: Path, *, timezone: str) -> RawTables:
    """Write all raw tables into ``folder``, which is there and empty.

    Raises:
        UserError: a row cannot be converted.
    """
    zone = ZoneInfo(timezone)
    as_text = any(t.columns[guess.advertiser].kind == "text" for t in tables if t.has(guess.advertiser))
    facts: list[Facts] = []
    spans: list[tuple[datetime.date, datetime.date]] = []
    first_seen: dict[str, datetime.date] = {}
    joined: dict[str | int, datetime.date] = {}
    pairs = 0
    for table in tables:
        role = guess.roles[table.name]
        if role not in FACTS:
            continue
        name = table.name if role == "facts" else role
        time = guess.times[table.name]
        has_scenario = table.has(guess.scenario)
        is_daily = table.columns[time].kind == "date" and _one_row_a_day(table, guess)
        target = folder / name / "part-0.parquet"
        _write(target, _facts(table, guess, zone, as_text=as_text, is_daily=is_daily))
        facts.append(Facts(name=name, table=table, time=time, is_daily=is_daily, has_scenario=has_scenario))
        keys = pq.read_table(target, columns=[ADVERTISER, SCENARIO, time])
        day = keys[time] if is_daily else pc.cast(pc.local_timestamp(_in(keys[time], timezone)), pa.date32())
        keys = keys.set_column(2, DAY, day).filter(pc.is_valid(day))
        ends = pc.min_max(keys[DAY]).as_py()
        spans.append((ends["min"], ends["max"]))
        _earliest(first_seen, keys, SCENARIO)
        _earliest(joined, keys, ADVERTISER)
        if role == "performance":
            pairs = keys.group_by([ADVERTISER, SCENARIO]).aggregate([]).num_rows
    first, last = min(span[0] for span in spans), max(span[1] for span in spans)
    profile = next((t for t in tables if guess.roles[t.name] == "profile"), None)
    scenarios = next((t for t in tables if guess.roles[t.name] == "scenarios"), None)
    identifier = pa.string() if as_text else pa.int64()
    if profile is not None:
        _write(folder / "profile" / "part-0.parquet", _snapshots(profile, guess, first, as_text=as_text))
    else:
        _write_days(folder / "profile" / "part-0.parquet", ADVERTISER, identifier, joined)
    if scenarios is not None:
        _write(folder / "scenarios" / "part-0.parquet", _snapshots(scenarios, guess, first, as_text=as_text))
    else:
        _write_days(folder / "scenarios" / "part-0.parquet", SCENARIO, pa.string(), first_seen)
    return RawTables(
        facts=sorted(facts, key=lambda f: f.name != "performance"),
        first_day=first,
        last_day=last,
        profile=profile,
        profile_has_days=profile is not None and profile.name in guess.times,
        scenarios=scenarios,
        scenario_ids=tuple(sorted(first_seen)),
        pairs=pairs,
    )


def _one_row_a_day(table: InputTable, guess: Guess) -> bool:
    """Whether no two rows share advertiser, scenario and day; lines of orders do, and are then events at noon."""
    keys = [name for name in (guess.advertiser, guess.scenario, guess.times[table.name]) if table.has(name)]
    found = pa.Table.from_batches(batches(open_table(table.path), table.path, keys))
    return bool(found.group_by(keys).aggregate([]).num_rows == table.rows)


def _facts(
    table: InputTable, guess: Guess, zone: ZoneInfo, *, as_text: bool, is_daily: bool
) -> Iterator[pa.RecordBatch]:
    time = guess.times[table.name]
    for batch in batches(open_table(table.path), table.path):
        columns = _columns(table, batch, guess, zone, as_text=as_text)
        if SCENARIO not in columns:
            columns[SCENARIO] = pa.nulls(len(batch), pa.string())
        if not is_daily and pa.types.is_date(columns[time].type):
            noon = pc.add(columns[time].cast(pa.timestamp("us")), pa.scalar(NOON, pa.duration("us")))
            columns[time] = pc.assume_timezone(noon, timezone=zone.key).cast(pa.timestamp("us", "UTC"))
        yield pa.RecordBatch.from_pydict(columns)


def _snapshots(table: InputTable, guess: Guess, first: datetime.date, *, as_text: bool) -> Iterator[pa.RecordBatch]:
    zone = ZoneInfo("UTC")
    for batch in batches(open_table(table.path), table.path):
        columns = _columns(table, batch, guess, zone, as_text=as_text)
        day = guess.times.get(table.name)
        found = columns.pop(day) if day else pa.repeat(pa.scalar(first, pa.date32()), len(batch))
        columns[DAY] = found.cast(pa.date32()) if pa.types.is_date(found.type) else found.cast(pa.date32(), safe=False)
        yield pa.RecordBatch.from_pydict(columns)


def _columns(
    table: InputTable, batch: pa.RecordBatch, guess: Guess, zone: ZoneInfo, *, as_text: bool
) -> dict[str, pa.Array]:
    """The batch's columns by canonical name and of canonical type."""
    renamed = {guess.advertiser: ADVERTISER, guess.scenario: SCENARIO}
    columns = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        column = table.columns[name]
        if name in renamed:
            kind = pa.string() if as_text or name == guess.scenario else pa.int64()
            columns[renamed[name]] = values.cast(kind)
        elif column.kind != "empty":
            try:
                columns[name] = _canonical(values, column, zone)
            except pa.ArrowException as error:
                raise UserError(f"{table.path}: column {name!r}: {str(error).splitlines()[0]}") from None
    return columns


def _canonical(values: pa.Array, column: Column, zone: ZoneInfo) -> pa.Array:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if column.kind == "int":
        return values.cast(pa.int64())
    if column.kind == "decimal":
        if pa.types.is_floating(values.type):
            values = pc.round(pc.if_else(pc.is_finite(values), values, None), column.digits)
        return values.cast(pa.decimal128(PRECISION, column.digits), safe=False)
    if column.kind == "date":
        return values.cast(pa.date32())
    if column.kind == "bool":
        return pc.utf8_lower(values).cast(pa.bool_()) if pa.types.is_string(values.type) else values
    if column.kind == "timestamp":
        return _instants(values, zone)
    return values.cast(pa.string())


def _instants(values: pa.Array, zone: ZoneInfo) -> pa.Array:
    """UTC microseconds; times without an offset are the zone's."""
    if pa.types.is_string(values.type):
        # With an offset or without one, row by row: pyarrow parses only columns of one sort.
        offset = pc.match_substring_regex(values, r"(Z|[+-]\d\d(:?\d\d)?)$")
        full = pc.replace_substring_regex(values, r"^(.{16})(Z|[+-]\d\d(:?\d\d)?)?$", r"\1:00\2")
        full = pc.replace_substring(full, " ", "T")
        known = pc.if_else(offset, full, None).cast(pa.timestamp("us", "UTC"))
        plain = pc.if_else(pc.invert(offset), full, None).cast(pa.timestamp("us"))
        return pc.coalesce(known, _assume(plain, zone))
    return values.cast(pa.timestamp("us", "UTC")) if values.type.tz else _assume(values.cast(pa.timestamp("us")), zone)


def _assume(values: pa.Array, zone: ZoneInfo) -> pa.Array:
    placed = pc.assume_timezone(values, timezone=zone.key, ambiguous="earliest", nonexistent="earliest")
    return placed.cast(pa.timestamp("us", "UTC"))


def _in(values: pa.ChunkedArray, timezone: str) -> pa.ChunkedArray:
    return values.cast(pa.timestamp("us", timezone))


def _earliest(days: dict[Any, datetime.date], keys: pa.Table, key: str) -> None:
    for row in keys.group_by(key).aggregate([(DAY, "min")]).to_pylist():
        if row[key] is not None:
            days[row[key]] = min(days.get(row[key], row[f"{DAY}_min"]), row[f"{DAY}_min"])


def _write_days(target: Path, key: str, kind: pa.DataType, days: dict[Any, datetime.date]) -> None:
    ids = sorted(days)
    table = pa.table({key: pa.array(ids, kind), DAY: pa.array([days[name] for name in ids], pa.date32())})
    _write(target, iter(table.to_batches()))


def _write(target: Path, found: Iterator[pa.RecordBatch]) -> None:
    target.parent.mkdir(parents=True)
    first = next(found)
    with pq.ParquetWriter(target, first.schema, compression="zstd") as writer:
        writer.write_batch(first)
        for batch in found:
            writer.write_batch(batch)
