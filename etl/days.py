"""The days of daily features: which are there, which are behind their inputs, and building a range of them."""

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyspark.sql import SparkSession

from etl.build import build_day, input_config_digest
from etl.config import EtlConfig
from etl.frozen import history, snapshot_span
from etl.inputs import Inputs, Versions, changed_parts, list_inputs
from etl.sketches import ROLE
from m2m_model.contracts.drift import Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below, read_manifest

ATTEMPT = "attempt.json"
"""Beside a day's manifest while it is being built, and after a build that failed."""
DAY = datetime.timedelta(days=1)
State = Literal["missing", "complete", "stale", "failed"]


@dataclass(frozen=True)
class DayStatus:
    """State of one as-of day.

    ``stale``: published, but its inputs, the spec or the configuration changed since. ``failed``: the last build did
    not end; whatever was published before is still in force.
    """

    date: datetime.date
    state: State
    reason: str = ""
    changed: Mapping[str, list[str]] | None = None
    """Per raw table, the days (or ``all``, where it is not partitioned by day) whose files changed."""
    generation: str = ""
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class FeatureDays:
    """The folder of all feature days, and what their builds are made from."""

    location: str
    raw: str
    """Folder of the raw tables."""
    config: EtlConfig
    spec: DatasetSpec
    trained_on: Histograms | None = None
    """What training saw: each day's drift is measured from it."""

    def folder(self, date: datetime.date) -> Folder:
        return Folder.at(below(self.location, f"dt={date}"))

    def status(self, date: datetime.date, inputs: Inputs) -> DayStatus:
        folder = self.folder(date)
        if folder.exists(ATTEMPT):
            return DayStatus(date, "failed", _attempt(folder))
        if not folder.exists(MANIFEST):
            return DayStatus(date, "missing")
        manifest = read_manifest(folder, kind="features", build_hint="build the day again")
        content, live = manifest.content, (manifest.generation, manifest.rows)
        if content["feature_fingerprint"] != self.spec.feature_fingerprint:
            reason = f"built with spec {content['feature_fingerprint']}, now {self.spec.feature_fingerprint}"
            return DayStatus(date, "stale", reason, {}, *live)
        if content.get("input_config") != input_config_digest(self.config):
            return DayStatus(date, "stale", "[raw] or [checks] of the configuration changed", {}, *live)
        built: Versions = content["inputs"]
        changed = changed_parts(built, self._versions(inputs, date))
        if changed:
            return DayStatus(date, "stale", "inputs changed", changed, *live)
        unknown = [name for name, parts in built.items() if parts is None]
        reason = f"changes of {', '.join(unknown)} cannot be seen" if unknown else ""
        return DayStatus(date, "complete", reason, {}, *live)

    def _versions(self, inputs: Inputs, date: datetime.date) -> Versions:
        return inputs.versions(facts=history(self.spec, date), snapshots=snapshot_span(self.spec, date))

    def build(
        self,
        spark: SparkSession,
        date: datetime.date,
        *,
        inputs: Inputs | None = None,
        as_known_at: datetime.datetime | None = None,
        run_info: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Build and publish one day; a failure is recorded beside it.

        Raises:
            UserError: bad input or config; what was published of the day before stays.
        """
        folder, started = self.folder(date), _now()
        folder.replace_bytes(ATTEMPT, json.dumps({"started_at": started}).encode())
        try:
            manifest = build_day(
                spark,
                self.config,
                self.spec,
                date=date,
                raw=self.raw,
                out=folder.uri,
                as_known_at=as_known_at,
                inputs=inputs,
                trained_on=self.trained_on,
                run_info=run_info,
            )
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            folder.replace_bytes(ATTEMPT, json.dumps({"started_at": started, "error": reason}).encode())
            raise
        with contextlib.suppress(FileNotFoundError):  # another build of the same day has ended meanwhile
            folder.filesystem.delete_file(folder.join(ATTEMPT))
        return manifest

    def sketches(self, date: datetime.date) -> bytes:
        """The sketches of the newest facts of one published day.

        Raises:
            UserError: there is no such day.
        """
        folder = self.folder(date)
        manifest = read_manifest(folder, kind="features", build_hint="build it with m2m build --backfill")
        (entry,) = manifest.select(role=ROLE)
        return folder.read_file(entry, hint="build the day again")

    def backfill(
        self,
        spark: SparkSession,
        days: tuple[datetime.date, datetime.date],
        *,
        force: bool,
        as_known_at: datetime.datetime | None = None,
        run_info: Mapping[str, Any] | None = None,
        before: Callable[[DayStatus], None] = lambda status: None,
    ) -> Iterator[tuple[DayStatus, Manifest | None]]:
        """Build days ``first .. last`` in order, each published by itself; complete ones only with ``force``.

        Gives each day's status before, and its new manifest, or None where it was left as it is. ``before`` is
        called with the status ahead of a day's build. The first failure ends it: later days are as they were.
        """
        inputs = list_inputs(spark, self.config.raw, root=self.raw)
        for date in each_day(*days):
            status = self.status(date, inputs)
            if status.state == "complete" and not force:
                yield status, None
                continue
            before(status)
            yield status, self.build(spark, date, inputs=inputs, as_known_at=as_known_at, run_info=run_info)


def each_day(first: datetime.date, last: datetime.date) -> Iterator[datetime.date]:
    if first > last:
        raise UserError(f"a range of days must not end before it starts, however: {first} .. {last}")
    return (first + DAY * number for number in range((last - first).days + 1))


def _attempt(folder: Folder) -> str:
    attempt = json.loads(folder.read_bytes(ATTEMPT))
    if "error" in attempt:
        return f"build of {attempt['started_at']} failed: {attempt['error']}"
    return f"build of {attempt['started_at']} was cut off, or is still running"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
