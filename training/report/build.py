"""The report: one self-contained HTML page and the metrics as CSV, from what the other jobs published."""

import base64
import csv
import importlib.resources
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.days import published_days
from m2m_model.contracts.drift import Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import FileEntry, Folder, Manifest, below, read_manifest
from training.baselines.registry import BASELINES
from training.correlations import scenario_correlations
from training.metrics import AIMED
from training.published import read_spec
from training.report.drift import DriftReport, drift_report
from training.report.plots import correlations, error_by_scenario, forecast_against_truth, training_curves
from training.report.shuffle import ShuffleCost
from training.report.studies import study_pages
from training.report.tables import (
    Metrics,
    cell_table,
    coverage_table,
    headline_table,
    history_csv,
    history_table,
    metrics_csv,
    outcome_table,
    parse_metrics,
    replay_table,
)

INDEX, METRICS, HISTORY = "index.html", "metrics.csv", "metrics_by_history.csv"
EVALUATE_HINT = "run m2m evaluate first"


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Published folders, and what only the caller knows."""

    name: str
    command: str
    dataset: str
    model: str
    evaluation: str
    features: str
    """Folder of feature days, ``dt=`` folders; it may not exist yet."""
    predictions: str
    """Folder of predicted days, ``dt=`` folders; it may not exist yet."""
    shuffle: ShuffleCost | None
    exhibits: tuple[Path, ...] = ()
    """Folders of studies' exhibits, or single pages."""


def build_report(inputs: ReportInputs, out: str) -> str:
    """Write the report into ``out``, each file whole or not at all, the page last; returns the page's path.

    Raises:
        UserError: there is no evaluation, model or dataset, or the evaluation is of another model than the live one.
    """
    dataset = read_manifest(Folder.at(inputs.dataset), kind="dataset", build_hint="run m2m build first")
    model = read_manifest(Folder.at(inputs.model), kind="model", build_hint="run m2m train first")
    folder = Folder.at(inputs.evaluation)
    evaluation = read_manifest(folder, kind="evaluation", build_hint=EVALUATE_HINT)
    if evaluation.content["model_version"] != model.generation:
        raise UserError(
            f"{inputs.evaluation} is of model {evaluation.content['model_version']}, the live one is "
            f"{model.generation}: run m2m evaluate again"
        )
    rows = parse_metrics(_file(folder, evaluation, role="metrics").decode())
    metrics = Metrics(rows)
    name = next((m for m in metrics.models if m not in BASELINES), metrics.models[0])
    forecasts = _forecasts(folder, evaluation, name)
    training = json.loads(_file(Folder.at(inputs.model), model, role="training.json"))
    page = _render(
        inputs=inputs,
        facts=_facts(inputs, dataset, model, evaluation, f"{name}, {training['parameters']:,} parameters"),
        headline=headline_table(metrics),
        cells=[cell_table(metrics, m, f) for m, f in _METRIC_ORDER],
        history=history_table(metrics),
        outcomes=outcome_table(_lines(folder, evaluation, role="outcomes")),
        coverage=coverage_table(_lines(folder, evaluation, role="coverage")),
        replay=replay_table(dataset.content.get("replay_difference", [])),
        pictures=_pictures(metrics, forecasts, training),
        left_out=[r for r in rows if r.scenario == r.task == "overall" and r.left_out and r.segment == "eligible"],
        drift=_drift(inputs, dataset),
        day=last_day(inputs.predictions),
        model_name=name,
        leave_out=evaluation.content.get("leave_out", []),
        studies=study_pages(inputs.exhibits),
    )
    target = Folder.at(out)
    for file, text in ((METRICS, metrics_csv(rows)), (HISTORY, history_csv(rows)), (INDEX, page)):
        target.replace_bytes(file, text.encode())
    return below(out, INDEX)


_METRIC_ORDER = (*AIMED.items(), ("nmae", "mean"), ("smape", "mean"))


def last_day(predictions: str) -> dict[str, Any] | None:
    """Key numbers of the most recent published prediction day; None if there is none."""
    date = _last_published(predictions)
    if date is None:
        return None
    folder = Folder.at(below(predictions, f"dt={date}"))
    manifest = read_manifest(folder, kind="predictions", build_hint="run m2m predict first")
    table = _tables(folder, manifest)
    tasks = [name.removesuffix("_point") for name in table.column_names if name.endswith("_point")]
    scenarios = np.array(table["scenario_id"].to_pylist())
    return {
        "date": date,
        "version": manifest.content["model_version"],
        "rows": len(table),
        "advertisers": len(set(table["advertiser_id"].to_pylist())),
        "tasks": tasks,
        "totals": [
            (
                scenario,
                int((scenarios == scenario).sum()),
                [_total(table, f"{t}_mean", scenarios == scenario) for t in tasks],
            )
            for scenario in sorted(set(scenarios.tolist()))
        ],
        "zero": [float((table[f"{t}_point"].to_numpy() == 0).mean()) for t in tasks],
    }


def _last_published(location: str) -> str | None:
    """Date of the most recent published ``dt=`` folder."""
    days = published_days(location)
    return str(days[-1]) if days else None


def _drift(inputs: ReportInputs, dataset: Manifest) -> DriftReport:
    """Drift of the dataset's splits, and of the last feature day if it is of the same features."""
    folder = Folder.at(inputs.dataset)
    spec = read_spec(folder, dataset)
    trained = Histograms.from_json(_file(folder, dataset, role="histograms"), source=folder.uri, spec=spec)
    days = {}
    if date := _last_published(inputs.features):
        day = Folder.at(below(inputs.features, f"dt={date}"))
        manifest = read_manifest(day, kind="features", build_hint="run m2m build --date D first")
        if read_spec(day, manifest).feature_fingerprint == spec.feature_fingerprint:
            content = _file(day, manifest, role="histograms")
            days[date] = Histograms.from_json(content, source=day.uri, spec=spec)
    return drift_report(trained, days)


def _total(table: pa.Table, column: str, chosen: np.ndarray) -> float:
    return float(table[column].to_numpy()[chosen].sum())


def _file(folder: Folder, manifest: Manifest, *, role: str) -> bytes:
    entries = manifest.select(role=role)
    if not entries:
        raise UserError(f"{folder.uri} must hold a file with role {role!r}, however: it has none; {EVALUATE_HINT}")
    return _content(folder, manifest, entries[0])


def _content(folder: Folder, manifest: Manifest, entry: FileEntry) -> bytes:
    return folder.read_file(entry, hint=f"make the {manifest.kind} again")


def _lines(folder: Folder, manifest: Manifest, *, role: str) -> list[dict[str, str]]:
    """Lines of a CSV that an evaluation has only if it has something to say."""
    texts = [_content(folder, manifest, entry).decode() for entry in manifest.select(role=role)]
    return [line for text in texts for line in csv.DictReader(io.StringIO(text))]


def _tables(folder: Folder, manifest: Manifest, **partition: str) -> pa.Table:
    entries = [entry for entry in manifest.select(**partition) if entry.path.endswith(".parquet")]
    if not entries:
        raise UserError(f"{folder.uri} must hold Parquet files of {partition or 'rows'}, however: it has none")
    return pa.concat_tables([pq.read_table(pa.BufferReader(_content(folder, manifest, e))) for e in entries])


def _forecasts(folder: Folder, manifest: Manifest, model: str) -> pa.Table:
    return _tables(folder, manifest, model=model)


def _pictures(metrics: Metrics, rows: pa.Table, training: Mapping[str, Any]) -> dict[str, str]:
    """SVG pictures as data URIs, by name."""
    eligible = rows.filter(rows["eligible"])
    raw, log = scenario_correlations(rows, metrics.tasks, metrics.scenarios)
    pictures = {
        "truth": forecast_against_truth(
            {t: eligible[f"{t}_mean"].to_numpy() for t in metrics.tasks},
            {t: eligible[f"label_{t}"].to_numpy() for t in metrics.tasks},
        ),
        "scenarios": error_by_scenario(metrics),
        "training": training_curves(training["epochs"]),
        "correlations": correlations(raw, log, metrics.tasks, metrics.scenarios),
    }
    return {name: "data:image/svg+xml;base64," + base64.b64encode(s.encode()).decode() for name, s in pictures.items()}


def _facts(
    inputs: ReportInputs, dataset: Manifest, model: Manifest, evaluation: Manifest, what: str
) -> list[tuple[str, str]]:
    """What was run, line by line."""
    facts = [("run", inputs.name), ("command", inputs.command), ("model", f"{what}, generation {model.generation}")]
    rows = dataset.content.get("rows_by_scenario", {})
    for split, (first, last) in dataset.content.get("splits", {}).items():
        facts.append((split, f"as-of {first} to {last}, {sum(rows.get(split, {}).values()):,} rows"))
    if keys := dataset.content.get("key_multiplicity"):
        about = "" if keys["exact"] else "about "
        facts.append(
            (
                "keys",
                f"{about}{keys['distinct_keys']:,} distinct (scenario attributes, profile) in training rows, "
                f"{keys['expected_distinct_in_256']:.0f} expected in a random batch of 256",
            )
        )
    facts.append(("dataset", f"generation {dataset.generation}, built {dataset.created_at}"))
    facts.append(("features", str(evaluation.content["feature_fingerprint"])))
    facts.append(("evaluation", f"generation {evaluation.generation}, made {evaluation.created_at}"))
    return facts


def _render(**values: Any) -> str:
    template = importlib.resources.files("training.report").joinpath("report.html").read_text()
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(**values)
