"""The report of a run: a self-contained page and the metrics as CSV, from what the other jobs published."""

import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.store import Folder, read_manifest
from training.checkpoint import load_model
from training.published import parquet_files, read_spec
from training.report.build import ReportInputs, build_report
from training.report.shuffle import shuffle_cost
from training.scoring import ModelForecaster, Source


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argument_parser(__doc__).parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    dataset, model = config.run.path("dataset"), load_model(config.run.path("model"))
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="run m2m build first")
    spec = read_spec(Folder.at(dataset), manifest)
    source = Source(location=dataset, spec=spec, batch_size=config.predict.batch_size)
    test = parquet_files(manifest, split="test")
    inputs = ReportInputs(
        name=config.run.name,
        command=" ".join(["python -m jobs.demo --config", str(arguments.config), *_overrides(arguments.overrides)]),
        dataset=dataset,
        model=config.run.path("model"),
        evaluation=config.run.path("evaluation"),
        features=config.run.path("features"),
        predictions=config.run.path("predictions"),
        shuffle=shuffle_cost(ModelForecaster(model.module, config.predict.precision), model.rules, source, test),
        exhibits=config.run.exhibits,
    )
    print(f"report: {build_report(inputs, config.run.path('report'))}")
    return 0


def _overrides(overrides: Sequence[str]) -> list[str]:
    return [f"--set {override}" for override in overrides]


if __name__ == "__main__":
    sys.exit(run_job(main))
