"""Every model and baseline over the test period: metrics, and the forecasts themselves as Parquet."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from m2m_model.contracts.schema import FORECASTS
from m2m_model.contracts.store import (
    FileEntry,
    Folder,
    Manifest,
    data_path,
    new_generation,
    publish,
    remove_superseded,
)
from training.config import ClusterConfig, PredictConfig
from training.forecast import PointRule, fit_point_rule
from training.metrics import MetricRow, MetricSums, to_csv
from training.progress import Display
from training.scoring import (
    Collect,
    Forecaster,
    Scored,
    Source,
    evaluation_schema,
    forecast_columns,
    map_files,
    score_rows,
    write_parquet,
)

KIND = "evaluation"
METRICS = "metrics.csv"


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """File of the test split -> file of forecasts, and the metric sums of each kind of forecast."""

    source: Source
    forecaster: Forecaster
    rule: PointRule
    model: str
    out: str
    generation: str
    leave_out: tuple[str, ...] = ()

    def __call__(self, entry: FileEntry) -> tuple[FileEntry, dict[str, MetricSums]]:
        spec = self.source.spec
        schema = evaluation_schema(spec)
        sums = {forecast: MetricSums(tasks=spec.task_names) for forecast in FORECASTS}
        tables = (self._forecasts(table, schema, sums) for table in self.source.tables(entry))
        name = entry.path.rpartition("/")[2]
        relative = data_path(self.generation, f"model={self.model}", f"dt={entry.partition['dt']}", name)
        partition = {"model": self.model, "dt": entry.partition["dt"]}
        return write_parquet(Folder.at(self.out), relative, schema, tables, partition=partition), sums

    def _forecasts(self, table: pa.Table, schema: pa.Schema, sums: Mapping[str, MetricSums]) -> pa.Table:
        scored = score_rows(table, self.source, self.forecaster)
        left_out = (
            np.isin(np.array(table["advertiser_id"].to_pylist(), str), self.leave_out) if self.leave_out else None
        )
        for forecast, values in (("mean", scored.means), ("point", self.rule.apply(scored.means))):
            sums[forecast].add(
                scored.scenarios, scored.eligible, scored.active_days, values, scored.labels, left_out=left_out
            )
        columns = {name: table[name] for name in schema.names if name in table.column_names}
        columns |= forecast_columns(self.source.spec, scored.means, self.rule)
        return pa.table(columns, schema=schema)


def fit_rule(
    forecaster: Forecaster,
    source: Source,
    entries: Sequence[FileEntry],
    *,
    name: str,
    config: PredictConfig,
    cluster: ClusterConfig,
) -> PointRule:
    """The point-forecast rule of one forecaster, fitted on the validation files ``entries``."""
    with Display(f"{name}: validation", total=sum(entry.rows for entry in entries)) as display:
        parts = map_files(
            Collect(source=source, forecaster=forecaster),
            entries,
            actors=config.actors,
            cluster=cluster,
            display=display,
        )
    scored = Scored.concatenate(parts)
    return fit_point_rule(scored.means, scored.labels, scored.scenarios, scored.eligible, source.spec.task_names)


def evaluate(
    forecasters: Mapping[str, tuple[Forecaster, PointRule]],
    source: Source,
    entries: Sequence[FileEntry],
    *,
    out: str,
    model_version: str,
    config: PredictConfig,
    cluster: ClusterConfig,
    leave_out: tuple[str, ...] = (),
) -> list[MetricRow]:
    """Score the test files with every forecaster and publish metrics and forecasts at ``out``.

    ``metrics.csv`` also lies at the top of ``out``, a copy for people.
    """
    folder, generation = Folder.at(out), new_generation()
    files: list[FileEntry] = []
    rows: list[MetricRow] = []
    for name, (forecaster, rule) in forecasters.items():
        function = Evaluate(
            source=source,
            forecaster=forecaster,
            rule=rule,
            model=name,
            out=out,
            generation=generation,
            leave_out=leave_out,
        )
        with Display(f"{name}: test", total=sum(entry.rows for entry in entries)) as display:
            results = map_files(function, entries, actors=config.actors, cluster=cluster, display=display)
        files += [entry for entry, _ in results]
        for forecast in FORECASTS:
            total = MetricSums(tasks=source.spec.task_names)
            for _, sums in results:
                total = total.merge(sums[forecast])
            rows += total.rows(model=name, forecast=forecast)
    text = to_csv(rows).encode()
    metrics = folder.write_bytes(data_path(generation, METRICS), text)
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(metrics.model_copy(update={"partition": {"role": "metrics"}}), *files),
        content={
            "model_version": model_version,
            "feature_fingerprint": source.spec.feature_fingerprint,
            "leave_out": list(leave_out),
            "point_rules": {name: rule.model_dump(mode="json") for name, (_, rule) in forecasters.items()},
        },
    )
    publish(folder, manifest)
    folder.replace_bytes(METRICS, text)
    remove_superseded(folder, live=generation, grace_seconds=config.grace_seconds)
    return rows
