"""One night of the monitor, published as a whole."""

import datetime
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.days import published_days
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import (
    MANIFEST,
    FileEntry,
    Folder,
    Manifest,
    below,
    data_path,
    new_generation,
    publish,
    remove_superseded,
)
from training.metrics import HEADLINE
from training.monitor.alerts import find_alerts
from training.monitor.config import MonitorConfig
from training.monitor.inputs import read_drift, read_inputs
from training.monitor.report import REPORT, MonitorReport, Overall, Scored, number
from training.monitor.scores import DayScores, score_day

KIND = "monitoring"
SCHEMAS = {
    "scores": pa.schema(
        [
            *((name, pa.string()) for name in ("model", "segment", "scenario", "task", "forecast")),
            *((name, pa.float64()) for name in ("nmae", "smape")),
            *((name, pa.int64()) for name in ("n", "left_out")),
            ("bias", pa.float64()),
        ]
    ),
    "calibration": pa.schema(
        [
            *((name, pa.string()) for name in ("segment", "scenario", "task")),
            ("level", pa.float64()),
            ("share", pa.float64()),
        ]
    ),
    "coverage": pa.schema(
        [
            *((name, pa.string()) for name in ("model", "segment", "scenario", "task")),
            ("level", pa.float64()),
            ("share", pa.float64()),
            ("n", pa.int64()),
        ]
    ),
    "reliability": pa.schema(
        [
            *((name, pa.string()) for name in ("segment", "scenario", "task")),
            *((name, pa.float64()) for name in ("weight", "forecast", "label")),
        ]
    ),
    "outcomes": pa.schema(
        [
            *((name, pa.string()) for name in ("model", "segment", "scenario", "task")),
            ("auc", pa.float64()),
            ("log_loss", pa.float64()),
            ("positives", pa.int64()),
            ("n", pa.int64()),
        ]
    ),
}
"""The Parquet files of a night, one each, by name; those without a line are left out."""


def monitor_night(
    date: datetime.date,
    *,
    features: str,
    predictions: str,
    labels: str,
    trained_on: str,
    out: str,
    config: MonitorConfig,
    grace_seconds: float,
) -> MonitorReport:
    """Look at night ``date`` and at the day whose labels it completes, and publish at ``<out>/dt=<date>``.

    ``features``, ``predictions`` and ``labels`` are folders of ``dt=`` folders; ``trained_on`` is the location of the
    model's spec, with the training rows' histograms beside it. What is not published is said in the report, as an
    alert, as is what keeps the matured day from being scored; but nobody waits for the scores of days before the first
    that was predicted.

    Raises:
        UserError: there is no such spec, or the night's features are damaged.
    """
    spec = DatasetSpec.read(trained_on)
    as_of = spec.matured_day(date)
    folders = {"features": features, "predictions": predictions, "labels": labels}
    sums, scored = _scored(as_of, {name: below(folder, f"dt={as_of}") for name, folder in folders.items()})
    if scored.missing:
        scored = scored.model_copy(update={"due": _predicted_by(predictions, as_of)})
    drift = read_drift(features, date, trained_on=trained_on)
    inputs = read_inputs(features, date, days_compared=config.days_compared)
    report = MonitorReport(
        date=date,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        scored=scored,
        drift=drift,
        inputs=inputs,
        alerts=find_alerts(scored, drift, inputs, config, needed=as_of + datetime.timedelta(days=spec.horizon)),
    )
    _publish(Folder.at(below(out, f"dt={date}")), report, {} if sums is None else _lines(sums), grace_seconds)
    return report


def _predicted_by(predictions: str, date: datetime.date) -> bool:
    """Whether any day up to ``date`` is predicted."""
    return any(day <= date for day in published_days(predictions))


def _scored(as_of: datetime.date, locations: Mapping[str, str]) -> tuple[DayScores | None, Scored]:
    missing = [name for name, location in locations.items() if not Folder.at(location).exists(MANIFEST)]
    if missing:
        hint = f"; run m2m build --labels {as_of}" if missing == ["labels"] else ""
        return None, Scored(as_of=as_of, missing=f"{as_of} has no published {' and no '.join(missing)}{hint}")
    try:
        sums, published = score_day(**locations)
    except UserError as error:
        return None, Scored(as_of=as_of, missing=str(error))
    if not sums.counts["scored"]:
        return None, Scored(as_of=as_of, missing=f"{locations['labels']} has no row of {locations['predictions']}")
    spec = sums.spec
    tasks = sum(task.kind != "binary" for task in spec.tasks)
    shares = sums.calibration.overall_transform(HEADLINE)
    names = [spec.task_names[index] for index in sums.calibration.amounts]
    return sums, Scored(
        as_of=as_of,
        model_version=published.content["model_version"],
        **sums.counts,
        overall=tuple(
            Overall(forecaster=name, forecast=kind, nmae=number(row.nmae), smape=number(row.smape), rows=row.n // tasks)
            for (name, kind), row in sums.overall().items()
        ),
        bias={task: number(sums.calibration.overall_bias(HEADLINE, i)) for i, task in enumerate(spec.task_names)},
        calibration={}
        if shares is None
        else {
            task: {name: number(float(share)) for name, share in zip(QUANTILES, of_task, strict=True)}
            for task, of_task in zip(names, shares, strict=True)
        },
    )


def _lines(sums: DayScores) -> dict[str, list[dict[str, Any]]]:
    return {
        "scores": sums.score_rows(),
        "calibration": sums.calibration.calibration_rows(),
        "coverage": sums.coverage.rows(model=""),
        "reliability": sums.calibration.reliability_rows(),
        "outcomes": sums.outcomes.rows(model=""),
    }


def _publish(
    folder: Folder, report: MonitorReport, tables: Mapping[str, Sequence[dict[str, Any]]], grace_seconds: float
) -> None:
    generation, text = new_generation(), (report.model_dump_json(indent=1) + "\n").encode()
    entries = [_entry(folder, generation, REPORT, text, role="report")]
    for name, lines in tables.items():
        if lines:
            sink = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(list(lines), schema=SCHEMAS[name]), sink, compression="zstd")
            entries.append(_entry(folder, generation, f"{name}.parquet", sink.getvalue(), role=name))
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=report.created_at,
        files=tuple(entries),
        content={"date": str(report.date), "scored": str(report.scored.as_of), "alerts": len(report.alerts)},
    )
    publish(folder, manifest)
    folder.replace_bytes(REPORT, text)  # a copy for people
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)


def _entry(folder: Folder, generation: str, name: str, content: bytes, *, role: str) -> FileEntry:
    entry = folder.write_bytes(data_path(generation, name), content)
    return entry.model_copy(update={"partition": {"role": role}})
