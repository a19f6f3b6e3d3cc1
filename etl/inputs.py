"""Versions of the raw tables' files, by day where a table is partitioned by day: what a build read, and what is new."""

import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from etl.config import RawConfig
from etl.tables import CATALOG, Days, partition_days, read_table, unreadable

WHOLE = "all"
"""The one part of a table that is not partitioned by day."""

EVER: Days = (datetime.date.min, datetime.date.max)

Versions = dict[str, dict[str, str] | None]
"""Per raw table, the version of every part (a day, or ``all``); None where the catalog names no files."""


@dataclass(frozen=True)
class RawFile:
    path: str
    bytes: int
    modified: int
    """Microseconds since 1970."""


@dataclass(frozen=True)
class Inputs:
    """All files of all raw tables at one moment, grouped by day; of a table without files, None."""

    raw: RawConfig
    tables: Mapping[str, Mapping[str, Sequence[RawFile]] | None]

    def versions(self, *, facts: Days = EVER, snapshots: Days = EVER) -> Versions:
        """Versions of the parts that a build of the given days of facts and snapshots reads."""
        versions: Versions = {}
        for name, parts in self.tables.items():
            table = self.raw.facts.get(name)
            first, last = snapshots if table is None else facts
            if table is not None and table.partition and facts != EVER:
                first, last = partition_days(table, self.raw.timezone, facts)
            versions[name] = (
                None
                if parts is None
                else {
                    part: _version(files)
                    for part, files in sorted(parts.items())
                    if part == WHOLE or str(first) <= part <= str(last)
                }
            )
        return versions


def list_inputs(spark: SparkSession, raw: RawConfig, *, root: str) -> Inputs:
    """The raw tables' files as they are now.

    Raises:
        UserError: a table is not there.
    """
    days = {name: table.partition or table.time for name, table in raw.facts.items()}
    days |= {"profile": raw.profile.day, "scenarios": raw.scenarios.day}
    places = {name: (raw.facts.get(name) or getattr(raw, name)).path or f"{root}/{name}" for name in days}
    # Side by side, since a small job keeps the driver busy for longer than it keeps Spark.
    with ThreadPoolExecutor() as threads:
        listed = list(threads.map(partial(_files, spark), places.values(), places))
    tables = zip(days.items(), listed, strict=True)
    return Inputs(raw, {name: None if files is None else _by_day(files, day) for (name, day), files in tables})


def changed_parts(built: Versions, now: Versions) -> dict[str, list[str]]:
    """Per raw table, the parts whose version is not the one that was built from."""
    changed = {}
    for name in sorted(built.keys() | now.keys()):
        before, after = built.get(name) or {}, now.get(name) or {}
        if parts := sorted(part for part in before.keys() | after.keys() if before.get(part) != after.get(part)):
            changed[name] = parts
    return changed


def _files(spark: SparkSession, path: str, name: str) -> list[RawFile] | None:
    locations = [path]
    if path.startswith(CATALOG):
        locations = read_table(spark, path, name).inputFiles()
        if not locations:
            return None
    # Spark's own listing, so that every store it reads from is covered; without the content no file is opened.
    try:
        listed = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(locations)
    except AnalysisException as error:
        raise unreadable(name, path, error) from None
    rows = listed.select("path", "length", F.unix_micros("modificationTime")).collect()
    return [RawFile(*row) for row in rows]


def _by_day(files: Sequence[RawFile], column: str) -> dict[str, list[RawFile]]:
    pattern = re.compile(rf"/{re.escape(column)}=(\d{{4}}-\d{{2}}-\d{{2}})/")
    found = [pattern.search(unquote(file.path)) for file in files]
    parts: dict[str, list[RawFile]] = {}
    for file, match in zip(files, found, strict=True):
        parts.setdefault(match.group(1) if match and all(found) else WHOLE, []).append(file)
    return parts


def _version(files: Sequence[RawFile]) -> str:
    """Number of files, bytes, and a hash over every file's name, size and modification time."""
    facts = sorted((file.path.rpartition("/")[2], file.bytes, file.modified) for file in files)
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return f"{len(files)} files, {sum(file.bytes for file in files)} bytes, {digest}"
