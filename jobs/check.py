"""A config and its data, checked as a build would and no dataset made; how large it will be, and how long it takes."""

import os
import sys
from collections.abc import Sequence

from etl.session import build_session
from etl.trial import Trial, try_build
from jobs.config import RunConfig, argument_parser, run_job
from training.estimate import measure_step

MINUTE, MEGABYTE = 60.0, 1e6


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argument_parser(__doc__).parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    spark = build_session(config.spark, app_name=f"{config.run.name}: check")
    try:
        trial = try_build(spark, config, raw=config.run.path("raw"))
    finally:
        spark.stop()
    parameters, seconds = measure_step(config.model, config.train, trial.spec)
    print(f"{arguments.config}: config and data are sound")
    _print(trial, config, parameters, seconds)
    return 0


def _print(trial: Trial, config: RunConfig, parameters: int, step_seconds: float) -> None:
    spec, cores = trial.spec, os.cpu_count() or 1
    print(f"  scenarios  {', '.join(spec.scenarios)}")
    print(f"  tasks      {', '.join(spec.task_names)}")
    print(
        f"  features   {len(spec.performance)} performance, {len(spec.behavior)} behavior, {len(spec.profile)} "
        f"profile, {len(spec.scenario_attributes)} scenario"
    )
    for split, (first, last, count) in trial.as_of_days.items():
        print(f"  {split:<10} {first} .. {last}, {count} days, about {trial.samples[split]:,} samples")
    if trial.dropped:
        print(f"  dropped    {trial.dropped} rows, as [checks] says")
    rows, batch, epochs = trial.samples["train"], config.train.batch_size, f"{config.train.epochs} epochs"
    if config.train.refit:
        rows, epochs = 2 * rows + trial.samples["validation"], f"{epochs}, and as many at most on validation days too"
    training = rows * config.train.epochs / batch * step_seconds / config.cluster.workers
    print(f"  size       about {trial.bytes / MEGABYTE:,.1f} MB of Parquet; model {parameters:,} parameters")
    print(
        f"  time       build about {trial.build_seconds(cores) / MINUTE:.1f} minutes on {cores} cores; training about "
        f"{training / MINUTE:.1f} ({epochs}; {step_seconds:.2f} s for a step of {batch} here)"
    )


if __name__ == "__main__":
    sys.exit(run_job(main))
