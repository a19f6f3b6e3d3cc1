"""Scenario attributes, point-in-time: small enough to be collected and handed to every task."""

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from etl.discretize import bucket_ids, word_ids
from etl.expressions import finite_double
from m2m_model.contracts.spec import AttributeFeature


class AttributeTable:
    """Scenario attributes of every (as-of day, scenario) with a snapshot not after the day."""

    def __init__(
        self,
        snapshots: DataFrame,
        features: Sequence[AttributeFeature],
        as_of_days: Sequence[datetime.date],
        *,
        snapshot_days: int | None,
    ) -> None:
        columns = [column for column in snapshots.columns if column not in ("scenario_id", "as_of")]
        holds = F.col("day") <= F.col("as_of")
        if snapshot_days is not None:
            holds &= F.date_add("day", snapshot_days) > F.col("as_of")
        # Days as literals and one partition, which such a small table fits: no join, no shuffle, no Python worker.
        every_day = F.explode(F.array(*(F.lit(day) for day in as_of_days))).alias("as_of")
        latest = (
            snapshots.coalesce(1)
            .select("scenario_id", *columns, every_day)
            .where(holds)
            .groupBy("as_of", "scenario_id")
            .agg(F.max_by(F.struct(*columns), "day").alias("snapshot"))
            .select("as_of", "scenario_id", "snapshot.*")
        )
        values = [
            finite_double(F.expr(f.expr), f"features.scenario.{f.name}: expression {f.expr!r}")
            if f.kind == "bucket"
            else F.expr(f.expr).cast("string")
            for f in features
        ]
        named = (value.alias(f"_{f.name}") for f, value in zip(features, values, strict=True))
        table = latest.select("as_of", "scenario_id", *named).toArrow()
        self._columns = {name: table[f"_{name}"].combine_chunks() for name in (f.name for f in features)}
        keys = zip(table["as_of"].to_pylist(), table["scenario_id"].to_pylist(), strict=True)
        self._row = {key: row for row, key in enumerate(keys)}

    def is_live(self, scenario: str, as_of: datetime.date) -> bool:
        """Whether the scenario has a snapshot that holds on the as-of day."""
        return (as_of, scenario) in self._row

    def rows_of(self, days: Sequence[datetime.date], scenarios: Sequence[str]) -> Mapping[str, pa.Array]:
        """Attribute columns of ``scenarios`` on ``days``, where they are live."""
        wanted = {(day, scenario) for day in days for scenario in scenarios}
        rows = pa.array([row for key, row in self._row.items() if key in wanted], pa.int64())
        return {name: column.take(rows) for name, column in self._columns.items()}

    def ids(
        self, features: Sequence[AttributeFeature], days: Sequence[datetime.date], scenarios: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids [days, scenarios, features] of fitted features, missing where not live; and live [days, scenarios]."""
        ids = np.zeros((len(days), len(scenarios), len(features)), np.int32)
        rows = np.array([[self._row.get((day, scenario), -1) for scenario in scenarios] for day in days], np.int64)
        rows = rows.reshape(len(days), len(scenarios))
        live = rows >= 0
        for position, feature in enumerate(features):
            column = self._columns[feature.name]
            if feature.kind == "bucket":
                encoded = bucket_ids(column.to_numpy(zero_copy_only=False).astype(np.float64), feature.edges)
            else:
                encoded = word_ids(column, feature.values)
            ids[:, :, position] = np.where(live, encoded[rows] if len(encoded) else 0, 0)
        return ids, live
