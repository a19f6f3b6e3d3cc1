"""A world's raw tables as platforms keep them: a folder per day, events filed by their UTC or local day."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from etl.config import EtlConfig
from tests.etl.raw_world import ZONE, Row, World

COLUMN = {"behavior": "dt", "orders": "filed", "performance": "day", "profile": "day", "scenarios": "day"}
"""The partition column of each table: UTC day, local day, and the date columns that the others have anyway."""


def partitioned(config: EtlConfig) -> EtlConfig:
    """The world's config, for tables that :func:`write_partitioned` wrote."""
    facts = dict(config.raw.facts)
    facts["behavior"] = facts["behavior"].model_copy(update={"partition": "dt"})
    facts["orders"] = facts["orders"].model_copy(update={"partition": "filed", "partition_day": "local"})
    return config.model_copy(update={"raw": config.raw.model_copy(update={"facts": facts})})


def filed_day(name: str, row: Row) -> datetime.date:
    if name == "behavior":
        day = row["happened"].date()
    elif name == "orders":
        day = row["ordered_at"].astimezone(ZONE).date()
    else:
        day = row["day"]
    assert isinstance(day, datetime.date)
    return day


def write_partitioned(world: World, folder: Path) -> str:
    """Write every table as ``<table>/<column>=<day>/part-0.parquet``; returns the folder."""
    for name, rows in world.tables.items():
        days: dict[datetime.date, list[Row]] = {}
        for row in rows:
            days.setdefault(filed_day(name, row), []).append(row)
        for day, of_day in days.items():
            write_part(world, folder, name, day, of_day)
    return str(folder)


def write_part(
    world: World, folder: Path, name: str, day: datetime.date, rows: list[Row], part: str = "part-0"
) -> Path:
    """Write one file of a day's partition; returns it."""
    column = COLUMN[name]
    fields = [field for field in world.schemas[name] if field.name != column]
    path = folder / name / f"{column}={day}" / f"{part}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)
    return path
