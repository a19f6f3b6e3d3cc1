"""Every model and baseline over the test period: metrics, and the forecasts themselves as Parquet."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

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
from training.forecast import ForecastRules
from training.metrics import MetricRow, to_csv
from training.outcomes import lines_csv
from training.progress import Display
from training.row_sums import RowSums
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
METRICS, OUTCOMES, COVERAGE = "metrics.csv", "outcomes.csv", "coverage.csv"


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """File of the test split -> file of forecasts, and its sums."""

    source: Source
    forecaster: Forecaster
    rules: ForecastRules
    model: str
    out: str
    generation: str
    leave_out: tuple[str, ...] = ()

    def __call__(self, entry: FileEntry) -> tuple[FileEntry, RowSums]:
        spec = self.source.spec
        schema = evaluation_schema(spec, quantiles=self.forecaster.quantiles)
        sums = RowSums.empty(spec)
        tables = (self._forecasts(table, schema, sums) for table in self.source.tables(entry))
        name = entry.path.rpartition("/")[2]
        relative = data_path(self.generation, f"model={self.model}", f"dt={entry.partition['dt']}", name)
        partition = {"model": self.model, "dt": entry.partition["dt"]}
        return write_parquet(Folder.at(self.out), relative, schema, tables, partition=partition), sums

    def _forecasts(self, table: pa.Table, schema: pa.Schema, sums: RowSums) -> pa.Table:
        scored = score_rows(table, self.source, self.forecaster)
        left_out = (
            np.isin(np.array(table["advertiser_id"].to_pylist(), str), self.leave_out) if self.leave_out else None
        )
        sums.add(scored, self.rules, left_out=left_out)
        columns = {name: table[name] for name in schema.names if name in table.column_names}
        columns |= forecast_columns(self.source.spec, scored.forecasts, self.rules)
        return pa.table(columns, schema=schema)


def fit_forecast_rules(
    forecaster: Forecaster,
    source: Source,
    entries: Sequence[FileEntry],
    *,
    name: str,
    config: PredictConfig,
    cluster: ClusterConfig,
) -> ForecastRules:
    """The forecast rules of one forecaster, fitted on the validation files ``entries``."""
    with Display(f"{name}: validation", total=sum(entry.rows for entry in entries)) as display:
        parts = map_files(
            Collect(source=source, forecaster=forecaster),
            entries,
            actors=config.actors,
            cluster=cluster,
            display=display,
        )
    return Scored.concatenate(parts).fit_rules(source.spec)


def evaluate(
    forecasters: Mapping[str, tuple[Forecaster, ForecastRules]],
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

    ``metrics.csv`` also lies at the top of ``out``, a copy for people, and so do ``outcomes.csv`` (of binary tasks) and
    ``coverage.csv`` (of quantiles), where there are any.
    """
    folder, generation = Folder.at(out), new_generation()
    files: list[FileEntry] = []
    rows: list[MetricRow] = []
    outcomes: list[dict[str, Any]] = []
    coverage: list[dict[str, Any]] = []
    for name, (forecaster, rules) in forecasters.items():
        function = Evaluate(
            source=source,
            forecaster=forecaster,
            rules=rules,
            model=name,
            out=out,
            generation=generation,
            leave_out=leave_out,
        )
        with Display(f"{name}: test", total=sum(entry.rows for entry in entries)) as display:
            results = map_files(function, entries, actors=config.actors, cluster=cluster, display=display)
        files += [entry for entry, _ in results]
        total = RowSums.empty(source.spec)
        for _, sums in results:
            total = total.merge(sums)
        rows += total.error_rows(name)
        outcomes += total.outcomes.rows(model=name)
        coverage += total.coverage.rows(model=name)
    content = {
        "model_version": model_version,
        "feature_fingerprint": source.spec.feature_fingerprint,
        "leave_out": list(leave_out),
        "forecast_rules": {name: rules.model_dump(mode="json") for name, (_, rules) in forecasters.items()},
    }
    texts = {METRICS: to_csv(rows), OUTCOMES: lines_csv(outcomes), COVERAGE: lines_csv(coverage)}
    _publish(folder, generation, files, {name: text for name, text in texts.items() if text}, content)
    remove_superseded(folder, live=generation, grace_seconds=config.grace_seconds)
    return rows


def _publish(
    folder: Folder, generation: str, files: Sequence[FileEntry], texts: Mapping[str, str], content: Mapping[str, Any]
) -> None:
    """Publish forecasts ``files`` with CSV ``texts`` by name, each by its role; copies of the texts lie at the top."""
    entries = list(files)
    for name, text in texts.items():
        entry = folder.write_bytes(data_path(generation, name), text.encode())
        entries.append(entry.model_copy(update={"partition": {"role": name.removesuffix(".csv")}}))
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    publish(
        folder,
        Manifest(kind=KIND, generation=generation, created_at=created, files=tuple(entries), content=dict(content)),
    )
    for name, text in texts.items():
        folder.replace_bytes(name, text.encode())
