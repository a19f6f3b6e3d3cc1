"""Score the test split with the published model and every baseline: metrics and forecasts in ``out/evaluation``."""

import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, read_manifest
from training.baselines.registry import fit_baselines, refitted
from training.checkpoint import load_model
from training.cluster import connected
from training.evaluate import evaluate, fit_forecast_rules
from training.forecast import ForecastRules
from training.metrics import HEADLINE, OVERALL, to_csv
from training.published import parquet_files, read_spec
from training.report.plots import error_by_scenario
from training.report.tables import Metrics, parse_metrics
from training.scoring import Forecaster, ModelForecaster, Source
from training.tracking.tracker import open_tracker, track_evaluation


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--address", default="", help="Ray cluster to join")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    cluster = config.cluster.model_copy(update={"address": arguments.address or config.cluster.address})
    dataset, out = config.run.path("dataset"), config.run.path("evaluation")
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="run m2m build first")
    spec = read_spec(Folder.at(dataset), manifest)
    model = load_model(config.run.path("model"))
    if model.spec != spec:
        raise UserError(
            f"model {model.version} was trained on spec {model.spec.feature_fingerprint}, the dataset has "
            f"{spec.feature_fingerprint} or other label statistics: run m2m train again"
        )
    tracker = open_tracker(config.tracking, out=config.run.path(), run=config.run.name)
    source = Source(location=dataset, spec=spec, batch_size=config.predict.batch_size)
    validation = parquet_files(manifest, split="validation")
    forecasters: dict[str, tuple[Forecaster, ForecastRules]]
    with connected(cluster):
        forecasters = {model.name: (ModelForecaster(model.module, config.predict.precision), model.rules)}
        for name, forecaster in fit_baselines(source, manifest, config).items():
            rules = fit_forecast_rules(
                forecaster, source, validation, name=name, config=config.predict, cluster=cluster
            )
            final = refitted(forecaster, source, manifest, config) if config.train.refit else forecaster
            forecasters[name] = (final, rules)
        rows = evaluate(
            forecasters,
            source,
            parquet_files(manifest, split="test"),
            out=out,
            model_version=model.version,
            config=config.predict,
            cluster=cluster,
            leave_out=config.evaluation.leave_out,
        )
    if tracker is not None:
        track_evaluation(tracker, model.version, rows)
        picture = error_by_scenario(Metrics(parse_metrics(to_csv(rows))))
        tracker.files(model.version, {"pictures/error_by_scenario.svg": picture.encode()})
    print(f"published the evaluation in {out}; macro averages over eligible rows:")
    for row in rows:
        if (row.segment, row.scenario, row.task) == (HEADLINE, OVERALL, OVERALL):
            print(f"  {row.model:<24}{row.forecast:<8}NMAE {row.nmae:.3f}  SMAPE {row.smape:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))
