"""How a night stands after its features: its predictions, and the run itself."""

import datetime
import json
from dataclasses import dataclass
from typing import Literal

from m2m_model.contracts.store import MANIFEST, Folder, below, read_manifest
from training.nightly.lock import is_locked
from training.nightly.summary import ATTEMPT, night_folder, read_summary

State = Literal["missing", "complete", "stale", "alert", "failed", "running"]


@dataclass(frozen=True)
class PartStatus:
    state: State
    reason: str = ""


def predictions_status(features: str, predictions: str, date: datetime.date) -> PartStatus:
    """``stale``: the day's features were built again since; the arguments are the folders of all days."""
    folder = Folder.at(below(predictions, f"dt={date}"))
    if not folder.exists(MANIFEST):
        return PartStatus("missing")
    made = read_manifest(folder, kind="predictions", build_hint="run m2m daily for that day")
    day = Folder.at(below(features, f"dt={date}"))
    if day.exists(MANIFEST):
        live = read_manifest(day, kind="features", build_hint="build the day again").generation
        if made.content["features_generation"] != live:
            return PartStatus("stale", f"of features {made.content['features_generation']}, now {live}")
    return PartStatus("complete", f"model {made.content['model_version']}")


def night_status(daily: str, date: datetime.date) -> PartStatus:
    """``failed``: the last run did not get through, or was cut off and wrote no summary."""
    folder = night_folder(daily, date)
    if folder.exists(ATTEMPT):
        if is_locked(below(daily, f"dt={date}")):
            return PartStatus("running")
        return PartStatus("failed", f"the run of {json.loads(folder.read_bytes(ATTEMPT))['started']} was cut off")
    summary = read_summary(folder)
    if summary is None:
        return PartStatus("missing")
    failed = next((f"{step.name}: {step.detail}" for step in summary.steps if step.status == "failed"), "")
    return PartStatus(summary.status, failed or ", ".join(alert.check for alert in summary.alerts))
