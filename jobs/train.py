"""Train on a published dataset with Ray Train, fit the point-forecast rule on validation, publish the model."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.store import Folder, Manifest, read_manifest
from m2m_model.model import parameter_count
from m2m_model.zoo.registry import build_model
from training.cards import cards
from training.checkpoint import publish_model, run_content
from training.cluster import connected
from training.dataset import label_statistics, open_split
from training.evaluate import fit_forecast_rules
from training.loop import Snapshot
from training.preflight import warn_of_slow_precision
from training.published import parquet_files, read_spec
from training.ray_train import TrainJob, train
from training.report.plots import training_curves
from training.scoring import ModelForecaster, Source
from training.tracking.tracker import open_tracker, track_model


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint of the same run")
    parser.add_argument("--address", default="", help="Ray cluster to join")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    cluster = config.cluster.model_copy(update={"address": arguments.address or config.cluster.address})
    config = config.model_copy(update={"cluster": cluster})
    dataset, out = config.run.path("dataset"), config.run.path("model")
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="run m2m build first")
    spec = read_spec(Folder.at(dataset), manifest)
    tracker = open_tracker(config.tracking, out=config.run.path(), run=config.run.name)
    job = TrainJob(
        dataset=dataset,
        spec=spec,
        model=config.model,
        config=config,
        statistics=label_statistics(open_split(dataset, "train"), spec),
        content=run_content(config.model, config, dataset_generation=manifest.generation),
        storage=config.run.path("ray"),
        name=config.run.name,
    )
    size = parameter_count(build_model(config.model, spec))
    print(f"model {config.model.name}: {size:,} parameters", flush=True)
    warn_of_slow_precision(config.train.precision, setting="train.precision")
    with connected(cluster):
        snapshot = train(job, resume=arguments.resume, rows=_rows(manifest, "train"))
        module = build_model(config.model, spec)
        module.load_state_dict(snapshot.best if snapshot.best is not None else snapshot.model)
        rules = fit_forecast_rules(
            ModelForecaster(module, config.predict.precision),
            Source(location=dataset, spec=spec, batch_size=config.predict.batch_size),
            parquet_files(manifest, split="validation"),
            name=config.model.name,
            config=config.predict,
            cluster=cluster,
        )
        if config.train.refit:
            rows = _rows(manifest, "train") + _rows(manifest, "validation")
            anew = train(job.refit(snapshot), resume=arguments.resume, rows=rows)
            snapshot = replace(snapshot, best=anew.best)
    published = publish_model(
        out,
        snapshot=snapshot,
        spec=spec,
        content=job.content,
        rules=rules,
        grace_seconds=config.predict.grace_seconds,
        cards=cards(spec=spec, dataset=manifest, snapshot=snapshot, content=job.content, rules=rules, parameters=size),
    )
    if tracker is not None:
        track_model(tracker, Folder.at(out), published)
        tracker.files(published.generation, {"pictures/training.svg": _curves(snapshot).encode()})
    epochs, best = len(snapshot.state.history), snapshot.state.best_loss
    print(f"published model {published.generation} in {out}: {epochs} epochs, best validation loss {best:.4f}")
    return 0


def _rows(manifest: Manifest, split: str) -> int:
    return sum(entry.rows for entry in manifest.select(split=split))


def _curves(snapshot: Snapshot) -> str:
    return training_curves([asdict(losses) for losses in snapshot.state.history])


if __name__ == "__main__":
    sys.exit(run_job(main))
