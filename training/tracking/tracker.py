"""What a tracker is told, and which one ``[tracking]`` chooses. Without one nothing is imported and nothing happens."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, Manifest, is_uri
from training.metrics import HEADLINE, MetricRow
from training.tracking.config import TrackingConfig


class Tracker(Protocol):
    """One run per version of a model: its training opens it, its evaluation adds to it."""

    def training(
        self, version: str, *, parameters: Mapping[str, str], epochs: Sequence[Mapping[str, float]]
    ) -> None: ...

    def metrics(self, version: str, values: Mapping[str, float]) -> None: ...

    def files(self, version: str, files: Mapping[str, bytes]) -> None:
        """Files by path within the run: pictures, the model."""
        ...


def open_tracker(config: TrackingConfig, *, out: str, run: str) -> Tracker | None:
    """The chosen tracker; ``out`` is the run's folder, ``run`` its name.

    Raises:
        UserError: its package is not installed, or an object store would have to hold SQLite's file.
    """
    if config.tracker == "none":
        return None
    if not config.uri and is_uri(out):
        raise UserError(f"{out} cannot hold MLflow's SQLite file: give the tracking server in [tracking] uri")
    try:
        from training.tracking.mlflow import MlflowTracker
    except ImportError as error:
        raise UserError(f"[tracking] needs MLflow ({error.name} is missing): pip install .[mlflow]") from None
    return MlflowTracker.open(config, out=out, run=run)


def track_model(tracker: Tracker, folder: Folder, published: Manifest) -> None:
    """Parameters, losses by epoch, and the files of a published model."""
    version = published.generation
    contents = {entry.partition["role"]: folder.read_bytes(entry.path) for entry in published.files}
    history = json.loads(contents["training.json"])["epochs"]
    epochs = [{name: losses[name] for name in ("train", "validation")} for losses in history]
    tracker.training(version, parameters=flat(json.loads(contents["config.json"])), epochs=epochs)
    tracker.files(version, {f"model/{role}": content for role, content in contents.items()})


def track_evaluation(tracker: Tracker, version: str, rows: Sequence[MetricRow]) -> None:
    """NMAE and SMAPE of every model and baseline, forecast, task and scenario; ``overall`` is the macro average."""
    tracker.metrics(
        version,
        {
            f"{metric}.{row.forecast}/{row.model}/{row.task}/{row.scenario}": getattr(row, metric)
            for row in rows
            if row.segment == HEADLINE
            for metric in ("nmae", "smape")
        },
    )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by their full key.

    Example:
        >>> flat({"train": {"epochs": 3, "betas": [0.9, 0.99]}})
        {'train.epochs': '3', 'train.betas': '[0.9, 0.99]'}
    """
    found: dict[str, str] = {}
    for name, value in content.items():
        key = f"{prefix}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: str(value)}
    return found
