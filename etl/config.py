"""Configuration of the Spark side: raw tables, features, tasks, population, split, checks, output."""

import datetime
import re
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.locations import SECRET, Location
from m2m_model.contracts.spec import AMOUNTS, Outcome, Scope, TaskKind, history_days

NAME = re.compile(r"[a-z][a-z0-9_]*")
LONGEST_CALENDAR = 7305
"""Days: twenty years. A calendar beyond that is a mistyped date, and dense calendars of it fill the memory."""
Policy = Literal["error", "drop"]
Days = Annotated[int, Field(ge=1, le=LONGEST_CALENDAR)]
Part = Annotated[int, Field(ge=1, le=1000)]


def _check_names(names: object) -> None:
    for name in names if isinstance(names, dict) else ():
        if not NAME.fullmatch(name):
            raise ValueError(f"a name must be lower-case letters, digits and underscores, however: {name!r}")


class FactsTable(StrictConfig):
    """A raw table of behavior or performance.

    ``events``: one row per event, ``time`` is a timestamp, laid on days in ``raw.timezone``.
    ``daily``: one row per advertiser, scenario and day, ``time`` is a date.
    """

    path: Location = ""
    """Parquet folder; default ``<out>/raw/<table name>``. ``table:`` before a name reads a catalog table."""
    kind: Literal["events", "daily"] = "daily"
    time: str = "day"
    advertiser: str = "advertiser_id"
    scenario: str = "scenario_id"
    arrived_at: str = ""
    """Timestamp column of when a row landed, for ``--as-known-at``; empty: rows were there on their day."""
    partition: str = ""
    """Date (or ``YYYY-MM-DD`` string) column that the files are partitioned by, beside ``time``; a build of one day
    then opens only the partitions it needs. Not needed where ``time`` itself is the partition column."""
    partition_day: Literal["utc", "local"] = "utc"
    """Which date of a timestamp ``partition`` is: in UTC, or in ``raw.timezone``."""


class SnapshotTable(StrictConfig):
    """Dated snapshots: a row holds from its ``day`` on, until the key's next row."""

    path: Location = ""
    day: str = "day"
    key: str


class RawConfig(StrictConfig):
    timezone: str = "UTC"
    first_day: datetime.date
    last_day: datetime.date
    """The raw tables are complete for these days, both included; a day without a row is a day of zeros."""
    known_at: Literal["latest", "as_of"] = "latest"
    """What features see of the facts: all that is there, or what had arrived by each as-of day. Labels see all."""
    known_after_hours: int = Field(default=6, ge=0)
    """With ``as_of``: features of a day are taken so many hours after it ended."""
    facts: dict[str, FactsTable]
    profile: SnapshotTable = SnapshotTable(key="advertiser_id")
    scenarios: SnapshotTable = SnapshotTable(key="scenario_id")
    snapshot_days: int | None = Field(default=None, ge=1)
    """A snapshot holds for so many days, its own included, or until the key's next; None: until the key's next. Where
    snapshots are complete and daily, a small number keeps a night from reading all that ever were."""

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"must be a name like 'Asia/Shanghai' or 'UTC', however: {value!r}") from None
        return value

    @field_validator("facts", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        _check_names(value)
        if taken := {"profile", "scenarios"} & set(value if isinstance(value, dict) else ()):
            raise ValueError(f"{taken.pop()!r} is the name of a snapshot table: name the facts otherwise")
        return value

    @model_validator(mode="after")
    def _is_a_calendar(self) -> Self:
        days = (self.last_day - self.first_day).days + 1
        if not 1 <= days <= LONGEST_CALENDAR:
            raise ValueError(
                f"first_day {self.first_day} to last_day {self.last_day} must be 1 to {LONGEST_CALENDAR} days, "
                f"however: {days}"
            )
        return self


class SequenceConfig(StrictConfig):
    length: Days = 40
    horizon: Days = 7
    availability_lag_days: int = Field(default=0, ge=0, le=LONGEST_CALENDAR)
    history_weeks: int = Field(default=5, ge=1, le=LONGEST_CALENDAR // 7)

    @property
    def history_days(self) -> int:
        """Days of facts that the features of one as-of day need."""
        return history_days(self.length, self.history_weeks)


class SequenceFeature(StrictConfig):
    """A daily feature: a Spark SQL aggregate over the rows of ``table`` in ``scope``."""

    expr: str
    scope: Scope = "own"
    table: str = ""
    """A table of ``raw.facts``; default: the one named like the sequence."""
    buckets: int = Field(default=16, ge=1, le=16_000)
    dense: bool = False


class AttributeConfig(StrictConfig):
    """A profile or scenario attribute: a Spark SQL scalar expression over a snapshot's columns.

    A scenario attribute's expression may also use ``as_of``, the as-of date.
    """

    expr: str
    kind: Literal["bucket", "vocabulary"] = "vocabulary"
    buckets: int = Field(default=16, ge=1)


class FeaturesConfig(StrictConfig):
    behavior: dict[str, SequenceFeature] = {}
    performance: dict[str, SequenceFeature] = {}
    profile: dict[str, AttributeConfig] = {}
    scenario: dict[str, AttributeConfig] = {}

    @field_validator("behavior", "performance", "profile", "scenario", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        _check_names(value)
        return value


class TaskConfig(StrictConfig):
    """A label: a Spark SQL aggregate per day in the own scenario, summed over the horizon.

    ``count`` and ``spend`` (heavy-tailed) are that sum; a ``rate`` is it per the sum of ``exposure``, another aggregate
    over the same table; a ``binary`` task is whether the sum is positive (``outcome = "any"``) or 0 (``"none"``).
    """

    kind: TaskKind = "count"
    expr: str
    table: str = "performance"
    unit: str
    daily_max: int | None = Field(default=None, ge=1)
    exposure: str | None = None
    outcome: Outcome | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        for name, kinds in (("daily_max", AMOUNTS), ("exposure", ("rate",)), ("outcome", ("binary",))):
            if getattr(self, name) is not None and self.kind not in kinds:
                raise ValueError(
                    f"{name} belongs to tasks of kind {' or '.join(kinds)}, however: kind is {self.kind!r}"
                )
            if getattr(self, name) is None and kinds == (self.kind,):
                raise ValueError(f"a task of kind {self.kind!r} needs {name}")
        return self


class PopulationConfig(StrictConfig):
    """Eligible: active on at least ``min_active_days`` of the T days in the scenario, which has a snapshot by then.

    ``own``: rows are eligible (advertiser, scenario) pairs. ``live``: rows are advertisers eligible in any scenario
    times all live scenarios, which is who is predicted.
    """

    activity: str = "count(*) > 0"
    table: str = "performance"
    min_active_days: int = Field(default=1, ge=1)
    train: Literal["own", "live"] = "own"
    evaluate: Literal["own", "live"] = "live"


class SplitConfig(StrictConfig):
    """As-of days by split, ``[first, last]``, both included; without them ``ratio`` divides all possible days.

    Strides thin out as-of days, counted back from each split's last day.
    """

    ratio: tuple[Part, Part, Part] = (8, 1, 1)
    train: tuple[datetime.date, datetime.date] | None = None
    validation: tuple[datetime.date, datetime.date] | None = None
    test: tuple[datetime.date, datetime.date] | None = None
    train_stride: Days = 1
    validation_stride: Days = 1
    test_stride: Days = 1
    hold_out: tuple[str, ...] = ()
    """Scenarios without a row in training and validation, which the spec does not know: in the test split they are as
    if they had come later. Edges of features in own scope are still fitted over all facts."""

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        given = [dates is not None for dates in (self.train, self.validation, self.test)]
        if any(given) and not all(given):
            raise ValueError("train, validation and test must be given together, or ratio alone")
        return self


class ChecksConfig(StrictConfig):
    """What to do with each kind of bad input row: stop with an error, or drop, count and report it."""

    null_keys: Policy = "error"
    duplicate_keys: Policy = "error"
    dates_out_of_range: Policy = "error"
    unknown_scenarios: Policy = "error"
    misfiled_rows: Policy = "error"
    """Rows in another partition than their time says: a build of one day would not find them."""
    negative_labels: Policy = "error"


class DatasetConfig(StrictConfig):
    """How the output is laid out."""

    shards: int = Field(default=4, ge=1, le=100_000)
    """Spark partitions, hence files per as-of day."""
    row_group_rows: int = Field(default=2048, ge=1, le=10_000_000)
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    grace_seconds: float = Field(default=3600.0, ge=0)
    """How long a superseded generation stays for readers that still use it."""


RESULTS_DEPEND_ON = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    # INT96, Spark's default, has no time zone for other readers.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.hadoop.parquet.page.verify-checksum.enabled": "true",
}
"""Spark settings that are part of what a result means, wherever a job runs."""


class FloorsConfig(StrictConfig):
    """How exactly ``jobs/floors.py`` computes the best possible forecasts."""

    filters: int = Field(default=4, ge=2)
    """Independent particle filters, whose spread is the Monte Carlo error."""
    particles: int = Field(default=48, ge=2)
    """Of each filter."""
    draws: int = Field(default=400, ge=8)
    """Draws of a sample's label, a multiple of ``filters``."""
    blocks: int = Field(default=0, ge=0)
    """Use the samples of the first so many blocks of 500 advertisers alone; 0: of all."""

    @model_validator(mode="after")
    def _whole_parts(self) -> Self:
        if self.draws % self.filters:
            raise ValueError(f"draws must be a multiple of filters, however: {self.draws} and {self.filters}")
        return self


class SyntheticConfig(StrictConfig):
    """Size and seed of a synthetic world, see ``docs/synthetic_world.md``; the calendar is ``raw``'s."""

    advertisers: int = Field(default=3000, ge=1)
    seed: int = 0
    late_rate: float = Field(default=0.02, ge=0, le=1)
    """Part of the event rows that land one to five days late."""
    bad_rate: float = Field(default=0.0, ge=0, le=0.5)
    """Bad rows per clean row of each table, for the checks to find."""
    floors: FloorsConfig = FloorsConfig()


class SparkConfig(StrictConfig):
    master: str = Field(default="", pattern=r"^(|local(\[[\w*,]+\])?|local-cluster\[.+\]|spark://.+|k8s://.+|yarn)$")
    """Default: what spark-submit gives, else ``local[*]``."""
    conf: dict[str, str] = {}

    @field_validator("conf")
    @classmethod
    def _leaves_results_alone(cls, value: dict[str, str]) -> dict[str, str]:
        for key, wanted in RESULTS_DEPEND_ON.items():
            if value.get(key, wanted) != wanted:
                raise ValueError(f"{key} must be {wanted!r}, which results depend on, however: {value[key]!r}")
        return value

    @field_validator("conf")
    @classmethod
    def _no_secrets(cls, conf: dict[str, str]) -> dict[str, str]:
        # A run's config is copied into manifests.
        if secret := next((key for key in conf if SECRET.search(key)), None):
            raise ValueError(
                f"{secret!r} must not stand in a run's TOML: give secrets to spark-submit, with --properties-file or "
                "in the environment (docs/deploy.md)"
            )
        return conf


class EtlConfig(StrictConfig):
    """All sections of a run's TOML that the Spark side owns."""

    raw: RawConfig
    sequence: SequenceConfig = SequenceConfig()
    features: FeaturesConfig
    tasks: dict[str, TaskConfig] = Field(min_length=1)
    population: PopulationConfig = PopulationConfig()
    split: SplitConfig = SplitConfig()
    checks: ChecksConfig = ChecksConfig()
    dataset: DatasetConfig = DatasetConfig()
    spark: SparkConfig = SparkConfig()
    synthetic: SyntheticConfig | None = None
    """Of runs on a synthetic world alone."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        _check_names(value)
        return value

    @model_validator(mode="after")
    def _tables_exist(self) -> Self:
        used = {task.table for task in self.tasks.values()} | {self.population.table}
        for sequence in ("behavior", "performance"):
            used |= {feature.table or sequence for feature in getattr(self.features, sequence).values()}
        if unknown := sorted(used - set(self.raw.facts)):
            raise ValueError(f"table {unknown[0]!r} is used but raw.facts has only {sorted(self.raw.facts)}")
        return self

    @model_validator(mode="after")
    def _known_at(self) -> Self:
        if self.raw.known_at == "latest":
            return self
        if not any(table.arrived_at for table in self.raw.facts.values()):
            raise ValueError('raw.known_at = "as_of" needs arrived_at of at least one table of raw.facts')
        for check in ("duplicate_keys", "negative_labels"):
            if getattr(self.checks, check) != "error":
                # A row that is bad only together with one that arrived later was not bad on the night.
                raise ValueError(f'raw.known_at = "as_of" needs checks.{check} = "error"')
        return self
