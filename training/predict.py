"""Predictions of one feature day, published as a whole."""

import datetime

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import (
    Folder,
    Manifest,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)
from training.checkpoint import LoadedModel
from training.config import ClusterConfig, PredictConfig
from training.progress import Display
from training.published import parquet_files, read_spec
from training.scoring import ModelForecaster, Predict, Source, map_files

KIND = "predictions"


def predict_day(
    model: LoadedModel, *, features: str, out: str, config: PredictConfig, cluster: ClusterConfig
) -> Manifest:
    """Score the feature day at ``features`` and publish its predictions at ``out``, replacing exactly that day.

    Until the last step the previous generation stays in force, and after it for ``grace_seconds`` on disk.

    Raises:
        UserError: there are no such features, or they were built with another feature fingerprint than the model's.
    """
    source, target = Folder.at(features), Folder.at(out)
    manifest = read_manifest(
        source,
        kind="features",
        build_hint="build the day with m2m build --date D --spec <dataset>/spec.json",
    )
    spec = read_spec(source, manifest)
    if spec.feature_fingerprint != model.spec.feature_fingerprint:
        raise UserError(
            f"model {model.version} was trained on features {model.spec.feature_fingerprint}, {features} has "
            f"{spec.feature_fingerprint}: build the day with the model's spec, or train on the new dataset"
        )
    generation = new_generation()
    predict = Predict(
        source=Source(location=features, spec=model.spec, batch_size=config.batch_size),
        forecaster=ModelForecaster(model.module, config.precision),
        rules=model.rules,
        version=model.version,
        out=out,
        generation=generation,
    )
    entries = parquet_files(manifest)
    with Display("prediction", total=manifest.rows) as display:
        files = map_files(predict, entries, actors=config.actors, cluster=cluster, display=display)
    written = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=tuple(files),
        content={
            "model_version": model.version,
            "feature_fingerprint": spec.feature_fingerprint,
            "features_generation": manifest.generation,
            "precision": config.precision,
        },
    )
    publish(target, written)
    remove_superseded(target, live=generation, grace_seconds=config.grace_seconds)
    return written
