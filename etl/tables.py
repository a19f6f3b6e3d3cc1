"""Reading raw tables into one shape: ``advertiser_id, scenario_id, day`` beside the user's own columns.

Checks of the schema happen here, before any row is read; checks of rows are in :mod:`etl.checks`.
"""

import datetime
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlparse
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from etl.config import FactsTable, RawConfig, SnapshotTable
from etl.failures import spark_failures
from m2m_model.contracts.errors import UserError

CATALOG = "table:"
ID_TYPES = (T.StringType, T.LongType, T.IntegerType, T.ShortType)
FOOTER_READERS = 16


Days = tuple[datetime.date, datetime.date]
"""First and last day, both included."""


def read_facts(
    spark: SparkSession,
    raw: RawConfig,
    name: str,
    *,
    root: str,
    as_known_at: datetime.datetime | None,
    days: Days | None = None,
) -> DataFrame:
    """A behavior or performance table with columns ``advertiser_id``, ``scenario_id`` and ``day`` (date) added.

    Events are laid on days in ``raw.timezone``; rows that arrived after ``as_known_at`` are invisible. With ``days``
    only their rows are read, and of a table partitioned by day only the files that may hold them.
    """
    table = raw.facts[name]
    filed = partition_days(table, raw.timezone, days) if days is not None and table.partition else None
    frame = read_table(spark, table.path or f"{root}/{name}", name)
    # A table may be partitioned by its day itself.
    _refuse_unlike_files(frame, name, table.path, table.partition or table.time, filed or days)
    _require(frame, name, [table.advertiser, table.scenario, table.time])
    time_types = (T.TimestampType,) if table.kind == "events" else (T.DateType,)
    _require_type(frame, name, table.time, time_types)
    _require_type(frame, name, table.advertiser, ID_TYPES)
    _require_type(frame, name, table.scenario, (T.StringType,))
    if table.partition:
        _require(frame, name, [table.partition])
        _require_type(frame, name, table.partition, (T.DateType, T.StringType))
    if table.arrived_at:
        _require(frame, name, [table.arrived_at])
        _require_type(frame, name, table.arrived_at, (T.TimestampType,))
        if as_known_at is not None:
            # Rows without an arrival stay, for the checks to count.
            frame = frame.where(F.coalesce(F.col(table.arrived_at) <= F.lit(as_known_at), F.lit(True)))
    if filed is not None:
        frame = frame.where(_filed_between(frame, table, filed))
    frame = frame.withColumns(
        {
            "advertiser_id": _id(frame, table.advertiser),
            "scenario_id": F.col(table.scenario),
            "day": _day(table, raw.timezone),
        }
    )
    return frame.where(F.col("day").between(*days)) if days is not None else frame


def read_snapshots(
    spark: SparkSession, table: SnapshotTable, name: str, *, root: str, days: Days | None = None
) -> DataFrame:
    """The profile or scenario snapshots, with the snapshot's date as ``day`` and its key under the standard name.

    With ``days`` only theirs; of a table partitioned by day the others' files are not opened.
    """
    frame = read_table(spark, table.path or f"{root}/{name}", name)
    _refuse_unlike_files(frame, name, table.path, table.day, days)
    _require(frame, name, [table.key, table.day])
    _require_type(frame, name, table.day, (T.DateType,))
    key = "advertiser_id" if name == "profile" else "scenario_id"
    _require_type(frame, name, table.key, ID_TYPES if name == "profile" else (T.StringType,))
    frame = frame.withColumns({key: _id(frame, table.key), "day": F.col(table.day)})
    if days is None:
        return frame
    # As text, since py4j cannot pass on the earliest date there is.
    first, last = (F.lit(day.isoformat()).cast("date") for day in days)
    return frame.where(F.col("day").between(first, last))


def read_table(spark: SparkSession, path: str, name: str) -> DataFrame:
    """A Parquet folder, or with ``table:`` before its name a catalog table.

    Raises:
        UserError: there is no such table, or it cannot be read.
    """
    try:
        with spark_failures():
            if path.startswith(CATALOG):
                table = path.removeprefix(CATALOG)
                spark.catalog.refreshTable(table)  # the session may remember files that were replaced since
                return spark.table(table)
            frame = spark.read.parquet(path)
    except UserError as error:
        raise unreadable(name, path, error) from None
    return frame


def unreadable(name: str, path: str, error: Exception) -> UserError:
    return UserError(f"raw table {name!r} cannot be read from {path}: {str(error).splitlines()[0]}")


def filed_day(table: FactsTable, timezone: str) -> F.Column:
    """The day that a row's partition must be of."""
    return F.to_date(F.col(table.time)) if table.partition_day == "utc" else _day(table, timezone)


def partition_days(table: FactsTable, timezone: str, days: Days) -> Days:
    """First and last partition that may hold rows of ``days``.

    Example:
        >>> clicks = FactsTable(kind="events", time="at", partition="dt")
        >>> first, last = partition_days(clicks, "America/New_York", (datetime.date(2017, 3, 1),) * 2)
        >>> (str(first), str(last))
        ('2017-03-01', '2017-03-02')
    """
    if table.kind == "daily" or table.partition_day == "local":
        return days
    zone, utc = ZoneInfo(timezone), datetime.UTC
    start = datetime.datetime.combine(days[0], datetime.time(), zone).astimezone(utc)
    end = datetime.datetime.combine(days[1] + datetime.timedelta(days=1), datetime.time(), zone).astimezone(utc)
    return start.date(), (end - datetime.timedelta(microseconds=1)).date()


def _filed_between(frame: DataFrame, table: FactsTable, days: Days) -> F.Column:
    # Compared in the column's own type, since a cast would hide the condition from a catalog's partition filter.
    is_string = isinstance(frame.schema[table.partition].dataType, T.StringType)
    first, last = (F.lit(str(day) if is_string else day) for day in days)
    return F.col(table.partition).between(first, last)


def _day(table: FactsTable, timezone: str) -> F.Column:
    if table.kind == "daily":
        return F.col(table.time)
    return F.to_date(F.from_utc_timestamp(F.col(table.time), timezone))


def _id(frame: DataFrame, column: str) -> F.Column:
    is_string = isinstance(frame.schema[column].dataType, T.StringType)
    return F.col(column) if is_string else F.col(column).cast("bigint")


def _refuse_unlike_files(frame: DataFrame, name: str, path: str, partition: str, days: Days | None) -> None:
    """All local files of a folder must have the same columns: Spark reads one that a file lacks as nulls.

    Of a table partitioned by day only the files of ``days`` are opened. A catalog knows its tables' columns.
    """
    if path.startswith(CATALOG):
        return
    urls = [urlparse(file) for file in frame.inputFiles()]
    paths = [unquote(url.path) for url in urls if url.scheme == "file"]
    if partition and days is not None:
        filed = re.compile(rf"/{re.escape(partition)}=([^/]+)/")
        dated = ((path, filed.search(path)) for path in paths)
        paths = [path for path, found in dated if found is None or str(days[0]) <= found[1] <= str(days[1])]
    with ThreadPoolExecutor(FOOTER_READERS) as readers:
        columns = list(readers.map(_columns, paths))
    for path, found in zip(paths, columns, strict=True):
        if found != columns[0]:
            odd = sorted(found ^ columns[0])[0]
            raise UserError(
                f"raw table {name!r}: its files must have the same columns, however: {odd!r} is only in one of "
                f"{paths[0]} and {path}"
            )


def _columns(path: str) -> set[str]:
    try:
        return set(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is no Parquet file or is damaged: {str(error).splitlines()[0]}") from None


def _require(frame: DataFrame, name: str, columns: list[str]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise UserError(f"raw table {name!r} must have column {missing[0]!r}, however: it has {frame.columns}")


def _require_type(frame: DataFrame, name: str, column: str, allowed: tuple[type[T.DataType], ...]) -> None:
    actual = frame.schema[column].dataType
    if not isinstance(actual, allowed):
        wanted = " or ".join(kind.__name__.removesuffix("Type").lower() for kind in allowed)
        raise UserError(f"raw table {name!r}: column {column!r} must be {wanted}, however: {actual.simpleString()}")
