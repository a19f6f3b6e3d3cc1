"""Tracking with MLflow: a local SQLite file works out of the box, a tracking server is a URI.

Only the client is used, so that ``mlflow-skinny`` with SQLAlchemy and Alembic is enough.
"""

import math
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import alembic  # noqa: F401  (what the SQLite store needs beside mlflow-skinny: say so at once)
import sqlalchemy  # noqa: F401
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from training.tracking.config import TrackingConfig

VERSION = "model_version"
NOT_ALLOWED = re.compile(r"[^\w\-./ ]")
"""In names of metrics."""
AT_A_TIME = 100
"""Parameters of a batch, the least that a store must take; of metrics it is ten times that."""


@dataclass(frozen=True)
class MlflowTracker:
    client: MlflowClient
    experiment: str
    """Its id."""

    @classmethod
    def open(cls, config: TrackingConfig, *, out: str, run: str) -> "MlflowTracker":
        folder = Path(out, "mlflow").absolute()
        if not config.uri:
            folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=config.uri or f"sqlite:///{folder}/mlflow.db")
        name = config.experiment or run
        found = client.get_experiment_by_name(name)
        if found is not None:
            return cls(client, found.experiment_id)
        artifacts = None if config.uri else (folder / "artifacts").as_uri()
        return cls(client, client.create_experiment(name, artifact_location=artifacts))

    def training(self, version: str, *, parameters: Mapping[str, str], epochs: Sequence[Mapping[str, float]]) -> None:
        run, now = self._run(version), _now()
        named = [Param(name, value) for name, value in parameters.items()]
        for start in range(0, len(named), AT_A_TIME):
            self.client.log_batch(run, params=named[start : start + AT_A_TIME])
        losses = [
            Metric(f"loss/{name}", value, now, epoch)
            for epoch, values in enumerate(epochs, start=1)
            for name, value in values.items()
            if math.isfinite(value)
        ]
        self._log(run, losses)

    def metrics(self, version: str, values: Mapping[str, float]) -> None:
        now = _now()
        named = {NOT_ALLOWED.sub("_", name): value for name, value in values.items() if math.isfinite(value)}
        self._log(self._run(version), [Metric(name, value, now, 0) for name, value in named.items()])

    def files(self, version: str, files: Mapping[str, bytes]) -> None:
        run = self._run(version)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.client.log_artifacts(run, folder)

    def _run(self, version: str) -> str:
        """The run of a model's version, opened with the first thing that is said of it."""
        found = self.client.search_runs([self.experiment], f"tags.{VERSION} = '{version}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {VERSION: version}
        run = str(self.client.create_run(self.experiment, tags=tags, run_name=version).info.run_id)
        self.client.set_terminated(run)
        return run

    def _log(self, run: str, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), 10 * AT_A_TIME):
            self.client.log_batch(run, metrics=metrics[start : start + 10 * AT_A_TIME])


def _now() -> int:
    """Milliseconds since 1970, as MLflow has them."""
    return int(1000 * time.time())
