"""Configuration of the Spark side: raw tables, features, tasks, population, split, checks, output."""

import datetime
import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.locations import SECRET, Location
from m2m_model.contracts.spec import Scope

NAME = re.compile(r"[a-z][a-z0-9_]*")
Policy = Literal["error", "drop"]


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
    facts: dict[str, FactsTable]
    profile: SnapshotTable = SnapshotTable(key="advertiser_id")
    scenarios: SnapshotTable = SnapshotTable(key="scenario_id")


class SequenceConfig(StrictConfig):
    length: int = Field(default=40, ge=1)
    horizon: int = Field(default=7, ge=1)
    availability_lag_days: int = Field(default=0, ge=0)
    history_weeks: int = Field(default=5, ge=1)


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
    """A label: a Spark SQL aggregate per day in the own scenario, summed over the horizon."""

    expr: str
    table: str = "performance"
    unit: str
    daily_max: int | None = Field(default=None, ge=1)


class PopulationConfig(StrictConfig):
    """Eligible: active on at least ``min_active_days`` of the T days in the scenario.

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

    ratio: tuple[int, int, int] = (8, 1, 1)
    train: tuple[datetime.date, datetime.date] | None = None
    validation: tuple[datetime.date, datetime.date] | None = None
    test: tuple[datetime.date, datetime.date] | None = None
    train_stride: int = Field(default=1, ge=1)
    validation_stride: int = Field(default=1, ge=1)
    test_stride: int = Field(default=1, ge=1)

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
    negative_labels: Policy = "error"


class DatasetConfig(StrictConfig):
    """How the output is laid out."""

    shards: int = Field(default=4, ge=1)
    """Spark partitions, hence files per as-of day."""
    row_group_rows: int = Field(default=2048, ge=1)
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    grace_seconds: float = Field(default=3600.0, ge=0)
    """How long a superseded generation stays for readers that still use it."""


class SparkConfig(StrictConfig):
    master: str = ""
    """Default: what spark-submit gives, else ``local[*]``."""
    conf: dict[str, str] = {}

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
