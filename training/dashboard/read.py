"""What there is to show: nights, their monitoring, the model's training and evaluation. What is missing is said."""

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.days import published_days
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, below, read_manifest
from training.evaluate import METRICS
from training.metrics import HEADLINE, MetricRow
from training.monitor.publish import KIND
from training.monitor.report import MonitorReport
from training.nightly.summary import SUMMARY, Summary, night_folder, read_summary
from training.report.tables import parse_metrics

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders of a run; any of them may not exist yet."""

    features: str
    predictions: str
    daily: str
    monitoring: str
    model: str
    evaluation: str


@dataclass(frozen=True, kw_only=True)
class Night:
    report: MonitorReport
    tables: Mapping[str, list[dict[str, Any]]]
    """Lines of eligible rows, by name (see ``training.monitor.publish.SCHEMAS``)."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """``missing`` has a line per thing that is not there, and how to come by it."""

    predicted: datetime.date | None = None
    summaries: list[Summary] = field(default_factory=list)
    nights: list[Night] = field(default_factory=list)
    training: Mapping[str, Any] | None = None
    model_version: str = ""
    metrics: list[MetricRow] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def read_findings(places: Places, *, days: int) -> Findings:
    """All that is published, of the newest ``days`` nights; what is damaged is said and left out."""
    missing: list[str] = []
    predicted = published_days(places.predictions)
    if not predicted:
        missing.append("No day has been predicted yet: run m2m daily --date D.")
    summaries = [
        found
        for date in published_days(places.daily, SUMMARY)[-days:]
        if (found := _or_say(partial(read_summary, night_folder(places.daily, date)), missing))
    ]
    if not summaries:
        missing.append("No night has left a summary: m2m daily writes one.")
    nights = [
        night
        for date in published_days(places.monitoring)[-days:]
        if (night := _or_say(partial(_night, below(places.monitoring, f"dt={date}")), missing))
    ]
    if not nights:
        missing.append("Nothing is monitored yet: run m2m monitor --date D every night.")
    elif not any(night.tables.get("scores") for night in nights):
        missing.append("No day's labels have matured and been scored: run m2m build --labels D.")
    training, version = _or_say(partial(_training, places.model), missing) or (None, "")
    metrics = _or_say(partial(_metrics, places.evaluation, version), missing) or []
    return Findings(
        predicted=predicted[-1] if predicted else None,
        summaries=summaries,
        nights=nights,
        training=training,
        model_version=version,
        metrics=metrics,
        missing=missing,
    )


def _or_say(read: Callable[[], T], missing: list[str]) -> T | None:
    try:
        return read()
    except UserError as error:
        missing.append(str(error))
        return None


def _night(location: str) -> Night:
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind=KIND, build_hint="run m2m monitor for that day again")
    try:
        contents = {entry.partition["role"]: folder.read_bytes(entry.path) for entry in manifest.files}
        report = MonitorReport.model_validate_json(contents.pop("report"))
        tables = {role: pq.read_table(pa.BufferReader(content)).to_pylist() for role, content in contents.items()}
    except (KeyError, OSError, ValueError) as error:
        raise UserError(f"{location} is damaged ({str(error).splitlines()[0]}): run m2m monitor again") from None
    return Night(
        report=report,
        tables={role: [line for line in lines if line["segment"] == HEADLINE] for role, lines in tables.items()},
    )


def _training(location: str) -> tuple[Mapping[str, Any], str]:
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind="model", build_hint="run m2m train first")
    (entry,) = manifest.select(role="training.json")
    return json.loads(folder.read_bytes(entry.path)), manifest.generation


def _metrics(location: str, version: str) -> list[MetricRow]:
    """Those of the model that is shown.

    Raises:
        UserError: it has not been evaluated, or the evaluation is damaged.
    """
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind="evaluation", build_hint="run m2m evaluate first")
    if (evaluated := manifest.content["model_version"]) != version:
        raise UserError(f"{location} is of model {evaluated}, {version or 'none'} forecasts: run m2m evaluate again")
    (entry,) = manifest.select(role=METRICS.removesuffix(".csv"))
    return parse_metrics(folder.read_bytes(entry.path).decode())
