"""A day's published predictions against its matured labels, beside the naive forecasts of the same day.

Letters: N rows, M tasks, H history values of a task, A amounts, Q quantiles.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import FORECASTS, KEYS, QUANTILES
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec, exposure_columns, task_columns
from m2m_model.contracts.store import Folder, Manifest, read_manifest
from training.baselines.naive import NaiveForecaster, NaiveRule, last_7_days, mean_28_days, median_5_weeks
from training.metrics import HEADLINE, MetricRow, MetricSums, segment_rows
from training.monitor.calibration import CalibrationSums
from training.outcomes import CoverageSums, OutcomeSums
from training.published import paired_files, parquet_files, read_rows, read_spec
from training.scoring import row_exposures, row_labels

MODEL = "model"
"""Name of what was published, beside the naive forecasts'."""
NAIVE: dict[str, tuple[int, NaiveRule]] = {
    "last_7_days": (1, last_7_days),
    "mean_28_days": (4, mean_28_days),
    "median_5_weeks": (5, median_5_weeks),
}
"""By name: the weeks of history that a rule needs, and the rule."""
RAW = "raw"
"""The one forecast of a naive rule: no rule is fitted on top of it."""


@dataclass(frozen=True, kw_only=True)
class DayScores:
    """Everything that is summed over a day's predictions."""

    spec: DatasetSpec
    errors: dict[tuple[str, str], MetricSums]
    """By (forecaster, forecast), of all tasks but the binary ones."""
    calibration: CalibrationSums
    coverage: CoverageSums
    outcomes: OutcomeSums
    counts: dict[str, int] = field(default_factory=lambda: {"predicted": 0, "scored": 0})

    @classmethod
    def empty(cls, spec: DatasetSpec) -> "DayScores":
        numbers = tuple(task.name for task in spec.tasks if task.kind != "binary")
        names = [(MODEL, forecast) for forecast in FORECASTS] + [(name, RAW) for name in naive_rules(spec)]
        return cls(
            spec=spec,
            errors={name: MetricSums(tasks=numbers) for name in names},
            calibration=CalibrationSums(spec=spec),
            coverage=CoverageSums(
                tasks=tuple(task.name for task in spec.tasks if task.kind in AMOUNTS), quantiles=QUANTILES
            ),
            outcomes=OutcomeSums(tasks=tuple(task.name for task in spec.tasks if task.kind == "binary")),
        )

    def add(self, rows: pa.Table) -> None:
        """Add rows that have eligibility, history, forecasts and labels."""
        spec = self.spec
        labels, exposures = row_labels(rows, spec), row_exposures(rows, spec)
        binary = np.array([task.kind == "binary" for task in spec.tasks])
        amounts = np.array([task.kind in AMOUNTS for task in spec.tasks])
        keys = (
            np.array(rows["scenario_id"].to_pylist(), str),
            rows["eligible"].to_numpy(),
            rows["active_days"].to_numpy(),
        )
        members = list(segment_rows(*keys, None))
        by_kind = {kind: _matrix(rows, (f"{task}_{kind}" for task in spec.task_names)) for kind in FORECASTS}
        forecasts = {(MODEL, kind): values for kind, values in by_kind.items()}
        histories = np.stack([_lists(rows[name], spec.history_size) for name in task_columns(spec, "history")], axis=1)
        for name, rule in naive_rules(spec).items():
            forecasts[name, RAW] = NaiveForecaster(rule=rule, spec=spec).of_history(histories)
        for forecaster, values in forecasts.items():
            self.errors[forecaster].add(*keys, values[:, ~binary], labels[:, ~binary], exposures=exposures[:, ~binary])
        quantiles = _quantiles(rows, spec)
        self.calibration.add(members, by_kind["mean"], labels, exposures, quantiles)
        if quantiles is not None:
            self.coverage.add(members, quantiles, labels[:, amounts])
        if binary.any():
            self.outcomes.add(members, by_kind["mean"][:, binary], labels[:, binary])

    def metric_rows(self) -> list[MetricRow]:
        return [row for (name, kind), sums in self.errors.items() for row in sums.rows(model=name, forecast=kind)]

    def score_rows(self) -> list[dict[str, Any]]:
        """A line per segment, scenario, task and forecast, macro averages included; ``bias`` of mean forecasts."""
        position = {task: index for index, task in enumerate(self.spec.task_names)}
        lines = []
        for row in self.metric_rows():
            known = row.forecast == "mean" and (row.segment, row.scenario) in self.calibration.reliability
            bias = (
                self.calibration.bias((row.segment, row.scenario), position[row.task])
                if known and row.task in position
                else None
            )
            lines.append({**vars(row), "bias": bias})
        return lines

    def overall(self) -> dict[tuple[str, str], MetricRow]:
        """Macro averages over eligible rows, by (forecaster, forecast); a forecast without any has none."""
        rows = self.metric_rows()
        chosen = [row for row in rows if row.segment == HEADLINE and row.scenario == row.task == "overall"]
        return {(row.model, row.forecast): row for row in chosen}


def naive_rules(spec: DatasetSpec) -> dict[str, NaiveRule]:
    """Those that the rows' weeks of history allow."""
    return {name: rule for name, (weeks, rule) in NAIVE.items() if weeks <= spec.history_weeks}


def score_day(*, features: str, predictions: str, labels: str) -> tuple[DayScores, Manifest]:
    """Score the predictions published at ``predictions``; returns the sums, and the predictions' manifest.

    Eligibility and history are those of the published feature day, as they were that night.

    Raises:
        UserError: one of the three is not published, or they are not of one another.
    """
    day, scored, matured = Folder.at(features), Folder.at(predictions), Folder.at(labels)
    made = read_manifest(day, kind="features", build_hint="run m2m build --date D")
    published = read_manifest(scored, kind="predictions", build_hint="run m2m predict --date D")
    truth = read_manifest(matured, kind="labels", build_hint="run m2m build --labels D")
    if published.content["features_generation"] != made.generation:
        raise UserError(
            f"{predictions} is of features {published.content['features_generation']}, the day's are now "
            f"{made.generation}: predict the day again"
        )
    fingerprint = truth.content["feature_fingerprint"]
    if fingerprint != published.content["feature_fingerprint"]:
        raise UserError(
            f"{labels} is of spec {fingerprint}, the predictions are of {published.content['feature_fingerprint']}: "
            "build the labels with the spec of the predicting model"
        )
    spec = read_spec(day, made)
    sums = DayScores.empty(spec)
    wanted = [*KEYS[:2], *task_columns(spec, "label"), *exposure_columns(spec).values()]
    answers = pa.concat_tables([read_rows(matured, entry, wanted) for entry in parquet_files(truth)])
    of_day = [*KEYS[:2], "eligible", "active_days", *task_columns(spec, "history")]
    for entry, forecasts in paired_files(made, published):
        features_of, forecasts_of = read_rows(day, entry, of_day), read_rows(scored, forecasts, None)
        for rows in _joined(features_of, forecasts_of, answers, counts=sums.counts):
            sums.add(rows)
    return sums, published


def _joined(rows: pa.Table, forecasts: pa.Table, answers: pa.Table, *, counts: dict[str, int]) -> Iterator[pa.Table]:
    """Features and forecasts side by side, one row each, with the labels of those that have any."""
    if any(rows[key].combine_chunks() != forecasts[key].combine_chunks() for key in KEYS[:2]):
        raise UserError(
            "predictions must have the rows of their features in order, however: they differ; predict again"
        )
    keys = list(KEYS[:2])
    numbers = pa.array(np.arange(len(answers)))
    found = (
        rows.select(keys)
        .append_column("row", pa.array(np.arange(len(rows))))
        .join(answers.select(keys).append_column("answer", numbers), keys, join_type="inner")
    )
    chosen, answer = found["row"].combine_chunks(), found["answer"].combine_chunks()
    counts["predicted"] += len(rows)
    counts["scored"] += len(chosen)
    if not len(chosen):
        return
    parts = [rows, forecasts.drop_columns(list(KEYS)), answers.drop_columns(keys)]
    taken = [part.take(which) for part, which in zip(parts, (chosen, chosen, answer), strict=True)]
    yield pa.table({name: part[name] for part in taken for name in part.column_names})


def _matrix(rows: pa.Table, names: Iterator[str]) -> np.ndarray:
    return np.stack([rows[name].to_numpy() for name in names], axis=1).astype(float)


def _lists(column: pa.ChunkedArray, length: int) -> np.ndarray:
    values: np.ndarray = column.combine_chunks().flatten().to_numpy().reshape(-1, length)
    return values


def _quantiles(rows: pa.Table, spec: DatasetSpec) -> np.ndarray | None:
    """[N, A, Q]; None where the model has no predictive distribution."""
    amounts = [task.name for task in spec.tasks if task.kind in AMOUNTS]
    names = [[f"{task}_{quantile}" for quantile in QUANTILES] for task in amounts]
    if not names or names[0][0] not in rows.column_names:
        return None
    return np.stack([_matrix(rows, iter(of_task)) for of_task in names], axis=1)
