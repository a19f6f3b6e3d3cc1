"""The dataset spec: the one contract between the Spark side and the training side.

``spec.json`` is everything that determines a dataset row and every size a model needs. It is written by the ETL when
buckets and vocabularies are fitted, travels inside checkpoints, and is the only source of embedding sizes.
"""

import datetime
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import read_text

SCHEMA_VERSION: Literal[1] = 1

MISSING_ID = 0
"""Id of a null value, of every feature."""
ZERO_ID = 1
"""Bucket id of an exact zero."""
OUT_OF_VOCABULARY_ID = 1
"""Vocabulary id of a value that was not seen on training days."""
FIRST_VALUE_ID = 2
"""Id of the lowest bucket, or of the first word of a vocabulary."""
UNSEEN_SCENARIO = 0
"""``scenario_index`` of a scenario without training days; scenario i of the spec has index i + 1."""

Scope = Literal["own", "each_scenario", "advertiser"]
SequenceName = Literal["behavior", "performance"]
TaskKind = Literal["count", "rate", "binary", "spend"]
"""What a label is: a non-negative number; one per exposure; whether something happens; a heavy-tailed amount."""
Outcome = Literal["any", "none"]
AMOUNTS: tuple[TaskKind, ...] = ("count", "spend")
"""Kinds whose labels are sums over the horizon: absolute errors and predictive distributions are of these."""


class BucketFeature(StrictConfig):
    """A numeric feature as a bucket id.

    ids: 0 missing, 1 zero, then ``2 + #{edges < x}`` for a non-zero x, so an edge belongs to the bucket below it.
    """

    kind: Literal["bucket"] = "bucket"
    name: str
    expr: str
    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of ids, the rows of the embedding table."""
        return FIRST_VALUE_ID + len(self.edges) + 1


class VocabularyFeature(StrictConfig):
    """A categorical feature as a word id: 0 missing, 1 out of vocabulary, then ``2 + index in values``."""

    kind: Literal["vocabulary"] = "vocabulary"
    name: str
    expr: str
    values: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of ids, the rows of the embedding table."""
        return FIRST_VALUE_ID + len(self.values)


AttributeFeature = Annotated[BucketFeature | VocabularyFeature, Field(discriminator="kind")]


class SequenceColumn(BucketFeature):
    """One column of a sequence: a daily aggregate of a raw table, bucketized.

    ``scenario`` is set for the columns that an ``each_scenario`` feature expands to, one per scenario.
    ``dense``: the T values are also written as ``log1p`` (sign kept) into the row's ``dense`` column.
    """

    table: str
    scope: Scope
    scenario: str | None = None
    dense: bool = False


class ExposureSpec(StrictConfig):
    """What a rate is per: a daily aggregate, summed like the task's own; ``scale`` as in :class:`TaskSpec`."""

    expr: str
    scale: int


class TaskSpec(StrictConfig):
    """A label: a daily aggregate in the sample's own scenario, summed over the horizon.

    A rate is that sum divided by its ``exposure``'s, 0 where there is none. A binary task is 1 if the sum is positive
    (``outcome`` any) or 0 (``outcome`` none: churn), else 0.

    ``scale`` is the number of decimal digits that the daily value carries, so that sums are exact integers of
    ``10**-scale`` units. ``daily_max`` bounds a day's value (1 for "active today"), hence the label by
    ``daily_max * horizon``. ``mean_label`` and ``max_label`` are over training rows.
    """

    name: str
    kind: TaskKind = "count"
    unit: str
    table: str
    expr: str
    scale: int
    daily_max: int | None = None
    exposure: ExposureSpec | None = None
    """Of rates alone."""
    outcome: Outcome | None = None
    """Of binary tasks alone."""
    mean_label: float
    max_label: float

    def largest_label(self, horizon: int) -> float:
        """What no label over ``horizon`` days exceeds; infinite where a day has no bound."""
        if self.kind == "binary":
            return 1.0
        return math.inf if self.daily_max is None else float(self.daily_max * horizon)


class ActivitySpec(StrictConfig):
    """When an advertiser counts as active in a scenario on a day, and how many such days make it eligible."""

    table: str
    expr: str
    min_active_days: int


class DatasetSpec(StrictConfig):
    """What a row of the dataset means. See the module docstring; ``etl`` writes it, everybody reads it."""

    schema_version: Literal[1] = SCHEMA_VERSION
    version: int = Field(default=1, ge=1)
    """Counts the specs of a run; part of its name, not of its meaning."""
    parent: str = ""
    """Fingerprint of the spec that this one was proposed from; empty where it was fitted."""
    timezone: str
    sequence_length: int
    """T, in days."""
    horizon: int
    """Days after the as-of day that a label sums over."""
    availability_lag_days: int
    """Features of as-of day D use days up to and with D - lag."""
    snapshot_days: int | None = None
    """Days that a profile or scenario snapshot holds, its own included; None: until the key's next."""
    history_weeks: int
    """Number of most recent weekly sums kept per task for naive forecasts and offsets."""
    advertiser_id_type: Literal["string", "bigint"]
    scenarios: tuple[str, ...]
    behavior: tuple[SequenceColumn, ...]
    performance: tuple[SequenceColumn, ...]
    profile: tuple[AttributeFeature, ...]
    scenario_attributes: tuple[AttributeFeature, ...]
    tasks: tuple[TaskSpec, ...]
    activity: ActivitySpec

    @property
    def history_days(self) -> int:
        """Days of facts that the features of one as-of day need, ending at as-of minus the lag."""
        return history_days(self.sequence_length, self.history_weeks)

    def matured_day(self, date: datetime.date) -> datetime.date:
        """The as-of day whose label window ends with the newest day of facts that night ``date`` reads."""
        return date - datetime.timedelta(days=self.availability_lag_days + self.horizon)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    @property
    def dense_columns(self) -> tuple[SequenceColumn, ...]:
        """Columns whose T values, oldest first, are in the row's ``dense`` list."""
        return tuple(column for column in (*self.behavior, *self.performance) if column.dense)

    @property
    def dense_size(self) -> int:
        """Length of the row's ``dense`` list: T values of each dense column, then log1p of every task's history."""
        return len(self.dense_columns) * self.sequence_length + len(self.tasks) * self.history_size

    @property
    def history_size(self) -> int:
        """Length of a task's history list: the weekly sums, most recent first, then the sum of the T days."""
        return self.history_weeks + 1

    def sequence(self, name: SequenceName) -> tuple[SequenceColumn, ...]:
        return self.behavior if name == "behavior" else self.performance

    def scenario_index(self, scenario_id: str) -> int:
        """Index of a scenario's id embedding; 0 for a scenario that training has not seen."""
        return self.scenarios.index(scenario_id) + 1 if scenario_id in self.scenarios else UNSEEN_SCENARIO

    @property
    def feature_fingerprint(self) -> str:
        """Hash over exactly what determines a row: no dates, no paths, no label statistics, no version."""
        content = self.model_dump(mode="json", exclude={"version", "parent"})
        for task in content["tasks"]:
            del task["mean_label"], task["max_label"]
            # What other kinds have does not make a count another count.
            for name in ("exposure", "outcome"):
                if task[name] is None:
                    del task[name]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        content = {"feature_fingerprint": self.feature_fingerprint, "history_days": self.history_days}
        return json.dumps(content | self.model_dump(mode="json"), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, *, source: str) -> Self:
        """Parse and verify a spec.

        Raises:
            UserError: not a spec, of another schema version, or changed by hand since its fingerprint was taken.
        """
        try:
            content = json.loads(text)
            stated = content.pop("feature_fingerprint")
            content.pop("history_days")
            spec = cls.model_validate(content)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else repr(error)
            raise UserError(f"{source} is not a dataset spec of schema version {SCHEMA_VERSION}: {detail}") from None
        if stated != spec.feature_fingerprint:
            raise UserError(
                f"{source} states fingerprint {stated}, its content has {spec.feature_fingerprint}: "
                "it was edited or damaged; rebuild the dataset"
            )
        return spec

    @classmethod
    def read(cls, location: str | Path) -> Self:
        """Read a spec file at a path or URI."""
        return cls.from_json(read_text(location, hint="build the dataset first"), source=str(location))


def history_days(length: int, weeks: int) -> int:
    """Days that a sequence of ``length`` days and ``weeks`` weekly sums need, both ending on the same day."""
    return max(length, 7 * weeks)


def task_columns(spec: DatasetSpec, prefix: Literal["label", "history"]) -> Iterator[str]:
    """Names of the dataset's per-task columns, in the order of ``spec.tasks``."""
    return (f"{prefix}_{task.name}" for task in spec.tasks)


def exposure_columns(spec: DatasetSpec) -> dict[int, str]:
    """Names of the columns with the exposures of rates, by the task's position."""
    return {index: f"exposure_{task.name}" for index, task in enumerate(spec.tasks) if task.kind == "rate"}
